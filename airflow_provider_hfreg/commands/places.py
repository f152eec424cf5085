"""
Where the registry is, as told on a command line without Airflow: a URL, and what boto3 finds by itself.

Keys are never an argument: an argument stands in the shell's history and in every list of processes.
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Mapping
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


def place_of(url: str, environment: Mapping[str, str]) -> Place:
    """
    Return a place by its URL, or by the path of a folder.

    >>> place_of("s3://models/hfreg", {"AWS_ENDPOINT_URL_S3": "http://minio:9000"}).s3
    S3Settings(endpoint_url='http://minio:9000')

    :param environment: an endpoint is taken from it as boto3 would, but told to our client: only so does it know that
        the server is not Amazon's and may lack its checksums.
    """
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or None
    settings = S3Settings(
        endpoint_url=endpoint,
        sse=environment.get("HFREG_SSE") or None,
        sse_kms_key_id=environment.get("HFREG_SSE_KMS_KEY_ID") or None,
    )
    return Place(url_of(url), settings)


def url_of(place: str) -> str:
    """
    Return a URL as it is, and a path as the URL of that folder: a person at a prompt means his current folder.

    >>> url_of("s3://models"), url_of("/srv/100%")
    ('s3://models', 'file:///srv/100%25')
    """
    if "://" in place:
        return place
    return f"file://{str(Path(place).expanduser().absolute()).replace('%', '%25')}"
