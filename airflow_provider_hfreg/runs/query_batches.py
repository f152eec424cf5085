"""
A query's rows, fetched some at a time and joined into batches of about 8 MiB, whatever the rows' sizes.

How large the next rows are is known only once they are fetched. So few are fetched at a time: no more than 8 MiB of the
largest row seen so far, and never more than a hundred. Where rows become a thousand times larger from one to the next,
as where a result is ordered by length, memory holds a hundred of the new size once, and after that 8 MiB of them. A
larger step would save round trips that a model's own pace hides.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Row = Sequence[Any]

_FIRST_ROWS = 10
_MOST_FETCHED_ROWS = 100
_MOST_ROWS = 20_000
_MOST_BYTES = 8 * 2**20


def batches_of_rows(fetch: Callable[[int], Sequence[Any]]) -> Iterator[list[Row]]:
    """
    Yield all rows, in order, in batches of about 8 MiB; at least one batch, which is empty where there is no row.

    >>> [len(batch) for batch in batches_of_rows(lambda count, left=[()] * 25: [left.pop() for _ in left[:count]])]
    [25]

    :param fetch: returns up to so many of the next rows, and none at the end; a row that is a mapping is taken by its
        values.
    """
    batch: list[Row] = []
    size_bytes = largest_bytes = 0
    is_first, rows = True, _FIRST_ROWS
    while fetched := [tuple(row.values()) if isinstance(row, Mapping) else row for row in fetch(rows)]:
        sizes = [size_of(row) for row in fetched]
        batch += fetched
        size_bytes += sum(sizes)
        largest_bytes = max(largest_bytes, *sizes)
        if size_bytes >= _MOST_BYTES or len(batch) >= _MOST_ROWS:
            yield batch
            batch, size_bytes, is_first = [], 0, False
        rows = next_rows(len(fetched), largest_bytes)
    if batch or is_first:
        yield batch


def next_rows(rows: int, largest_bytes: int) -> int:
    """
    Return how many rows to fetch next: at most twice as many as before, and 8 MiB of the largest seen so far.

    >>> next_rows(10, 50_000), next_rows(80, 50_000), next_rows(80, 2**20), next_rows(1, 2**30)
    (20, 100, 8, 1)
    """
    return max(1, min(2 * rows, _MOST_FETCHED_ROWS, _MOST_BYTES // max(1, largest_bytes)))


def size_of(value: Any) -> int:
    """
    Return about how many bytes a value takes in memory.

    >>> size_of("x" * 1000) // 1000, size_of(["x" * 1000, {"a": b"y" * 1000}]) // 1000
    (1, 2)
    """
    if isinstance(value, Mapping):
        return sum(size_of(inner) for inner in value.values())
    if isinstance(value, list | tuple):
        return sum(map(size_of, value))
    return value.nbytes if isinstance(value, memoryview) else sys.getsizeof(value)
