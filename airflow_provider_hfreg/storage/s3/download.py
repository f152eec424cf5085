"""
A large object into a file: ranges side by side, each written to its place as it comes, and hashed in order behind them.

Invariants: all ranges are of one state of the object, so two states never mix. The file's room is reserved before
anything but the first range has come, and before that where the size is known. What is hashed is what the file holds:
it is read back while the system still has it in memory, so that this process holds a block of each range and no more,
however late one of them is.
"""

from __future__ import annotations

import os
import threading
from contextlib import closing
from functools import partial
from pathlib import Path

from airflow_provider_hfreg.errors import ObjectChangedError
from airflow_provider_hfreg.storage.base import OnBytes
from airflow_provider_hfreg.storage.digests import PassingDigest
from airflow_provider_hfreg.storage.files import reserve
from airflow_provider_hfreg.storage.s3.in_order import in_order
from airflow_provider_hfreg.storage.s3.parts import ObjectParts, Seen

RANGE_BYTES = 8 << 20  # smaller ones cost more requests; of larger ones the first comes when nearly all have come
_THREADS = 16  # S3 gives one connection some 90 MB/s
_AT_FIRST = 11  # from a near server, faster than the hash, more only take the cores that both need
_READ_BACK_BYTES = 1 << 20  # stays in a core's own cache between the read and the hash


def download_parts(
    parts: ObjectParts,
    path: Path,
    *,
    on_bytes: OnBytes | None = None,
    digest: str | None = None,
    size_bytes: int | None = None,
) -> None:
    """
    Write an object to ``path``.

    :param on_bytes: called from this thread.
    :param digest: that the content must have.
    :param size_bytes: that the object is said to have: so much is asked for at once. What it has is written, whatever
        was said; where nothing was, the first range goes alone and tells.
    :raises ObjectChangedError: the object was replaced meanwhile.
    :raises DigestMismatchError: it has another digest.
    """
    with path.open("w+b") as target:
        ranges = _Ranges(parts, target.fileno())
        hashed = _ReadBack(target.fileno(), digest)

        def take(first: int, end: int) -> int:
            taken = 0
            starts = range(first, end, RANGE_BYTES)
            tasks = (partial(ranges.bring, start, min(RANGE_BYTES, end - start)) for start in starts)
            with closing(in_order(tasks, threads=_THREADS, at_first=_AT_FIRST)) as brought:
                for start, length in brought:
                    hashed.take(start, length)
                    taken += length
                    if on_bytes is not None:
                        on_bytes(length)
            return taken

        said_bytes = size_bytes or 0
        reserve(target.fileno(), said_bytes)
        asked_bytes = said_bytes or RANGE_BYTES
        taken, total_bytes = take(0, asked_bytes), ranges.total_bytes
        if total_bytes > said_bytes:
            reserve(target.fileno(), total_bytes)
        taken += take(asked_bytes, total_bytes)
        if taken != total_bytes:
            raise ranges.changed()
        target.truncate(total_bytes)
    hashed.check(parts.url)


class _Ranges:
    """The ranges of one object, on their way into one file; threads bring them."""

    def __init__(self, parts: ObjectParts, descriptor: int) -> None:
        self._descriptor = descriptor
        self._parts = parts
        self._seen: Seen | None = None
        self._lock = threading.Lock()

    @property
    def total_bytes(self) -> int:
        """The object's size, once a range has come; 0 of an empty one."""
        return 0 if self._seen is None else self._seen.total_bytes

    def bring(self, start: int, length: int) -> tuple[int, int]:
        """
        Write one range to its place; return where it begins and how long it is: shorter at the object's end, 0 behind.

        :raises ObjectChangedError: it is of another state than those before.
        """
        seen = self._seen
        if seen is not None and 0 < start >= seen.total_bytes:  # the size that was said is larger than the object's
            return start, 0
        etag = None if seen is None else seen.etag
        return start, self._parts.fetch_to(self._write, start, length, etag=etag, on_answer=self._check)

    def changed(self) -> ObjectChangedError:
        """Return the error for an object that did not stay what it was."""
        return ObjectChangedError(f"{self._parts.url} was changed by another writer during its download.")

    def _check(self, seen: Seen) -> None:
        with self._lock:
            if self._seen is None:
                self._seen = seen
            if seen != self._seen:
                raise self.changed()

    def _write(self, start: int, block: bytes) -> None:
        view = memoryview(block)
        while view:
            written = os.pwrite(self._descriptor, view, start)
            view, start = view[written:], start + written


class _ReadBack:
    """
    The digest of a file, taken range by range, in their order, of what lies in it.

    :param digest: that it must have; None hashes nothing.
    """

    def __init__(self, descriptor: int, digest: str | None) -> None:
        self._descriptor = descriptor
        self._is_wanted = digest is not None
        self._passing = PassingDigest(digest)
        self._block = memoryview(bytearray(_READ_BACK_BYTES))  # one for all: fresh memory costs more than the copy

    def take(self, start: int, length: int) -> None:
        """Read and hash the next range."""
        end = start + length if self._is_wanted else start
        while start < end and (count := os.preadv(self._descriptor, [self._block[: end - start]], start)):
            self._passing.update(self._block[:count])
            start += count

    def check(self, what: str) -> None:
        """As :meth:`PassingDigest.check`."""
        self._passing.check(what)
