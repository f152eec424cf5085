"""
The operations of a store on a prefix of a bucket, each one request or a few.

Not here: retries of what needs judgement. A lost answer to a conditional write looks like a lost race, because boto3
repeats the request and meets its own success; the caller reads back and decides. An ETag is never read as an MD5.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from airflow_provider_hfreg.errors import (
    CompareAndSwapLostError,
    KeyExistsError,
    KeyNotFoundError,
    StorageUrlError,
)
from airflow_provider_hfreg.storage.base import ObjectInfo, ObjectState, ObjectStore, OnBytes, check_key
from airflow_provider_hfreg.storage.digests import PassingDigest
from airflow_provider_hfreg.storage.readers import RangedReader
from airflow_provider_hfreg.storage.s3.bucket import Bucket
from airflow_provider_hfreg.storage.s3.checksums import as_server_can, check_answer, checksum_of
from airflow_provider_hfreg.storage.s3.client import TRANSFER, Connection
from airflow_provider_hfreg.storage.s3.download import download_parts
from airflow_provider_hfreg.storage.s3.failures import repeat_while_busy
from airflow_provider_hfreg.storage.s3.multipart import PART_BYTES, Target, put_parts
from airflow_provider_hfreg.storage.s3.parts import ObjectParts
from airflow_provider_hfreg.storage.s3.refusals import Refusal, error_of
from airflow_provider_hfreg.storage.settings import S3Settings
from airflow_provider_hfreg.storage.urls import parse_url

_SINGLE_PUT_LIMIT_BYTES = 5 << 30  # S3's own limit for one PUT


class S3Store(ObjectStore):
    """
    A prefix of a bucket.

    :param url: ``s3://bucket`` or ``s3://bucket/prefix``.
    :param settings: how to reach the server; default: boto3's chain, AWS.
    :raises StorageUrlError: no such URL.
    """

    def __init__(self, url: str, settings: S3Settings | None = None) -> None:
        parsed = parse_url(url)
        if parsed.scheme != "s3":
            raise StorageUrlError(f"{url!r} is no s3:// URL.")
        self.url = str(parsed)
        self._prefix = f"{parsed.path}/" if parsed.path else ""
        self._settings = settings or S3Settings()
        self._bucket = Bucket(parsed.bucket, Connection(self._settings))

    def __repr__(self) -> str:
        return f"S3Store({self.url!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return S3Store, (self.url, self._settings)

    # --- reading

    def get(self, key: str, *, start: int = 0, length: int | None = None, etag: str | None = None) -> bytes:
        """One GET; with a range unless the whole is asked for."""
        if length == 0:  # HTTP has no empty range, and an absent object must be told
            return self._parts(key).fetch(start, 1, etag=etag).content[:0]
        return self._parts(key).fetch(start, length, etag=etag).content

    def get_with_etag(self, key: str) -> tuple[bytes, str]:
        """One GET."""
        whole = self._parts(key).fetch()
        return whole.content, whole.etag

    def find_info(self, key: str) -> ObjectInfo | None:
        """One HEAD; the first one in a process that finds nothing asks for the bucket too."""
        try:
            with self._bucket.request("looking for", self.location(key)):
                head = self._bucket.client.head_object(Bucket=self._bucket.name, Key=self._name(key))
        except KeyNotFoundError:
            return None
        return ObjectInfo(key, head["ContentLength"], head["ETag"], head["LastModified"])

    def list_infos(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """One LIST per thousand keys, all before the first is yielded."""
        found: list[ObjectInfo] = []
        with self._bucket.request("listing", self.location(prefix)):
            for page in self._pages(prefix):
                found += [
                    ObjectInfo(entry["Key"][len(self._prefix) :], entry["Size"], entry["ETag"], entry["LastModified"])
                    for entry in page.get("Contents", [])
                    if not entry["Key"].endswith("/")  # consoles make such empty objects to show a folder
                ]
        # SeaweedFS lists folder by folder: a/b before a-b. AWS needs no sorting, and sorting the sorted is cheap.
        yield from sorted(found, key=lambda info: info.key.encode())

    def list_names(self, folder: str = "") -> Iterator[str]:
        """One LIST with a delimiter per thousand names, all before the first is yielded."""
        start = len(self._prefix) + len(folder)
        names: list[str] = []
        with self._bucket.request("listing", self.location(folder)):
            for page in self._pages(folder, Delimiter="/"):
                names += [entry["Key"][start:] for entry in page.get("Contents", [])]
                names += [entry["Prefix"][start:] for entry in page.get("CommonPrefixes", [])]
        yield from sorted(filter(None, names), key=str.encode)

    def open_reader(self, key: str, *, state: ObjectState | None = None) -> BinaryIO:
        """One HEAD unless the state is given, then ranged GETs, each only if the object is still the same."""
        seen, parts = state or self._existing(key), self._parts(key)

        def read_range(start: int, length: int) -> bytes:
            return parts.fetch(start, length, etag=seen.etag).content

        return io.BufferedReader(RangedReader(read_range, seen.size_bytes))

    def download(
        self,
        key: str,
        path: Path,
        *,
        on_bytes: OnBytes | None = None,
        digest: str | None = None,
        size_bytes: int | None = None,
    ) -> None:
        """One ranged GET for each 8 MiB, several at a time, each only if the object is still the same."""
        download_parts(self._parts(key), path, on_bytes=on_bytes, digest=digest, size_bytes=size_bytes)

    # --- writing

    def put(self, key: str, content: bytes) -> None:
        """One PUT."""
        with self._bucket.write(self.location(key)):
            self._put_object(key, content)

    def put_if_absent(self, key: str, content: bytes | Path) -> str:
        """One PUT with If-None-Match; above 5 GiB a multipart upload with the condition on its completion."""
        with self._bucket.write(self.location(key), precondition=KeyExistsError):
            if isinstance(content, bytes):
                return self._put_object(key, content, IfNoneMatch="*")
            if content.stat().st_size <= _SINGLE_PUT_LIMIT_BYTES:
                return self._put_file_if_absent(key, content)
            target = self._target(key, condition={"IfNoneMatch": "*"})
            return repeat_while_busy(lambda: put_parts(target, content))

    def replace_if_match(self, key: str, content: bytes, etag: str) -> str:
        """One PUT with If-Match."""
        try:
            with self._bucket.write(self.location(key), precondition=CompareAndSwapLostError):
                return self._put_object(key, content, IfMatch=etag)
        except KeyNotFoundError as error:  # some servers answer 404, others 412, when the object is gone
            raise CompareAndSwapLostError(f"{self.location(key)} was deleted by another writer.") from error

    def upload(self, key: str, path: Path, *, on_bytes: OnBytes | None = None, digest: str | None = None) -> None:
        """One PUT, or above 16 MiB a multipart upload, several parts at a time; aborted if it fails."""
        with self._bucket.write(self.location(key)):
            if path.stat().st_size > PART_BYTES:
                as_server_can(
                    self._bucket.connection,
                    lambda checksums: put_parts(
                        self._target(key, has_checksums=checksums), path, on_bytes=on_bytes, digest=digest
                    ),
                )
                return
            content = path.read_bytes()
            passing = PassingDigest(digest)
            passing.update(content)
            passing.check(str(path))
            as_server_can(self._bucket.connection, lambda checksums: self._put_checked(key, content, checksums))
            if on_bytes is not None:
                on_bytes(len(content))

    def copy(self, source_key: str, target_key: str) -> None:
        """Inside the server; multipart for a large object. S3 refuses a copy onto itself, so that is a HEAD."""
        if source_key == target_key:
            self._existing(source_key)
            return
        self._copy(self, source_key, target_key)

    def can_copy_from(self, source: ObjectStore) -> bool:
        """Where one and the same account reaches both prefixes."""
        other = source.unwrapped
        return isinstance(other, S3Store) and self._reaches(other)

    def _reaches(self, other: S3Store) -> bool:
        return self._settings.reach_as(other._settings)

    def copy_from(self, source: ObjectStore, source_key: str, target_key: str) -> bool:
        """Inside the server; done where one and the same account reaches both prefixes, of one bucket or of two."""
        other = source.unwrapped
        if not isinstance(other, S3Store) or not self.can_copy_from(other):
            return False
        self._copy(other, source_key, target_key)
        return True

    def _copy(self, source: S3Store, source_key: str, target_key: str) -> None:
        with self._bucket.write(source.location(source_key)):
            self._bucket.client.copy(
                {"Bucket": source._bucket.name, "Key": source._name(source_key)},
                self._bucket.name,
                self._name(target_key),
                ExtraArgs=self._settings.encryption(),
                Config=TRANSFER,
            )

    def delete(self, keys: Iterable[str]) -> None:
        """One request per thousand keys."""
        names = [self._name(key) for key in keys]
        for first in range(0, len(names), 1000):
            objects: Any = [{"Key": name} for name in names[first : first + 1000]]
            with self._bucket.request("deleting below", self.location("")):
                answer = self._bucket.client.delete_objects(
                    Bucket=self._bucket.name, Delete={"Objects": objects, "Quiet": True}
                )
            for failed in answer.get("Errors", []):
                raise error_of(_refused_delete(failed, f"s3://{self._bucket.name}/{failed.get('Key', '')}"))

    # --- places

    @property
    def request_s(self) -> float:
        """As the settings say."""
        return self._settings.request_s

    def below(self, folder: str) -> S3Store:
        """Shares this store's connections."""
        inner = S3Store(self.location(check_key(folder.rstrip("/"))), self._settings)
        inner._bucket = self._bucket
        return inner

    # --- requests

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _existing(self, key: str) -> ObjectInfo:
        info = self.find_info(key)
        if info is None:
            raise KeyNotFoundError(f"There is no object {self.location(key)}. Check the name.")
        return info

    def _pages(self, prefix: str, **extra: Any) -> Iterable[Any]:
        paginator = self._bucket.client.get_paginator("list_objects_v2")
        pages: Iterable[Any] = paginator.paginate(Bucket=self._bucket.name, Prefix=self._prefix + prefix, **extra)
        return pages

    def _put_object(self, key: str, body: Any, **condition: str) -> str:
        target: Any = {"Bucket": self._bucket.name, "Key": self._name(key)}
        extra: Any = {**condition, **self._settings.encryption()}

        def send() -> str:
            if not isinstance(body, bytes):
                body.seek(0)  # an earlier attempt has read it
            return self._bucket.client.put_object(**target, Body=body, **extra)["ETag"]

        return repeat_while_busy(send)

    def _put_file_if_absent(self, key: str, path: Path) -> str:
        with path.open("rb") as stream:
            return self._put_object(key, stream, IfNoneMatch="*")

    def _put_checked(self, key: str, content: bytes, has_checksums: bool) -> None:  # noqa: FBT001
        checksum = checksum_of(content) if has_checksums else None
        extra: Any = {"ChecksumSHA256": checksum} if checksum else {}
        target: Any = {"Bucket": self._bucket.name, "Key": self._name(key), **self._settings.encryption()}
        answer = self._bucket.client.put_object(**target, Body=content, **extra)
        check_answer(answer, checksum, self.location(key))

    def _target(self, key: str, **changes: Any) -> Target:
        return Target(
            self._bucket.client, self._bucket.name, self._name(key), options=self._settings.encryption(), **changes
        )

    def _parts(self, key: str) -> ObjectParts:
        return ObjectParts(self._bucket, self._name(key), self.location(key))


def delete_bucket(name: str, settings: S3Settings) -> None:
    """Delete a bucket, such as one of a test, and everything in it."""
    store = S3Store(f"s3://{name}", settings)
    store.delete([info.key for info in store.list_infos()])
    Bucket(name, Connection(settings)).delete()


def _refused_delete(failed: Any, url: str) -> Refusal:
    """Return one object's refusal, which stands in the body of an answer of 200."""
    code = failed.get("Code", "")
    return Refusal(code, 403 if code == "AccessDenied" else 500, failed.get("Message", ""), "deleting", url)
