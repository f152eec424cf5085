"""
What goes when the room is short: the blobs that were used least recently, and never one that a reader holds.

Which ones is decided by :func:`choose` without I/O. Everything else finds out who holds what, and removes. A cache may
be over its bound for as long as what is held takes more; whoever lets go makes it right.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from airflow_provider_hfreg.versions.cache.entries import Entry
from airflow_provider_hfreg.versions.cache.holds import hold_name
from airflow_provider_hfreg.versions.cache.links import find_links
from airflow_provider_hfreg.versions.cache.places import Places

_log = logging.getLogger(__name__)
_GIB = 1 << 30
_DEFAULT_SHARE = 0.5
EVICTION = "eviction"
"""The lock: alone to evict, shared to begin to hold a folder."""


@dataclass(frozen=True)
class Usage:
    """What is known of one blob when the room is short."""

    name: str
    size_bytes: int
    used_ns: int
    is_held: bool = False


def choose(usages: Iterable[Usage], *, bound_bytes: float, free_bytes: float, incoming_bytes: int = 0) -> list[Usage]:
    """
    Return which blobs to remove, the least recently used first, and no more than needed.

    >>> a, b, c = Usage("a", 5, used_ns=1), Usage("b", 5, used_ns=2, is_held=True), Usage("c", 5, used_ns=3)
    >>> [usage.name for usage in choose([c, b, a], bound_bytes=15, free_bytes=99, incoming_bytes=4)]
    ['a']
    >>> [usage.name for usage in choose([c, b, a], bound_bytes=99, free_bytes=4, incoming_bytes=10)]
    ['a', 'c']

    :param bound_bytes: of all blobs together, those that come included.
    :param free_bytes: on the disk.
    :param incoming_bytes: for which there has to be room.
    """
    by_use = sorted(usages, key=lambda usage: usage.used_ns)
    excess = max(sum(usage.size_bytes for usage in by_use) + incoming_bytes - bound_bytes, incoming_bytes - free_bytes)
    chosen = []
    for usage in by_use:
        if excess <= 0:
            break
        if not usage.is_held:
            chosen.append(usage)
            excess -= usage.size_bytes
    return chosen


def bound_bytes(places: Places, size_gib: float | None) -> float:
    """
    Return the bound of a cache.

    :param size_gib: None: half of the disk that it lies on.
    """
    if size_gib is not None:
        return size_gib * _GIB
    return shutil.disk_usage(places.made("sha256")).total * _DEFAULT_SHARE


def make_room(places: Places, size_gib: float | None, incoming_bytes: int = 0) -> None:
    """
    Remove what has to go, and what killed processes left.

    Nobody can begin to hold a folder meanwhile: that takes the same lock, shared. So a folder that is free stays free.
    """
    places.sweep_scratch()
    with places.locked(EVICTION):
        folders = {folder: _targets(folder) for folder in _children(places.folders)}
        held = {folder for folder in folders if places.is_locked(hold_name(folder))}
        needed = {name for folder in held for name in folders[folder]}
        chosen = choose(
            _usages(places, needed),
            bound_bytes=bound_bytes(places, size_gib),
            free_bytes=shutil.disk_usage(places.root).free,
            incoming_bytes=incoming_bytes,
        )
        gone = {usage.name for usage in chosen}
        for folder in folders.keys() - held:
            if folders[folder] & gone:
                shutil.rmtree(folder, ignore_errors=True)
        for name in gone:
            Entry(places, name).remove()
    if chosen:
        size_bytes = sum(usage.size_bytes for usage in chosen)
        _log.info("Evicted %d files (%.1f MB) from the cache %s.", len(chosen), size_bytes / 1e6, places.root)


def _usages(places: Places, needed: set[str]) -> list[Usage]:
    usages = []
    for path in _children(places.blobs):
        with contextlib.suppress(FileNotFoundError):
            used_ns = Entry(places, path.name).used_ns()
            usages.append(Usage(path.name, path.stat().st_size, used_ns, is_held=path.name in needed))
    return usages


def _targets(folder: Path) -> set[str]:
    """Return the names of the blobs that a folder's links lead to, whether they are there or not."""
    return {Path(text).name for text in find_links(folder).values()}


def _children(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []
