"""
The operations of a store on a prefix of a bucket, each one request or a few.

Not here: retries of what needs judgement. A lost answer to a conditional write looks like a lost race, because boto3
repeats the request and meets its own success; the caller reads back and decides. An ETag is never read as an MD5.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from airflow_provider_hfreg.errors import (
    CompareAndSwapLostError,
    KeyExistsError,
    KeyNotFoundError,
    ObjectChangedError,
    StorageError,
    StorageUrlError,
)
from airflow_provider_hfreg.storage.base import ObjectInfo, ObjectState, ObjectStore, OnBytes, check_key
from airflow_provider_hfreg.storage.readers import RangedReader
from airflow_provider_hfreg.storage.s3.bucket import Bucket
from airflow_provider_hfreg.storage.s3.client import TRANSFER, Connection
from airflow_provider_hfreg.storage.s3.failures import (
    ANY_FAILURE,
    BROKEN_BODY,
    check_length,
    repeat_while_busy,
    status_of,
)
from airflow_provider_hfreg.storage.s3.multipart import put_parts_if_absent
from airflow_provider_hfreg.storage.s3.refusals import Refusal, error_of
from airflow_provider_hfreg.storage.settings import S3Settings
from airflow_provider_hfreg.storage.urls import parse_url

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

_BODY_ATTEMPTS = 3  # a request that finds no server is repeated by boto3, a body that breaks off is not
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
            return self._fetch(key, start, 1, etag=etag)[0][:0]
        return self._fetch(key, start, length, etag=etag)[0]

    def get_with_etag(self, key: str) -> tuple[bytes, str]:
        """One GET."""
        return self._fetch(key, 0, None)

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
        seen = state or self._existing(key)

        def read_range(start: int, length: int) -> bytes:
            return self._fetch(key, start, length, etag=seen.etag)[0]

        return io.BufferedReader(RangedReader(read_range, seen.size_bytes))

    def download(self, key: str, path: Path, *, on_bytes: OnBytes | None = None) -> None:
        """Ranged GETs, several at a time for a large object; nothing is at ``path`` before the last has come."""
        with self._bucket.request("downloading", self.location(key)):
            self._bucket.client.download_file(
                self._bucket.name, self._name(key), str(path), Callback=_one_at_a_time(on_bytes), Config=TRANSFER
            )

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
            target = {"Bucket": self._bucket.name, "Key": self._name(key)}
            encryption = self._settings.encryption()
            return repeat_while_busy(lambda: put_parts_if_absent(self._bucket.client, target, content, encryption))

    def replace_if_match(self, key: str, content: bytes, etag: str) -> str:
        """One PUT with If-Match."""
        try:
            with self._bucket.write(self.location(key), precondition=CompareAndSwapLostError):
                return self._put_object(key, content, IfMatch=etag)
        except KeyNotFoundError as error:  # some servers answer 404, others 412, when the object is gone
            raise CompareAndSwapLostError(f"{self.location(key)} was deleted by another writer.") from error

    def upload(self, key: str, path: Path, *, on_bytes: OnBytes | None = None) -> None:
        """One PUT, or from 16 MiB a multipart upload, several parts at a time; aborted if it fails."""
        with self._bucket.write(self.location(key)):
            self._bucket.client.upload_file(
                str(path),
                self._bucket.name,
                self._name(key),
                ExtraArgs=self._settings.encryption(),
                Callback=_one_at_a_time(on_bytes),
                Config=TRANSFER,
            )

    def copy(self, source_key: str, target_key: str) -> None:
        """Inside the server; multipart for a large object. S3 refuses a copy onto itself, so that is a HEAD."""
        if source_key == target_key:
            self._existing(source_key)
            return
        with self._bucket.request("copying", self.location(source_key)):
            self._bucket.client.copy(
                {"Bucket": self._bucket.name, "Key": self._name(source_key)},
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

    def _fetch(self, key: str, start: int, length: int | None, *, etag: str | None = None) -> tuple[bytes, str]:
        """Return bytes of an object and its etag; a body that breaks off is asked for again, whole."""
        asked: Any = {"IfMatch": etag} if etag else {}
        if start < 0:
            asked["Range"] = f"bytes={start}"
        elif start or length is not None:
            asked["Range"] = f"bytes={start}-{'' if length is None else start + length - 1}"
        with self._bucket.request("reading", self.location(key)):
            for attempts_left in reversed(range(_BODY_ATTEMPTS)):
                answer = self._find_part(key, asked)
                if answer is None:
                    self._check_unchanged(key, etag)  # a server may look at the range before it looks at If-Match
                    return b"", etag or ""
                try:
                    content = answer["Body"].read()
                    check_length(content, answer.get("ContentRange", ""), start, length)
                except BROKEN_BODY:
                    if not attempts_left:
                        raise
                else:
                    return content, answer["ETag"]
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _check_unchanged(self, key: str, etag: str | None) -> None:
        if etag is not None and self._existing(key).etag != etag:
            raise ObjectChangedError(f"{self.location(key)} was changed by another writer since it was seen.")

    def _find_part(self, key: str, asked: Any) -> GetObjectOutputTypeDef | None:
        """Return the answer before its body is read; None if the object ends before the range begins."""
        try:
            answer = self._bucket.client.get_object(Bucket=self._bucket.name, Key=self._name(key), **asked)
        except ANY_FAILURE as failure:
            if status_of(failure) == 416:  # also any range of an empty object
                return None
            raise
        if "Range" in asked and answer["ResponseMetadata"]["HTTPStatusCode"] != 206:
            answer["Body"].close()  # 14 GB would come where 64 KB were meant, and the wrong ones
            raise StorageError(
                f"Reading a range of {self.location(key)} failed: the server answered with the whole object. A proxy "
                "in between ignores byte ranges; reach the store without it."
            )
        return answer


def delete_bucket(name: str, settings: S3Settings) -> None:
    """Delete a bucket, such as one of a test, and everything in it."""
    store = S3Store(f"s3://{name}", settings)
    store.delete([info.key for info in store.list_infos()])
    Bucket(name, Connection(settings)).delete()


def _refused_delete(failed: Any, url: str) -> Refusal:
    """Return one object's refusal, which stands in the body of an answer of 200."""
    code = failed.get("Code", "")
    return Refusal(code, 403 if code == "AccessDenied" else 500, failed.get("Message", ""), "deleting", url)


def _one_at_a_time(on_bytes: OnBytes | None) -> OnBytes | None:
    """Return ``on_bytes`` behind a lock: a transfer calls it from its threads, and a caller should not have to know."""
    if on_bytes is None:
        return None
    lock = threading.Lock()

    def locked(moved: int) -> None:
        with lock:
            on_bytes(moved)

    return locked
