"""Cutting a file into ranges of rows while its records go by."""

from __future__ import annotations

from airflow_provider_hfreg.runs.tables.base import RowRange
from airflow_provider_hfreg.runs.tables.records import RecordBlock


class RangeCutter:
    """
    Turns a stream of record blocks into ranges of at most ``rows_per_range`` rows.

    Blank lines before a row belong to its range, those after the last row to none.
    """

    def __init__(self, rows_per_range: int, start_byte: int) -> None:
        self._rows_per_range = rows_per_range
        self._start_byte = start_byte
        self._end_byte = start_byte
        self._rows = 0  # before the current block
        self._ranges: list[RowRange] = []

    def add(self, block: RecordBlock) -> None:
        """Take the next block of the file."""
        ends = block.records.ends[~block.records.blank]
        if not len(ends):
            return
        # The k-th range ends with row k × rows_per_range.
        first_cut = (len(self._ranges) + 1) * self._rows_per_range - self._rows - 1
        for end in ends[first_cut :: self._rows_per_range]:
            self._close(block.offset + int(end), (len(self._ranges) + 1) * self._rows_per_range)
        self._rows += len(ends)
        self._end_byte = block.offset + int(ends[-1])

    def _close(self, end_byte: int, rows: int) -> None:
        first_row = len(self._ranges) * self._rows_per_range
        self._ranges.append(RowRange(first_row, rows - first_row, self._start_byte, end_byte))
        self._start_byte = end_byte

    def ranges(self) -> tuple[RowRange, ...]:
        """Return all ranges; the last may be shorter than the others."""
        if self._rows > len(self._ranges) * self._rows_per_range:
            self._close(self._end_byte, self._rows)
        return tuple(self._ranges)


def even_ranges(rows: int, rows_per_range: int) -> tuple[RowRange, ...]:
    """
    Return the ranges of a file whose rows are found by number.

    >>> [(piece.first_row, piece.rows) for piece in even_ranges(5, 2)]
    [(0, 2), (2, 2), (4, 1)]
    """
    return tuple(RowRange(first, min(rows_per_range, rows - first)) for first in range(0, rows, rows_per_range))
