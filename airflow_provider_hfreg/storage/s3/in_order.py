"""Work done by several threads whose results are wanted in order, with a bound on what is held meanwhile."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_T = TypeVar("_T")
_AHEAD = 2  # no thread idles while the first result is used


def in_order(tasks: Iterable[Callable[[], _T]], *, threads: int, ahead: int = _AHEAD) -> Generator[_T, None, None]:
    """
    Do tasks side by side and yield their results in the tasks' order.

    >>> list(in_order((lambda number=number: number * number for number in range(5)), threads=2))
    [0, 1, 4, 9, 16]

    The next task is taken when the one before it was handed to a thread, so ``tasks`` may be a generator that works
    beside them. After the first failure nothing more is begun, and its error is raised once what was begun has ended.

    :param threads: at once.
    :param ahead: results done or waiting beyond those under way: ``threads`` + ``ahead`` + 1 are held at most.
    """
    with ThreadPoolExecutor(threads) as pool:
        running: deque[Future[_T]] = deque()
        try:
            for task in tasks:
                running.append(pool.submit(task))
                if len(running) > threads + ahead:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
