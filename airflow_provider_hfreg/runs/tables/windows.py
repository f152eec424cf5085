"""
Rows on their way from a file to the engine: a window of readable rows, and the unreadable ones as values.

Windows of one shard follow each other in the order of the input. A window's rows and its broken rows are different
rows; together they are all rows of a range of the input.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

WINDOW_BYTES = 32 * 2**20


@dataclass(frozen=True)
class BrokenRow:
    r"""
    A row that cannot be read.

    :param row: its number in the whole input, from 0.
    :param code: short and stable: ``field_count``, ``bad_value``, ``bad_encoding``, ``bad_json``, ``wrong_type``.
    :param raw: the text as it stands in the file, without its line end; bytes that are no UTF-8 as ``\xff``.
    """

    row: int
    code: str
    message: str
    column: str | None
    raw: str


@dataclass(frozen=True)
class TableWindow:
    """
    Consecutive rows of the input.

    :param batch: the readable ones, in the run's read schema.
    :param row: int64 [batch rows], ascending: their numbers in the whole input.
    :param broken: the others.
    """

    batch: pa.RecordBatch
    row: npt.NDArray[np.int64]
    broken: tuple[BrokenRow, ...] = ()

    @property
    def rows(self) -> int:
        """How many rows of the input this is."""
        return len(self.row) + len(self.broken)


def rewindow(windows: Iterable[TableWindow], rows: int) -> Iterator[TableWindow]:
    """
    Yield the same rows in windows of ``rows`` readable rows, or fewer where those are large.

    Small files and what is left of a block are joined, so that the engine gets full windows to sort by length.
    """
    held: list[TableWindow] = []
    for window in windows:
        for piece in _pieces(window, rows):
            if held and _is_full([*held, piece], rows):
                yield _joined(held)
                held = []
            held.append(piece)
    if held:
        yield _joined(held)


def _is_full(windows: list[TableWindow], rows: int) -> bool:
    count = sum(window.rows for window in windows)
    return count > rows or sum(window.batch.nbytes for window in windows) > WINDOW_BYTES


def _pieces(window: TableWindow, rows: int) -> Iterator[TableWindow]:
    broken = window.broken
    for start in range(0, max(1, len(window.row)), rows):
        yield TableWindow(window.batch.slice(start, rows), window.row[start : start + rows], broken)
        broken = ()


def _joined(windows: list[TableWindow]) -> TableWindow:
    if len(windows) == 1:
        return windows[0]
    return TableWindow(
        pa.concat_batches([window.batch for window in windows]),
        np.concatenate([window.row for window in windows]),
        tuple(row for window in windows for row in window.broken),
    )
