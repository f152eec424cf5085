"""
A large object into a file: ranges side by side, each written to its place, and hashed in order as they arrive.

Invariants: every range is of the state that the first one showed (If-Match on its etag), so two states never mix. The
file's room is reserved before anything but the first range has come. Memory is bounded by the ranges under way.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

from airflow_provider_hfreg.storage.base import OnBytes
from airflow_provider_hfreg.storage.digests import PassingDigest
from airflow_provider_hfreg.storage.files import reserve
from airflow_provider_hfreg.storage.s3.in_order import in_order
from airflow_provider_hfreg.storage.s3.parts import ObjectParts

RANGE_BYTES = 8 << 20
_THREADS = 8  # with RANGE_BYTES about 90 MiB in memory; S3 gives one connection some 90 MB/s


def download_parts(
    parts: ObjectParts,
    path: Path,
    *,
    on_bytes: OnBytes | None = None,
    digest: str | None = None,
    range_bytes: int = RANGE_BYTES,
) -> None:
    """
    Write an object to ``path``.

    :param on_bytes: called from this thread.
    :param digest: that the content must have.
    :raises ObjectChangedError: the object was replaced meanwhile.
    :raises DigestMismatchError: it has another digest.
    """
    first = parts.fetch(0, range_bytes)
    passing = PassingDigest(digest)

    def take(content: bytes) -> None:
        passing.update(content)
        if on_bytes is not None:
            on_bytes(len(content))

    with path.open("wb") as target:
        reserve(target.fileno(), first.total_bytes)
        write = partial(_write_at, target.fileno())
        write(0, first.content)
        take(first.content)
        places = range(range_bytes, first.total_bytes, range_bytes)
        tasks = (partial(_fetch_to, write, parts, place, range_bytes, first.etag) for place in places)
        with closing(in_order(tasks, threads=_THREADS)) as contents:
            for content in contents:
                take(content)
    passing.check(parts.url)


def _fetch_to(write: Callable[[int, bytes], None], parts: ObjectParts, start: int, length: int, etag: str) -> bytes:
    content = parts.fetch(start, length, etag=etag).content
    write(start, content)
    return content


def _write_at(descriptor: int, start: int, content: bytes) -> None:
    written = 0
    while written < len(content):
        written += os.pwrite(descriptor, memoryview(content)[written:], start + written)
