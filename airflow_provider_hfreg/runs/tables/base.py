"""
What the formats have in common: a file is scanned once when a run is planned, and read by ranges when it is executed.

Scanning tells the columns, their types and where the ranges lie. From then on the types are fixed for the whole run,
and the output has one schema however many shards, workers and retries there are. A cell that does not fit the feature
that reads it is its row's error; a column that no feature reads has a type that all of its cells fit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from airflow_provider_hfreg.runs.tables.windows import TableWindow
from airflow_provider_hfreg.storage.base import ObjectState, ObjectStore


@dataclass(frozen=True)
class RowRange:
    """
    Consecutive rows of one file.

    :param first_row: number of the first in the file, from 0.
    :param start_byte: of the first row's text, and ``end_byte`` after the last one's; 0 and 0 for Parquet.
    """

    first_row: int
    rows: int
    start_byte: int = 0
    end_byte: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the range as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class FileScan:
    """
    What planning learns of one file.

    :param columns: name → type, in the file's order. ``pa.null()``: no value was seen.
    :param ranges: all rows of the file, none of the ranges longer than was asked for.
    :param header: the names in a CSV file's first record, which its ranges do not repeat.
    :param is_open: more columns may come than were seen, as in JSONL; or no column was seen at all.
    """

    columns: Mapping[str, pa.DataType]
    ranges: tuple[RowRange, ...]
    header: tuple[str, ...] = ()
    is_open: bool = False

    @property
    def rows(self) -> int:
        """Rows of the file."""
        return sum(piece.rows for piece in self.ranges)


@dataclass(frozen=True)
class ReadSchema:
    r"""
    Which columns to read and as what.

    :param schema: the columns, those passed through first.
    :param as_text: columns of CSV and JSONL that no feature reads. Where one is planned as text, all its cells are: a
        JSON value that is no text as its JSON, bytes that are no UTF-8 as ``\xff``.
    """

    schema: pa.Schema
    as_text: frozenset[str] = field(default_factory=frozenset)


class TableReader(ABC):
    """One format. Stateless; holds no file open between calls."""

    @abstractmethod
    def scan(self, store: ObjectStore, key: str, size_bytes: int, *, rows_per_range: int) -> FileScan:
        """
        Return what a file holds.

        :raises InputFormatError: the file is not of this format.
        """

    @abstractmethod
    def join_columns(self, one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
        """Return the type of a column that two files give differently, or None where they disagree."""

    @abstractmethod
    def read(
        self,
        store: ObjectStore,
        key: str,
        piece: RowRange,
        schema: ReadSchema,
        *,
        header: tuple[str, ...],
        first_row: int,
        state: ObjectState | None = None,
    ) -> Iterator[TableWindow]:
        """
        Yield the rows of a range in order, in bounded memory.

        :param header: of the file, from its scan.
        :param first_row: the range's first row's number in the whole input.
        :param state: of the file; rows of another one are never yielded.
        :raises ObjectChangedError: the file has another state.
        :raises InputFormatError: the file is not what it was when it was scanned.
        """
