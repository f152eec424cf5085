"""Where the registry is, as told to Airflow: by a connection, or by a URL as everywhere."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace

from airflow_provider_hfreg.commands import places
from airflow_provider_hfreg.commands.replies import Place
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
