"""
A file stored in parts, several at a time, hashed as it is read.

Invariants: the file is read once, and what is hashed are the very bytes that are sent. Nothing is visible before the
last step, so bytes of another digest than the caller's are never seen by anybody. An upload that does not complete is
aborted, so that its parts cost nothing; after a kill -9 a lifecycle rule of the bucket has to do it. Memory is bounded
by the parts under way.

boto3's own transfer cannot put a condition on the completion, where S3 checks it, nor stop before it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from botocore.exceptions import ClientError

from airflow_provider_hfreg.errors import KeyExistsError, StorageUnavailableError
from airflow_provider_hfreg.storage.base import OnBytes
from airflow_provider_hfreg.storage.digests import PassingDigest
from airflow_provider_hfreg.storage.s3.checksums import check_answer, checksum_of, checksum_of_parts
from airflow_provider_hfreg.storage.s3.failures import code_of, status_of
from airflow_provider_hfreg.storage.s3.in_order import in_order

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_MIB = 1 << 20
_MAX_PARTS = 10_000
PART_BYTES = 16 * _MIB
_THREADS = 4  # with PART_BYTES about 110 MiB in memory


def part_size_bytes(file_size_bytes: int) -> int:
    """
    Return the size of a part: 16 MiB, or more where S3's limit of 10,000 parts needs it; whole MiB.

    >>> part_size_bytes(6 << 30) >> 20
    16
    >>> part_size_bytes(5 << 40) >> 20
    525
    """
    needed = -(-file_size_bytes // _MAX_PARTS)
    return max(PART_BYTES, -(-needed // _MIB) * _MIB)


@dataclass(frozen=True)
class Target:
    """
    Where a file goes, and what is asked of the server.

    :param client: raises its own errors; the store translates them.
    :param options: request parameters of the encryption.
    :param has_checksums: ask the server to compute SHA-256 checksums and compare.
    :param condition: on the completion: ``IfNoneMatch``.
    """

    client: S3Client
    bucket: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    has_checksums: bool = False
    condition: Mapping[str, Any] = field(default_factory=dict)


def put_parts(
    target: Target,
    path: Path,
    *,
    on_bytes: OnBytes | None = None,
    digest: str | None = None,
    part_bytes: int | None = None,
) -> str:
    """
    Store a file in parts and return its etag.

    :param on_bytes: called from this thread.
    :param digest: that the bytes must have.
    :param part_bytes: default: by the file's size; S3 takes none below 5 MiB but the last.
    :raises DigestMismatchError: they have another one; nothing was changed.
    :raises StorageUnavailableError: the answer to the completion was lost, and nothing tells whether it was done.
    """
    where: Any = {"Bucket": target.bucket, "Key": target.name}
    begin: Any = dict(target.options)
    if target.has_checksums:
        begin["ChecksumAlgorithm"] = "SHA256"
    upload = {**where, "UploadId": target.client.create_multipart_upload(**where, **begin)["UploadId"]}
    try:
        passing = PassingDigest(digest)
        sent = []
        with path.open("rb") as stream:
            step = part_bytes or part_size_bytes(path.stat().st_size)
            with closing(in_order(_tasks(target, upload, stream, step, passing), threads=_THREADS)) as parts:
                for part, length in parts:
                    sent.append(part)
                    if on_bytes is not None:
                        on_bytes(length)
        passing.check(str(path))
        return _complete(target, upload, sent)
    except BaseException:
        with contextlib.suppress(Exception):  # the first error is the one to tell of
            target.client.abort_multipart_upload(**upload)
        raise


def _tasks(
    target: Target, upload: dict[str, Any], stream: BinaryIO, step: int, passing: PassingDigest
) -> Iterator[partial[tuple[dict[str, Any], int]]]:
    """Yield the sending of each part, and hash it while it is sent."""
    for number, body in enumerate(iter(lambda: stream.read(step), b""), start=1):
        yield partial(_send, target, upload, number, body)
        passing.update(body)


def _send(target: Target, upload: dict[str, Any], number: int, body: bytes) -> tuple[dict[str, Any], int]:
    """Send a part; return how the completion names it, and its length."""
    checksum = checksum_of(body) if target.has_checksums else None
    extra: Any = {"ChecksumSHA256": checksum} if checksum else {}
    answer = target.client.upload_part(**upload, PartNumber=number, Body=body, **extra)
    check_answer(answer, checksum, f"s3://{target.bucket}/{target.name}")
    return {"PartNumber": number, "ETag": answer["ETag"], **extra}, len(body)


def _complete(target: Target, upload: dict[str, Any], parts: list[dict[str, Any]]) -> str:
    extra: Any = dict(target.condition)
    checksum = checksum_of_parts([part["ChecksumSHA256"] for part in parts]) if target.has_checksums else None
    if checksum is not None:
        extra["ChecksumSHA256"] = checksum
    whole: Any = {"Parts": parts}
    try:
        return target.client.complete_multipart_upload(**upload, MultipartUpload=whole, **extra)["ETag"]
    except ClientError as refusal:
        if code_of(refusal) != "NoSuchUpload":
            raise
        return _etag_of_completed(target, checksum, refusal)


def _etag_of_completed(target: Target, checksum: str | None, refusal: ClientError) -> str:
    """
    Return the etag of what is stored, if it is what was sent: boto3 repeats a completion whose answer was lost, and
    some servers know nothing any more of an upload that they completed.

    :raises KeyExistsError: something is stored where nothing was to be: ours or another writer's.
    :raises StorageUnavailableError: nobody can tell whether it was completed.
    """
    url = f"s3://{target.bucket}/{target.name}"
    try:
        head = target.client.head_object(Bucket=target.bucket, Key=target.name, ChecksumMode="ENABLED")
    except ClientError as error:
        if status_of(error) != 404:
            raise
        raise StorageUnavailableError(
            f"Writing {url} failed: the server knows nothing of the upload any more. Somebody aborted it, as a "
            "lifecycle rule of the bucket does; try again."
        ) from refusal
    if target.condition:
        raise KeyExistsError(f"{url} exists already; perhaps by this very write, whose answer was lost.") from refusal
    # Without a checksum of its content, an older object of the same size would look like it.
    if checksum is None or head.get("ChecksumSHA256") != checksum:
        raise StorageUnavailableError(
            f"Writing {url} failed: the answer to its completion was lost, and the server does not say whether what is "
            "stored there is what was sent. Try again."
        ) from refusal
    return head["ETag"]
