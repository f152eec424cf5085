"""Reading while the model runs: a thread that stays a few windows ahead, and no further."""

from __future__ import annotations

import contextlib
import contextvars
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
_POLL_S = 0.1


class ReadAhead(Generic[T]):
    """
    Iterate over something in another thread, at most ``depth`` results ahead.

    An error of the source is raised where its result would have come. Closing stops the thread after the result it is
    at, closes the source there, and ends the iteration of whoever is at it. The thread is a daemon: a read that hangs
    does not keep the process.

    >>> with ReadAhead(range(3), depth=1) as numbers:
    ...     list(numbers)
    [0, 1, 2]

    :param waiting: called several times a second while a result is awaited; may raise.
    """

    def __init__(self, source: Iterable[T], *, depth: int = 2, waiting: Callable[[], None] | None = None) -> None:
        self._source = source
        self._waiting = waiting
        self._results: queue.Queue[tuple[bool, T | BaseException | None]] = queue.Queue(depth)
        self._closed = threading.Event()
        context = contextvars.copy_context()  # its lines belong to the log of whoever started it
        self._thread = threading.Thread(target=context.run, args=(self._read,), name="hfreg-read-ahead", daemon=True)
        self._thread.start()

    def __enter__(self) -> ReadAhead[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[T]:
        while True:
            is_result, value = self._next()
            if is_result:
                yield value  # type: ignore[misc]  # a result, by its flag
            elif isinstance(value, BaseException):
                raise value
            else:
                return

    def _next(self) -> tuple[bool, T | BaseException | None]:
        while not self._closed.is_set():
            with contextlib.suppress(queue.Empty):
                return self._results.get(timeout=_POLL_S)
            if self._waiting is not None:
                self._waiting()
        return False, None  # nobody brings anything any more: who waits in another thread must not wait for ever

    def close(self) -> None:
        """Stop reading."""
        self._closed.set()
        self._thread.join(timeout=_POLL_S)

    def _read(self) -> None:
        try:
            for value in self._source:
                self._offer((True, value))
                if self._closed.is_set():
                    break
        except BaseException as error:  # noqa: BLE001 - whatever it is, the reader's thread is no place to end in
            self._offer((False, error))
        else:
            self._offer((False, None))
        finally:
            close = getattr(self._source, "close", None)
            if close is not None:
                close()

    def _offer(self, result: tuple[bool, T | BaseException | None]) -> None:
        while not self._closed.is_set():
            with contextlib.suppress(queue.Full):
                self._results.put(result, timeout=_POLL_S)
                return
