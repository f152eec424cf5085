"""
One boto3 client per process, made when it is first needed.

Airflow forks: a connection shared with the parent would mix the answers of two requests, so a child makes its own
client. Threads of one process share it, which boto3 allows; making one is not thread-safe, and no fork may find it
half made, so both wait for one lock.

Integrity on the wire: AWS gets boto3's own checksums. Other servers, of which many refuse those, get the SHA-256 of
the body inside the signature, which boto3 adds where no checksum is; uploads of files ask for more, see
:mod:`.checksums`. ``boto3[crt]`` is never used: it cannot reach an
endpoint that has a port.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

from airflow_provider_hfreg.errors import StorageUrlError
from airflow_provider_hfreg.storage.settings import S3Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_MIB = 1 << 20
TRANSFER = TransferConfig(
    multipart_threshold=16 * _MIB,
    multipart_chunksize=16 * _MIB,
    max_concurrency=8,
    preferred_transfer_client="classic",
)

_MAKING = threading.Lock()
os.register_at_fork(before=_MAKING.acquire, after_in_parent=_MAKING.release, after_in_child=_MAKING.release)


class Connection:
    """The client of each process, and what was learned of the server; shared by its stores."""

    def __init__(self, settings: S3Settings) -> None:
        self.settings = settings
        self.buckets_seen: set[str] = set()
        self.has_checksums = True  # until it refuses one
        self._clients: dict[int, S3Client] = {}

    @property
    def client(self) -> S3Client:
        """This process's client."""
        client = self._clients.get(os.getpid())
        if client is None:
            with _MAKING:
                client = self._clients.setdefault(os.getpid(), _make_client(self.settings))
        return client

    @property
    def endpoint(self) -> str:
        """Where the requests go, for messages."""
        client = self._clients.get(os.getpid())
        return self.settings.endpoint_url or ("AWS" if client is None else client.meta.endpoint_url)


def _make_client(settings: S3Settings) -> S3Client:
    session = settings.session or boto3.Session(
        aws_access_key_id=settings.access_key_id,
        aws_secret_access_key=settings.secret_access_key,
        aws_session_token=settings.session_token,
        profile_name=settings.profile_name,
    )
    region = settings.region_name or session.region_name or "us-east-1"

    def client_of(*, is_amazons: bool) -> S3Client:
        config = _config(settings, is_amazons=is_amazons)
        made: S3Client = session.client("s3", endpoint_url=settings.endpoint_url, region_name=region, config=config)
        return made

    try:
        client = client_of(is_amazons=settings.endpoint_url is None)
        # The environment or a profile may name another server, and only the client that was made tells.
        if settings.endpoint_url is None and not _is_amazons(client.meta.endpoint_url):
            client = client_of(is_amazons=False)
    except ValueError as error:  # boto3's own for an endpoint that is no URL
        raise StorageUrlError(f"{error}; endpoint_url must look like http://host:port or https://host.") from error
    return client


def _is_amazons(endpoint_url: str) -> bool:
    """
    Tell whether a server is one of Amazon's.

    >>> _is_amazons("https://s3.eu-west-1.amazonaws.com"), _is_amazons("https://s3.cn-north-1.amazonaws.com.cn")
    (True, True)
    >>> _is_amazons("http://127.0.0.1:8333"), _is_amazons("https://s3.amazonaws.com.example.org")
    (False, False)
    """
    host = urlsplit(endpoint_url).hostname or ""
    return f".{host}".endswith((".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu", ".api.aws"))


def _config(settings: S3Settings, *, is_amazons: bool) -> Config:
    checksums: dict[str, Any] = {}
    if not is_amazons:
        checksums = {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"}
    return Config(
        connect_timeout=settings.connect_timeout_s,
        read_timeout=settings.read_timeout_s,
        retries={"mode": "standard", "total_max_attempts": settings.max_attempts},
        max_pool_connections=32,
        **checksums,
    )
