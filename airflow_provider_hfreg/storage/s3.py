"""
Objects on S3 and on servers that speak its protocol, through boto3. The only module that names boto3.

Invariants:

- No error of boto3 leaves this module: :meth:`S3Store._translated` turns each into one of ours.
- A client belongs to one process. Airflow forks; a connection shared with the parent would mix two answers, so a
  child makes its own client. Threads of one process share it, which boto3 allows.
- A missing bucket is never taken for a missing object, nor created by a write (some servers do that on a mistyped
  name): before the first write of a process, and on the first 404 of a HEAD, the bucket itself is asked for.
- Integrity on the wire: AWS gets boto3's own checksums; other servers, of which many refuse those, get the SHA-256 of
  the body inside the signature, which boto3 adds when no checksum is there. An ETag is never read as an MD5.

Not here: retries of what needs judgement (a lost answer to a conditional write looks like a lost race; the caller
reads back and decides), and ``boto3[crt]``, which cannot reach an endpoint that has a port.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)
from botocore.exceptions import (
    ConnectionError as NoConnectionError,
)

from airflow_provider_hfreg.errors import (
    CompareAndSwapLostError,
    ConflictError,
    HfregError,
    KeyExistsError,
    KeyNotFoundError,
    StorageDeniedError,
    StorageError,
    StorageUnavailableError,
    StorageUrlError,
)
from airflow_provider_hfreg.storage.base import ObjectInfo, ObjectStore, OnBytes, check_key
from airflow_provider_hfreg.storage.readers import RangedReader
from airflow_provider_hfreg.storage.s3_errors import Refusal, bucket_not_found, error_of
from airflow_provider_hfreg.storage.s3_multipart import put_parts_if_absent
from airflow_provider_hfreg.storage.settings import S3Settings
from airflow_provider_hfreg.storage.urls import parse_url

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

__all__ = ["S3Settings", "S3Store", "create_bucket", "delete_bucket"]

_MIB = 1 << 20
_BODY_ATTEMPTS = 3  # a connection that breaks inside a body is beyond boto3's own retries
_BUSY_ATTEMPTS = 10  # 409: another conditional write to this key is under way; S3 asks to repeat
_TRANSFER = TransferConfig(
    multipart_threshold=16 * _MIB,
    multipart_chunksize=16 * _MIB,
    max_concurrency=8,
    preferred_transfer_client="classic",
)
_OWN_BUCKET_EXISTS = ("BucketAlreadyOwnedByYou", "BucketAlreadyExists")  # simple servers know only the second
_SINGLE_PUT_LIMIT_BYTES = 5 << 30  # S3's own limit for one PUT

_MAKING_CLIENT = threading.Lock()  # sessions are not thread-safe; and no fork may find a client half made
os.register_at_fork(
    before=_MAKING_CLIENT.acquire, after_in_parent=_MAKING_CLIENT.release, after_in_child=_MAKING_CLIENT.release
)


class _Connection:
    """The client of each process, and the buckets known to exist; shared by stores of one server and credentials."""

    def __init__(self, settings: S3Settings) -> None:
        self.settings = settings
        self.buckets_seen: set[str] = set()
        self._clients: dict[int, S3Client] = {}

    @property
    def client(self) -> S3Client:
        client = self._clients.get(os.getpid())
        if client is None:
            with _MAKING_CLIENT:
                client = self._clients.setdefault(os.getpid(), _make_client(self.settings))
        return client


def _make_client(settings: S3Settings) -> S3Client:
    session = settings.session or boto3.Session(
        aws_access_key_id=settings.access_key_id,
        aws_secret_access_key=settings.secret_access_key,
        aws_session_token=settings.session_token,
    )
    checksums: dict[str, Any] = {}
    if settings.endpoint_url is not None:
        checksums = {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"}
    config = Config(
        connect_timeout=settings.connect_timeout_s,
        read_timeout=settings.read_timeout_s,
        retries={"mode": "standard", "total_max_attempts": settings.max_attempts},
        max_pool_connections=32,
        **checksums,
    )
    region = settings.region_name or session.region_name or "us-east-1"
    try:
        client: S3Client = session.client("s3", endpoint_url=settings.endpoint_url, region_name=region, config=config)
    except ValueError as error:  # boto3's own for an endpoint that is no URL
        raise StorageUrlError(f"{error}; endpoint_url must look like http://host:port or https://host.") from error
    return client


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
        self._bucket = parsed.bucket
        self._prefix = f"{parsed.path}/" if parsed.path else ""
        self._settings = settings or S3Settings()
        self._connection = _Connection(self._settings)

    def __repr__(self) -> str:
        return f"S3Store({self.url!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return S3Store, (self.url, self._settings)

    # --- reading

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """One GET; with a range unless the whole is asked for."""
        if length == 0 and self.find_info(key) is not None:
            return b""  # HTTP has no empty range
        return self._fetch(key, start, length)[0]

    def get_with_etag(self, key: str) -> tuple[bytes, str]:
        """One GET."""
        return self._fetch(key, 0, None)

    def find_info(self, key: str) -> ObjectInfo | None:
        """One HEAD; the first one in a process that finds nothing asks for the bucket too."""
        try:
            with self._translated("looking for", key):
                head = self._client.head_object(Bucket=self._bucket, Key=self._name(key))
        except KeyNotFoundError:
            return None
        return ObjectInfo(key, head["ContentLength"], head["ETag"], head["LastModified"])

    def list_infos(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """One LIST per thousand keys, all before the first is yielded."""
        found: list[ObjectInfo] = []
        with self._translated("listing", prefix):
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
        with self._translated("listing", folder):
            for page in self._pages(folder, Delimiter="/"):
                names += [entry["Key"][start:] for entry in page.get("Contents", [])]
                names += [entry["Prefix"][start:] for entry in page.get("CommonPrefixes", [])]
        yield from sorted(filter(None, names), key=str.encode)

    def open_reader(self, key: str) -> BinaryIO:
        """One HEAD, then ranged GETs, each only if the object is still the same."""
        info = self.find_info(key)
        if info is None:
            raise KeyNotFoundError(f"There is no object {self.location(key)}. Check the name.")

        def read_range(start: int, length: int) -> bytes:
            return self._fetch(key, start, length, etag=info.etag)[0]

        return io.BufferedReader(RangedReader(read_range, info.size_bytes))

    def download(self, key: str, path: Path, *, on_bytes: OnBytes | None = None) -> None:
        """Ranged GETs, several at a time for a large object; nothing is at ``path`` before the last has come."""
        with self._translated("downloading", key):
            self._client.download_file(
                self._bucket, self._name(key), str(path), Callback=_one_at_a_time(on_bytes), Config=_TRANSFER
            )

    # --- writing

    def put(self, key: str, content: bytes) -> None:
        """One PUT."""
        with self._writing(key):
            self._put_object(key, content)

    def put_if_absent(self, key: str, content: bytes | Path) -> None:
        """One PUT with If-None-Match; above 5 GiB a multipart upload with the condition on its completion."""
        with self._writing(key, precondition=KeyExistsError):
            if isinstance(content, bytes):
                self._put_object(key, content, IfNoneMatch="*")
            elif content.stat().st_size <= _SINGLE_PUT_LIMIT_BYTES:
                self._put_file_if_absent(key, content)
            else:
                target = {"Bucket": self._bucket, "Key": self._name(key)}
                encryption = self._settings.encryption()
                _repeat_while_busy(lambda: put_parts_if_absent(self._client, target, content, encryption))

    def replace_if_match(self, key: str, content: bytes, etag: str) -> None:
        """One PUT with If-Match."""
        try:
            with self._writing(key, precondition=CompareAndSwapLostError):
                self._put_object(key, content, IfMatch=etag)
        except KeyNotFoundError as error:  # some servers answer 404, others 412, when the object is gone
            raise CompareAndSwapLostError(f"{self.location(key)} was deleted by another writer.") from error

    def upload(self, key: str, path: Path, *, on_bytes: OnBytes | None = None) -> None:
        """One PUT, or from 16 MiB a multipart upload, several parts at a time; aborted if it fails."""
        with self._writing(key):
            self._client.upload_file(
                str(path),
                self._bucket,
                self._name(key),
                ExtraArgs=self._settings.encryption(),
                Callback=_one_at_a_time(on_bytes),
                Config=_TRANSFER,
            )

    def copy(self, source_key: str, target_key: str) -> None:
        """Inside the server; multipart for a large object."""
        with self._translated("copying", source_key):
            self._client.copy(
                {"Bucket": self._bucket, "Key": self._name(source_key)},
                self._bucket,
                self._name(target_key),
                ExtraArgs=self._settings.encryption(),
                Config=_TRANSFER,
            )

    def delete(self, keys: Iterable[str]) -> None:
        """One request per thousand keys."""
        names = [self._name(key) for key in keys]
        for first in range(0, len(names), 1000):
            objects: Any = [{"Key": name} for name in names[first : first + 1000]]
            with self._translated("deleting below", ""):
                answer = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": objects, "Quiet": True})
            for failed in answer.get("Errors", []):
                raise self._delete_error(failed)

    # --- places

    def below(self, folder: str) -> S3Store:
        """Shares this store's connections."""
        inner = S3Store(self.location(check_key(folder.rstrip("/"))), self._settings)
        inner._connection = self._connection
        return inner

    # --- requests

    @property
    def _client(self) -> S3Client:
        return self._connection.client

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _pages(self, prefix: str, **extra: Any) -> Iterable[Any]:
        paginator = self._client.get_paginator("list_objects_v2")
        pages: Iterable[Any] = paginator.paginate(Bucket=self._bucket, Prefix=self._prefix + prefix, **extra)
        return pages

    def _put_object(self, key: str, body: Any, **condition: str) -> None:
        extra: Any = {**condition, **self._settings.encryption()}

        def send() -> None:
            if not isinstance(body, bytes):
                body.seek(0)  # an earlier attempt has read it
            self._client.put_object(Bucket=self._bucket, Key=self._name(key), Body=body, **extra)

        _repeat_while_busy(send)

    def _put_file_if_absent(self, key: str, path: Path) -> None:
        with path.open("rb") as stream:
            self._put_object(key, stream, IfNoneMatch="*")

    def _fetch(self, key: str, start: int, length: int | None, *, etag: str | None = None) -> tuple[bytes, str]:
        """Return bytes of an object and its etag; a body that breaks off is asked for again, whole."""
        asked: Any = {"IfMatch": etag} if etag else {}
        if start or length is not None:
            asked["Range"] = f"bytes={start}-{'' if length is None else start + length - 1}"
        for attempt in range(1, _BODY_ATTEMPTS + 1):
            with self._translated("reading", key):
                try:
                    answer = self._client.get_object(Bucket=self._bucket, Key=self._name(key), **asked)
                    self._check_range(key, asked, answer)
                    return answer["Body"].read(), answer["ETag"]
                except ClientError as error:
                    if _status(error) == 416:  # beyond the end, or any range of an empty object
                        return b"", etag or ""
                    raise
                except (HTTPClientError, IncompleteReadError):
                    if attempt == _BODY_ATTEMPTS:
                        raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _check_range(self, key: str, asked: dict[str, str], answer: GetObjectOutputTypeDef) -> None:
        """Refuse a whole object where a part was asked for: 14 GB would come where 64 KB were meant, and be wrong."""
        if "Range" not in asked or answer["ResponseMetadata"]["HTTPStatusCode"] == 206:
            return
        answer["Body"].close()
        raise StorageError(
            f"Reading a range of {self.location(key)} failed: the server answered with the whole object. A proxy in "
            "between ignores byte ranges; reach the store without it."
        )

    # --- errors

    @contextlib.contextmanager
    def _writing(self, key: str, precondition: type[ConflictError] | None = None) -> Iterator[None]:
        with self._translated("writing", key, precondition):
            self._check_bucket()
            yield

    @contextlib.contextmanager
    def _translated(self, action: str, key: str, precondition: type[ConflictError] | None = None) -> Iterator[None]:
        try:
            yield
        except (ClientError, BotoCoreError, Boto3Error) as error:
            cause = error.__context__ if isinstance(error, Boto3Error) and error.__context__ else error
            raise self._error(cause, action, key, precondition) from error
        self._connection.buckets_seen.add(self._bucket)

    def _error(
        self, cause: BaseException, action: str, key: str, precondition: type[ConflictError] | None
    ) -> HfregError:
        url = self.location(key)
        if not isinstance(cause, ClientError):
            return _error_without_answer(cause, f"{action.capitalize()} {url} failed", self._endpoint)
        refusal = _refusal(cause, action, url, precondition)
        with contextlib.suppress(BotoCoreError, ClientError):  # the first refusal is the one to tell of
            if refusal.status == 404 and self._is_bucket_missing():
                return bucket_not_found(url)
        return error_of(refusal)

    def _delete_error(self, failed: Any) -> HfregError:
        code = failed.get("Code", "")
        status = 403 if code == "AccessDenied" else 500
        return error_of(
            Refusal(code, status, failed.get("Message", ""), "deleting", f"s3://{self._bucket}/{failed['Key']}")
        )

    @property
    def _endpoint(self) -> str:
        return self._settings.endpoint_url or "AWS"

    def _check_bucket(self) -> None:
        if self._is_bucket_missing():
            raise bucket_not_found(self.url)

    def _is_bucket_missing(self) -> bool:
        if self._bucket in self._connection.buckets_seen:
            return False
        try:
            self._client.head_bucket(Bucket=self._bucket)
        except ClientError as error:
            return _status(error) == 404  # 403: it may not be asked for; the request itself will tell
        self._connection.buckets_seen.add(self._bucket)
        return False


def create_bucket(name: str, settings: S3Settings) -> None:
    """
    Create a bucket on a test or demo server; one of ours that exists is no error.

    :raises StorageError: the server refused, or does not answer (yet).
    """
    store = S3Store(f"s3://{name}", settings)
    try:
        with store._translated("creating", ""):  # noqa: SLF001
            store._client.create_bucket(Bucket=name)  # noqa: SLF001
    except StorageError as error:
        cause = error.__cause__
        if not (isinstance(cause, ClientError) and _code(cause) in _OWN_BUCKET_EXISTS):
            raise


def delete_bucket(name: str, settings: S3Settings) -> None:
    """Delete a bucket of a test or demo server and everything in it."""
    store = S3Store(f"s3://{name}", settings)
    store.delete([info.key for info in store.list_infos()])
    with store._translated("deleting", ""):  # noqa: SLF001
        store._client.delete_bucket(Bucket=name)  # noqa: SLF001


def _repeat_while_busy(send: Callable[[], None]) -> None:
    """Call ``send`` until the answer is no 409: S3's word for "another conditional write is under way, repeat"."""
    for attempt in range(_BUSY_ATTEMPTS):
        try:
            send()
        except ClientError as error:
            if _status(error) != 409 or attempt == _BUSY_ATTEMPTS - 1:
                raise
        else:
            return
        time.sleep(random.uniform(0.5, 1.0) * min(2.0, 0.05 * 2**attempt))  # noqa: S311 - no secret, only jitter


def _one_at_a_time(on_bytes: OnBytes | None) -> OnBytes | None:
    """Return ``on_bytes`` behind a lock: a transfer calls it from its threads, and a caller should not have to know."""
    if on_bytes is None:
        return None
    lock = threading.Lock()

    def locked(moved: int) -> None:
        with lock:
            on_bytes(moved)

    return locked


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _refusal(error: ClientError, action: str, url: str, precondition: type[ConflictError] | None) -> Refusal:
    message = str(error.response.get("Error", {}).get("Message", ""))
    return Refusal(_code(error), _status(error), message, action, url, precondition)


def _error_without_answer(cause: BaseException, what: str, endpoint: str) -> StorageError:
    """Return the error for a request that never got an answer, or was never sent."""
    if isinstance(cause, (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError)):
        return StorageDeniedError(
            f"{what}: {cause}. Give credentials in the connection, the environment or a profile of boto3."
        )
    if isinstance(cause, ParamValidationError):
        return StorageUrlError(f"{what}: S3 allows no such bucket name or key; correct the URL.")
    if isinstance(cause, (NoConnectionError, HTTPClientError, IncompleteReadError, Boto3Error)):
        return StorageUnavailableError(
            f"{what}: {cause} The endpoint {endpoint} does not answer as it should; check that it is right, running "
            "and reachable from here, then try again."
        )
    return StorageError(f"{what}: {cause}. Check the configuration of boto3 (profile, region, endpoint).")
