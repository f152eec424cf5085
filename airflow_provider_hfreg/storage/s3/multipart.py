"""
A file too large for one PUT, stored in parts, and only if the key is absent.

boto3's own transfer cannot put a condition on the completion of a multipart upload, where S3 checks it. Invariant: an
upload that does not complete is aborted, so that its parts cost nothing; after a kill -9 a lifecycle rule of the
bucket has to do it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_MIB = 1 << 20
_MAX_PARTS = 10_000
_MIN_PART_BYTES = 64 * _MIB
_THREADS = 4  # each holds one part in memory


def part_size_bytes(file_size_bytes: int) -> int:
    """
    Return the size of a part: 64 MiB, or more where S3's limit of 10,000 parts needs it; whole MiB.

    >>> part_size_bytes(6 << 30) >> 20
    64
    >>> part_size_bytes(5 << 40) >> 20
    525
    """
    needed = -(-file_size_bytes // _MAX_PARTS)
    return max(_MIN_PART_BYTES, -(-needed // _MIB) * _MIB)


def put_parts_if_absent(
    client: S3Client,
    target: Mapping[str, str],
    path: Path,
    encryption: Mapping[str, str],
    *,
    part_bytes: int | None = None,
) -> str:
    """
    Store a file in parts, unless the key exists when the last one has arrived, and return its etag.

    :param client: raises its own errors; the store translates them.
    :param target: ``Bucket`` and ``Key``.
    :param encryption: request parameters of the encryption.
    :param part_bytes: default: by the file's size; S3 takes none below 5 MiB but the last.
    """
    where: Any = dict(target)
    begin: Any = dict(encryption)
    upload: Any = {**where, "UploadId": client.create_multipart_upload(**where, **begin)["UploadId"]}
    try:
        size = path.stat().st_size
        step = part_bytes or part_size_bytes(size)

        def send(number: int) -> dict[str, Any]:
            body = _read(path, (number - 1) * step, step)
            return {"PartNumber": number, "ETag": client.upload_part(**upload, PartNumber=number, Body=body)["ETag"]}

        with ThreadPoolExecutor(_THREADS) as threads:
            parts: Any = list(threads.map(send, range(1, -(-size // step) + 1)))
        completed = client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}, IfNoneMatch="*")
        return completed["ETag"]
    except BaseException:
        with contextlib.suppress(Exception):  # the first error is the one to tell of
            client.abort_multipart_upload(**upload)
        raise


def _read(path: Path, start: int, length: int) -> bytes:
    with path.open("rb") as stream:
        stream.seek(start)
        return stream.read(length)
