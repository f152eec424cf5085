"""
Files written so that they are whole, durable and exactly replaced: what :mod:`~airflow_provider_hfreg.storage.local`
is made of.

Knows paths, no keys; raises ``OSError`` only. A temporary file lies in the folder of its target, because only within
one file system does ``link`` or ``rename`` work. A lock file is never removed: a process waiting on a removed one
would hold a lock that nobody else sees.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from airflow_provider_hfreg.storage.base import RESERVED_PREFIX
from airflow_provider_hfreg.storage.digests import PassingDigest

_LOCK_NAME = f"{RESERVED_PREFIX}lock"
_TEMPORARY_PREFIX = f"{RESERVED_PREFIX}tmp-"
_STALE_AFTER_S = 24 * 3600.0
_DIGEST_LIMIT_BYTES = 1 << 20
_COPY_BYTES = 4 << 20
_CANNOT_RESERVE = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}


@contextlib.contextmanager
def temporary_file(folder: Path) -> Iterator[BinaryIO]:
    """Yield a new file in ``folder`` to write and read (its path is ``.name``); remove that name at the end."""
    make_folder(folder)
    path = folder / f"{_TEMPORARY_PREFIX}{secrets.token_hex(8)}"
    try:
        with path.open("x+b") as stream:
            yield stream
    finally:
        path.unlink(missing_ok=True)


def finish(stream: BinaryIO) -> None:
    """Make a temporary file's content durable, and its time of change its own."""
    stream.flush()
    # The kernel stamps in steps of 4 ms, in which an inode can be freed and used again: two contents, one etag.
    now_ns = time.time_ns()
    os.utime(stream.fileno(), ns=(now_ns, now_ns))
    os.fsync(stream.fileno())


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, among threads and processes alike; it dies with the process."""
    lock = os.open(folder / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        fcntl.flock(lock, fcntl.LOCK_UN)  # closing is not enough: a process forked meanwhile holds the descriptor too
        os.close(lock)


def etag_of(stream: BinaryIO) -> str:
    """Return the etag of an open file: the digest of a small one, else made of inode, time of change and size."""
    status = os.fstat(stream.fileno())
    if status.st_size > _DIGEST_LIMIT_BYTES:
        return f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"
    stream.seek(0)
    return hashlib.sha256(stream.read()).hexdigest()


def copy_bytes(
    source: BinaryIO,
    target: BinaryIO,
    on_bytes: Callable[[int], None] | None = None,
    digest: PassingDigest | None = None,
) -> None:
    """
    Copy to the end of ``source``, telling of every 4 MiB.

    :param digest: takes the bytes; in a thread beside, for hashing takes as long as the rest.
    """
    with ThreadPoolExecutor(1) as beside:
        hashed: Future[None] | None = None
        while block := source.read(_COPY_BYTES):
            if hashed is not None:
                hashed.result()  # at most two blocks in memory
            if digest is not None:
                hashed = beside.submit(digest.update, block)
            target.write(block)
            if on_bytes is not None:
                on_bytes(len(block))


def reserve(descriptor: int, size_bytes: int) -> None:
    """
    Give an empty file its size and the room for it at once: a disk too full is told before gigabytes were moved.

    A file system that cannot do that gets none reserved.
    """
    try:
        if size_bytes:
            os.posix_fallocate(descriptor, 0, size_bytes)
    except OSError as error:
        if error.errno not in _CANNOT_RESERVE:
            raise


def make_folder(folder: Path) -> None:
    """
    Create a folder and those above it, durably.

    :raises NotADirectoryError: a file is in the way.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    try:
        folder.mkdir()
    except FileExistsError:
        if not folder.is_dir():  # else another process was faster
            raise NotADirectoryError(f"{folder} is a file") from None
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def folder_entries(folder: Path) -> list[str]:
    """
    Return the names in a folder, folders with a trailing slash, in the order that S3 lists them; none if it is missing.

    Own files are left out, and temporary ones removed that nobody has written to for a day.
    """
    names: list[str] = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(RESERVED_PREFIX):
                _remove_if_stale(entry)
            else:
                names.append(f"{entry.name}/" if entry.is_dir() else entry.name)
    return sorted(names, key=os.fsencode)


def _remove_if_stale(entry: os.DirEntry[str]) -> None:
    with contextlib.suppress(OSError):  # gone already, or we may only read
        if entry.name.startswith(_TEMPORARY_PREFIX) and time.time() - entry.stat().st_mtime > _STALE_AFTER_S:
            Path(entry.path).unlink()
