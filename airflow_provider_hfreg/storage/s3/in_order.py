"""Work done by several threads whose results are wanted in order, with a bound on what is held meanwhile."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_T = TypeVar("_T")
_AHEAD = 2  # done or waiting beyond those under way: no thread idles while the first result is used


def in_order(
    tasks: Iterable[Callable[[], _T]], *, threads: int, at_first: int | None = None
) -> Generator[_T, None, None]:
    """
    Do tasks side by side and yield their results in the tasks' order.

    >>> list(in_order((lambda number=number: number * number for number in range(5)), threads=2))
    [0, 1, 4, 9, 16]

    The next task is taken when the one before it was handed to a thread, so ``tasks`` may be a generator that works
    beside them. After the first failure nothing more is begun, and its error is raised once what was begun has ended.

    :param threads: at once; ``threads`` + 3 results are held at most.
    :param at_first: so many are held at first, and one more whenever a result but the first has to be waited for. So
        what is used faster than it is done is done by all threads, and what is not takes no core from its user.
        Default: as many as are ever held.
    """
    most = threads + _AHEAD + 1
    held = most if at_first is None else min(at_first, most)
    with ThreadPoolExecutor(threads) as pool:
        running: deque[Future[_T]] = deque()
        used = 0
        try:
            for task in tasks:
                running.append(pool.submit(task))
                if len(running) >= held:
                    first = running.popleft()
                    if used and not first.done():
                        held = min(held + 1, most)
                    yield first.result()
                    used += 1
            while running:
                yield running.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
