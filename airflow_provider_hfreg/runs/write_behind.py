"""Writing while the model runs: a thread that is one result behind, and no further."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

T = TypeVar("T")


class WriteBehind(Generic[T]):
    """
    Hand things to a function in another thread, one at a time and in order.

    An error of the function is raised at the next thing, or at :meth:`wait`.

    >>> kept = []
    >>> with WriteBehind(kept.append) as behind:
    ...     behind.add(1)
    ...     behind.add(2)
    ...     behind.wait()
    >>> kept
    [1, 2]
    """

    def __init__(self, write: Callable[[T], Any]) -> None:
        self._write = write
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hfreg-write-behind")
        self._under_way: Future[Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown()  # what is written to must not be closed under it

    def add(self, thing: T) -> None:
        """Begin with the next one, once the one before is done."""
        self.wait()
        self._under_way = self._thread.submit(contextvars.copy_context().run, self._write, thing)

    def wait(self) -> None:
        """Return once all is done."""
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.result()
