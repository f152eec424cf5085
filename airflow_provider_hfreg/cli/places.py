"""Where the registry is, as told to Airflow: by a connection, or by a URL as everywhere."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace

from airflow_provider_hfreg.commands import places
from airflow_provider_hfreg.commands.replies import Place
from airflow_provider_hfreg.errors import SettingsError
from airflow_provider_hfreg.hooks.hfreg import HFREG_CONN_ID, HFRegistryHook


def find_place(options: Namespace) -> Place:
    """
    Return the place that the options name, else that of the default connection.

    :raises SettingsError: there is no such connection, or it has no URL.
    """
    if options.registry and not options.conn_id:
        return places.find_place(options)
    place = HFRegistryHook(options.conn_id or HFREG_CONN_ID).place
    return replace(place, url=places.url_of(options.registry)) if options.registry else place


def find_target(options: Namespace, source: Place) -> Place | None:
    """
    Return the place of ``--to-conn-id``, at the URL of ``--to`` where that is given too; without it as everywhere.

    :raises SettingsError: there is no such connection, it has no URL, or a profile is given beside it.
    """
    if not options.to_conn_id:
        return places.find_target(options, source)
    if options.to_profile or options.to_endpoint_url:
        raise SettingsError("Give --to-conn-id, or --to-profile and --to-endpoint-url: a connection has its own keys.")
    place = HFRegistryHook(options.to_conn_id).place
    return replace(place, url=places.url_of(options.to)) if options.to else place
