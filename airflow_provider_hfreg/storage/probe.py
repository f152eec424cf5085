"""
Does this store keep its promises? Tried once per registry, before anything is uploaded.

Several servers answer 200 to a conditional write and ignore the condition (seen: JuiceFS' gateway, rclone; Ceph's rgw
16 breaks If-Match). On those two loggers of one version would both believe they won, so they are refused, naming the
primitive. A pass is evidence from this many tries, no proof; a server that fails rarely can slip through.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from airflow_provider_hfreg.errors import (
    CompareAndSwapLostError,
    ConditionalWritesUnsupportedError,
    KeyExistsError,
    StorageDeniedError,
)
from airflow_provider_hfreg.storage.base import ObjectStore

_WRITERS = 16


@dataclass(frozen=True)
class ProbeResult:
    """What was tried and held; plain values, kept in a registry's ``format.json``."""

    writers: int  # that put one absent key at once; one won
    put_if_absent: bool = True
    replace_if_match: bool = True


def probe_conditional_writes(store: ObjectStore, folder: str = "") -> ProbeResult:
    """
    Try both conditional writes on a key of its own, and remove it.

    :param folder: below which to write (``""`` or ending in ``/``), where this user may.
    :raises ConditionalWritesUnsupportedError: a condition was ignored, or never met.
    :raises StorageError: the store could not be asked.
    """
    key = f"{folder}probe-{uuid.uuid4().hex}"
    try:
        _check_put_if_absent(store, key)
        _check_replace_if_match(store, key)
    finally:
        with contextlib.suppress(StorageDeniedError):  # who may write but not delete leaves a few bytes
            store.delete([key, _absent(key)])
    return ProbeResult(writers=_WRITERS)


def _check_put_if_absent(store: ObjectStore, key: str) -> None:
    winners = _race(store, key)
    if not winners:  # the winner's answer was lost, and its repeated request met its own success
        store.delete([key])
        winners = _race(store, key)
    if len(winners) != 1:
        seen = f"{len(winners)} of {_WRITERS} writers of one new key were told that they won"
        raise _unsupported(store, "If-None-Match", seen)
    if store.get(key).decode() != winners[0]:
        raise _unsupported(store, "If-None-Match", "the writer told that it won is not the one whose bytes are there")


def _race(store: ObjectStore, key: str) -> list[str]:
    """Let all writers put one absent key at once; return those told that they won."""
    together = threading.Barrier(_WRITERS)

    def put(writer: int) -> bool:
        together.wait()
        return _put(store, key, str(writer).encode())

    with ThreadPoolExecutor(_WRITERS) as threads:
        return [str(writer) for writer, won in enumerate(threads.map(put, range(_WRITERS))) if won]


def _check_replace_if_match(store: ObjectStore, key: str) -> None:
    _, first = store.get_with_etag(key)
    if not _replace(store, key, b"second", first):
        raise _unsupported(store, "If-Match", "a write with the current ETag was refused")
    if _replace(store, key, b"third", first):
        raise _unsupported(store, "If-Match", "a write with a stale ETag was accepted")
    if _replace(store, _absent(key), b"fourth", first):
        raise _unsupported(store, "If-Match", "a write with an ETag was accepted where there is no object")


def _absent(key: str) -> str:
    return f"{key}-absent"


def _put(store: ObjectStore, key: str, content: bytes) -> bool:
    try:
        store.put_if_absent(key, content)
    except KeyExistsError:
        return False
    return True


def _replace(store: ObjectStore, key: str, content: bytes, etag: str) -> bool:
    try:
        store.replace_if_match(key, content, etag)
    except CompareAndSwapLostError:
        return False
    return True


def _unsupported(store: ObjectStore, primitive: str, seen: str) -> ConditionalWritesUnsupportedError:
    return ConditionalWritesUnsupportedError(
        f"The server of {store.url} does not keep {primitive} on PutObject: {seen}. Two loggers of one version could "
        "both believe that they published it, so nothing is stored here. Use AWS S3, SeaweedFS from 4.48 or another "
        "server that keeps conditional writes, or a folder (file://)."
    )
