"""
One bucket: whether it exists, and the frame in which every request to it is made.

Invariants: no error of boto3 leaves that frame. A missing bucket is never taken for a missing object, nor created by a
write, as some servers do on a mistyped name: before the first write of a process, and on a 404 that does not say what
is missing, the bucket itself is asked for, until something has shown that it exists.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from airflow_provider_hfreg.errors import ConflictError, StorageError
from airflow_provider_hfreg.storage.s3.client import Connection
from airflow_provider_hfreg.storage.s3.failures import ANY_FAILURE, code_of, failure_of, root_of, status_of
from airflow_provider_hfreg.storage.s3.refusals import bucket_not_found
from airflow_provider_hfreg.storage.settings import S3Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_EXISTS = ("BucketAlreadyOwnedByYou", "BucketAlreadyExists")  # simple servers know only the second


class Bucket:
    """
    A bucket on one server.

    :param name: its name.
    :param connection: to the server.
    """

    def __init__(self, name: str, connection: Connection) -> None:
        self.name = name
        self.connection = connection

    @property
    def client(self) -> S3Client:
        """This process's client."""
        return self.connection.client

    @contextlib.contextmanager
    def request(self, action: str, url: str, precondition: type[ConflictError] | None = None) -> Iterator[None]:
        """
        Frame requests: what boto3 raises inside, our errors leave.

        :param action: a gerund: "reading".
        :param url: of the object, for the message.
        :param precondition: what a failed If-Match or If-None-Match means.
        """
        try:
            yield
        except ANY_FAILURE as failure:
            if status_of(root_of(failure)) == 404 and self._was_missing():
                raise bucket_not_found(url) from failure
            raise failure_of(failure, action, url, precondition, self.connection.endpoint) from failure
        self.connection.buckets_seen.add(self.name)

    @contextlib.contextmanager
    def write(self, url: str, precondition: type[ConflictError] | None = None) -> Iterator[None]:
        """Frame requests that write: never into a bucket that is not there."""
        with self.request("writing", url, precondition):
            if self._is_missing():
                raise bucket_not_found(url)
            yield

    def create(self) -> None:
        """Create it; one of ours that exists is no error."""
        try:
            with self.request("creating", f"s3://{self.name}"):
                self.client.create_bucket(Bucket=self.name)
        except StorageError as error:
            if code_of(error.__cause__) not in _EXISTS:
                raise

    def delete(self) -> None:
        """Delete it; it must be empty."""
        with self.request("deleting", f"s3://{self.name}"):
            self.client.delete_bucket(Bucket=self.name)
        self.connection.buckets_seen.discard(self.name)

    def _is_missing(self) -> bool:
        if self.name in self.connection.buckets_seen:
            return False
        try:
            self.client.head_bucket(Bucket=self.name)
        except ANY_FAILURE as failure:
            if not status_of(failure):
                raise
            return status_of(failure) == 404  # 403: who may write need not be allowed to ask; the write will tell
        self.connection.buckets_seen.add(self.name)
        return False

    def _was_missing(self) -> bool:
        """Tell it after a 404; a server that cannot be asked any more leaves that first refusal to be told."""
        with contextlib.suppress(*ANY_FAILURE):
            return self._is_missing()
        return False


def create_bucket(name: str, settings: S3Settings) -> None:
    """
    Create a bucket, such as one for tests or a demo; one of ours that exists is no error.

    :raises StorageError: the server refused, or does not answer (yet).
    """
    Bucket(name, Connection(settings)).create()
