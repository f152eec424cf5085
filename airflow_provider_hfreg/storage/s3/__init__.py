"""
Objects on S3 and on servers that speak its protocol. The only folder that names boto3.

.. code-block:: text

    store.py       S3Store: the operations of a store, each a request or a few
    bucket.py      one bucket: does it exist; the frame in which requests are made
    client.py      one boto3 client per process
    failures.py    from boto3's exceptions to our errors, by way of
    refusals.py    what a server's code and status mean, as a decision without I/O
    parts.py       one range of an object by one GET
    download.py    ranges side by side into a file
    multipart.py   a file in parts
    in_order.py    threads whose results are wanted in order
    checksums.py   SHA-256 that the server computes too

Settings stand outside, in :mod:`airflow_provider_hfreg.storage.settings`, so that holding them loads no boto3.
"""

from __future__ import annotations

from airflow_provider_hfreg.storage.s3.bucket import create_bucket
from airflow_provider_hfreg.storage.s3.store import S3Store, delete_bucket
from airflow_provider_hfreg.storage.settings import S3Settings

__all__ = ["S3Settings", "S3Store", "create_bucket", "delete_bucket"]
