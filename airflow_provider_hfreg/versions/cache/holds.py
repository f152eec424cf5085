"""
Who reads a folder now: a shared lock for as long as somebody does, so that nobody evicts it meanwhile.

A mapped file outlives its name, but between "here is the folder" and "it was opened" it does not, and a tokenizer reads
its files again when it is saved. Besides, evicting a file that is mapped frees nothing. So what is loaded is held until
it is let go.

A forked child holds nothing that its parent held: its models are the parent's no more, and a child that lives for weeks
would keep for weeks what its parent let go after a minute.
"""

from __future__ import annotations

import fcntl
import os
import weakref
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from airflow_provider_hfreg.versions.cache.places import Places

_T = TypeVar("_T")


class HeldFolder:
    """
    A version's folder that stays while this is held: until :meth:`release`, or until this object is gone.

    :param path: the folder.
    :param descriptor: of the folder's lock, taken.
    :param on_release: called after :meth:`release` gave the lock back. When this object just goes, which may be in the
        middle of anything, it is put off until :func:`trim_after_readers`.
    """

    def __init__(self, path: Path, descriptor: int, on_release: Callable[[], None]) -> None:
        self.path = path
        self._lock = _Lock(descriptor)
        self._on_release = on_release
        # Closed, not unlocked: a descriptor that a forked child shares would be unlocked for both.
        self._finalizer = weakref.finalize(self, _let_go, self._lock, on_release)

    def release(self) -> None:
        """Let it be evicted; again is no error."""
        if self._finalizer.detach() is not None:
            self._lock.close()
            self._on_release()

    def while_lives(self, reader: _T) -> _T:
        """Hold the folder until ``reader`` is gone, and return it: what is loaded may read its files at any time."""
        weakref.finalize(reader, self._forget_after)
        return reader

    def _forget_after(self) -> None:
        """Keep this object: that a reader's finalizer refers to it is what holds the folder."""

    def __enter__(self) -> Path:
        return self.path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class _Lock:
    """A descriptor that is closed once, and not in a child that was forked meanwhile."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor
        _locks.add(self)

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


_locks: weakref.WeakSet[_Lock] = weakref.WeakSet()
_for_life: dict[Path, HeldFolder] = {}
_put_off: deque[Callable[[], None]] = deque()  # appended to while objects are collected, so nothing that takes a lock


def _let_go(lock: _Lock, on_release: Callable[[], None]) -> None:
    lock.close()
    _put_off.append(on_release)


def trim_after_readers() -> None:
    """
    Do what was put off when readers just went: bring their caches under their bounds.

    Called where this process lets models go and where it begins to hold a folder; never while it waits for one.
    """
    due: dict[Callable[[], None], None] = {}
    while _put_off:
        due[_put_off.popleft()] = None
    for act in due:
        act()


def hold_name(folder: Path) -> str:
    """Return the name of a folder's lock."""
    return f"held-{folder.name}"


def hold(places: Places, folder: Path, on_release: Callable[[], None]) -> HeldFolder:
    """Hold a folder, which need not exist yet. Whoever calls it shares the lock of eviction meanwhile."""
    descriptor = places.open_lock(hold_name(folder))
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    except BaseException:
        os.close(descriptor)
        raise
    return HeldFolder(folder, descriptor, on_release)


def hold_for_life(held: HeldFolder) -> None:
    """Hold a folder until this process ends: its path was given to somebody who need not say when he is done."""
    _for_life.setdefault(held.path, held)


def _drop_in_child() -> None:
    _for_life.clear()
    _put_off.clear()
    for lock in list(_locks):
        lock.close()


os.register_at_fork(after_in_child=_drop_in_child)
