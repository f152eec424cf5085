"""
Where the registry is, as told on a command line without Airflow: a URL, and what boto3 finds by itself.

Keys are never an argument: an argument stands in the shell's history and in every list of processes.
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from airflow_provider_hfreg.commands.replies import Place
from airflow_provider_hfreg.errors import SettingsError
from airflow_provider_hfreg.storage.settings import S3Settings

REGISTRY_VARIABLE = "HFREG_REGISTRY"


def find_place(options: Namespace) -> Place:
    """
    Return the place that ``--registry`` or the environment names.

    :raises SettingsError: neither does.
    """
    url = options.registry or os.environ.get(REGISTRY_VARIABLE)
    if not url:
        raise SettingsError(
            f"Which registry? Give --registry s3://bucket/prefix or file:///folder, or set {REGISTRY_VARIABLE}."
        )
    return place_of(url, os.environ)


def find_target(options: Namespace, source: Place) -> Place | None:
    """
    Return the place that ``--to`` names, or None: reached as the source is, unless the options say otherwise.

    :raises SettingsError: they say how to reach it, and not where it is.
    """
    is_told = bool(options.to_profile or options.to_endpoint_url)
    if not options.to:
        if is_told:
            raise SettingsError(
                "Which registry? Give --to s3://bucket/prefix beside --to-profile and --to-endpoint-url."
            )
        return None
    there = replace(source, url=url_of(options.to), read_only=False)  # that guards the source
    if not is_told:
        return there
    s3 = source.s3 or s3_settings_of(os.environ)
    if options.to_profile:
        s3 = replace(s3, access_key_id=None, secret_access_key=None, session_token=None, session=None)
        s3 = replace(s3, profile_name=options.to_profile)
    if options.to_endpoint_url:
        s3 = replace(s3, endpoint_url=options.to_endpoint_url)
    return replace(there, s3=s3)


def place_of(url: str, environment: Mapping[str, str]) -> Place:
    """
    Return a place by its URL, or by the path of a folder.

    >>> place_of("s3://models/hfreg", {"AWS_ENDPOINT_URL_S3": "http://minio:9000"}).s3
    S3Settings(endpoint_url='http://minio:9000')
    """
    return Place(url_of(url), s3_settings_of(environment))


def s3_settings_of(environment: Mapping[str, str]) -> S3Settings:
    """Return how to reach S3 as boto3 would by itself."""
    return S3Settings(
        endpoint_url=environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or None,
        sse=environment.get("HFREG_SSE") or None,
        sse_kms_key_id=environment.get("HFREG_SSE_KMS_KEY_ID") or None,
    )


def url_of(place: str) -> str:
    """
    Return a URL as it is, and a path as the URL of that folder: a person at a prompt means his current folder.

    >>> url_of("s3://models"), url_of("/srv/100%")
    ('s3://models', 'file:///srv/100%25')
    """
    if "://" in place:
        return place
    return f"file://{str(Path(place).expanduser().absolute()).replace('%', '%25')}"
