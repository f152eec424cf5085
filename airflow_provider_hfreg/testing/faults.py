"""
A store that fails on purpose: what a kill, a dropped answer or a full server does to a protocol, at a chosen call.

.. code-block:: python

    faults = Faults(Fault("put_if_absent", call=1, when="after", act=raising(StorageUnavailableError("answer lost"))))
    store = FaultyStore(LocalStore(url), faults)

A fault *before* the call leaves the store untouched; one *after* it happened although the caller is told otherwise: a
lost answer. ``act`` may be anything: raise, ``os._exit`` (a kill), sleep, wait for another thread, change the object.
Calls are counted per operation and over all, under a lock, also through stores made by ``below``. The wrapped store is
a real one: nothing is imitated but the fault.
"""

from __future__ import annotations

import os
import resource
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, NoReturn, TypeVar

from airflow_provider_hfreg.storage.base import ObjectInfo, ObjectState, ObjectStore, OnBytes

ANY = "*"
"""As an operation: every one of them, counted together."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class Fault:
    """
    What happens, and at which call.

    :param operation: a method of the store, such as ``put``, or :data:`ANY`.
    :param call: the how-manieth call of it, from 1; None: every one.
    :param when: ``before`` the store is asked, or ``after``: done, but the answer is lost.
    :param act: called; what it raises, the caller sees.
    :param key: only calls for keys that contain this text are counted.
    """

    operation: str
    act: Callable[[], object]
    call: int | None = 1
    when: Literal["before", "after"] = "before"
    key: str = ""

    def concerns(self, operation: str, key: str) -> bool:
        """Tell whether such a call is counted for this fault."""
        return self.operation in (operation, ANY) and self.key in key


class Faults:
    """The faults to come, and the calls counted so far; shared by every store below one root."""

    def __init__(self, *faults: Fault) -> None:
        self.calls: Counter[str] = Counter()
        self.log: list[tuple[str, str]] = []
        self._faults = faults
        self._counts: Counter[int] = Counter()
        self._lock = threading.Lock()

    def due(self, operation: str, key: str) -> list[Fault]:
        """Count a call and return the faults that it meets."""
        with self._lock:
            self.calls[operation] += 1
            self.log.append((operation, key))
            concerned = [number for number, fault in enumerate(self._faults) if fault.concerns(operation, key)]
            self._counts.update(concerned)
            return [self._faults[number] for number in concerned if self._meets(number)]

    def _meets(self, number: int) -> bool:
        call = self._faults[number].call
        return call is None or call == self._counts[number]


def raising(error: BaseException) -> Callable[[], NoReturn]:
    """Return an act that raises ``error``."""

    def act() -> NoReturn:
        raise error

    return act


@contextmanager
def files_hold_at_most(size_bytes: int) -> Iterator[None]:
    """
    Let no file that this process writes grow beyond a size: a disk without room, to all who reserve or write.

    :raises OSError: in whoever does so meanwhile, "File too large".
    """
    allowed = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, allowed[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, allowed)


def kill() -> NoReturn:
    """End this process as ``kill -9`` does: nothing is flushed, no ``finally`` runs."""
    os._exit(137)


class FaultyStore(ObjectStore):
    """
    A store around another one, with faults.

    :param store: does the work.
    :param faults: when to fail; without any it only counts calls.
    """

    def __init__(self, store: ObjectStore, faults: Faults | None = None) -> None:
        self.store = store
        self.faults = faults or Faults()
        self.url = store.url

    def _call(self, operation: str, key: str, ask: Callable[[], _T]) -> _T:
        due = self.faults.due(operation, key)
        for fault in due:
            if fault.when == "before":
                fault.act()
        answer = ask()
        for fault in due:
            if fault.when == "after":
                fault.act()
        return answer

    def location(self, key: str) -> str:
        """Return the full URL of a key."""
        return self.store.location(key)

    def get(self, key: str, *, start: int = 0, length: int | None = None, etag: str | None = None) -> bytes:
        """Counted by its name."""
        return self._call("get", key, lambda: self.store.get(key, start=start, length=length, etag=etag))

    def get_with_etag(self, key: str) -> tuple[bytes, str]:
        """Counted by its name."""
        return self._call("get_with_etag", key, lambda: self.store.get_with_etag(key))

    def find_info(self, key: str) -> ObjectInfo | None:
        """Counted by its name."""
        return self._call("find_info", key, lambda: self.store.find_info(key))

    def list_infos(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Counted by its name, when the first is asked for."""
        yield from self._call("list_infos", prefix, lambda: list(self.store.list_infos(prefix)))

    def list_names(self, folder: str = "") -> Iterator[str]:
        """Counted by its name, when the first is asked for."""
        yield from self._call("list_names", folder, lambda: list(self.store.list_names(folder)))

    def open_reader(self, key: str, *, state: ObjectState | None = None) -> BinaryIO:
        """Counted by its name; reading is not counted."""
        return self._call("open_reader", key, lambda: self.store.open_reader(key, state=state))

    def download(
        self,
        key: str,
        path: Path,
        *,
        on_bytes: OnBytes | None = None,
        digest: str | None = None,
        size_bytes: int | None = None,
    ) -> None:
        """Counted by its name."""
        self._call(
            "download",
            key,
            lambda: self.store.download(key, path, on_bytes=on_bytes, digest=digest, size_bytes=size_bytes),
        )

    def put(self, key: str, content: bytes) -> None:
        """Counted by its name."""
        self._call("put", key, lambda: self.store.put(key, content))

    def put_if_absent(self, key: str, content: bytes | Path) -> str:
        """Counted by its name."""
        return self._call("put_if_absent", key, lambda: self.store.put_if_absent(key, content))

    def replace_if_match(self, key: str, content: bytes, etag: str) -> str:
        """Counted by its name."""
        return self._call("replace_if_match", key, lambda: self.store.replace_if_match(key, content, etag))

    def upload(self, key: str, path: Path, *, on_bytes: OnBytes | None = None, digest: str | None = None) -> None:
        """Counted by its name."""
        self._call("upload", key, lambda: self.store.upload(key, path, on_bytes=on_bytes, digest=digest))

    def copy(self, source_key: str, target_key: str) -> None:
        """Counted by its name, under the target's key."""
        self._call("copy", target_key, lambda: self.store.copy(source_key, target_key))

    def can_copy_from(self, source: ObjectStore) -> bool:
        """Not counted: it asks nothing."""
        return self.store.can_copy_from(source)

    def copy_from(self, source: ObjectStore, source_key: str, target_key: str) -> bool:
        """Counted by its name, under the target's key."""
        return self._call("copy_from", target_key, lambda: self.store.copy_from(source, source_key, target_key))

    def delete(self, keys: Iterable[str]) -> None:
        """Counted by its name, once, under all keys joined by spaces."""
        names = list(keys)
        self._call("delete", " ".join(names), lambda: self.store.delete(names))

    @property
    def unwrapped(self) -> ObjectStore:
        """The store that does the work."""
        return self.store.unwrapped

    def below(self, folder: str) -> FaultyStore:
        """Shares the faults and their counts."""
        return FaultyStore(self.store.below(folder), self.faults)
