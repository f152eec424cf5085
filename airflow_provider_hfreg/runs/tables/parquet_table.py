"""
Parquet: rows by number over row groups, streamed by batches; only the columns that are read are fetched.

Dictionary columns come as their values, and all kinds of strings as one, so that files of different tools agree.
A range reads its row groups from their beginning, since a row group can be entered only there: with row groups much
longer than a shard, what lies before is decoded and dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from airflow_provider_hfreg.errors import InputFormatError
from airflow_provider_hfreg.runs.tables.base import FileScan, ReadSchema, RowRange, TableReader
from airflow_provider_hfreg.runs.tables.ranges import even_ranges
from airflow_provider_hfreg.runs.tables.windows import TableWindow
from airflow_provider_hfreg.storage.base import ObjectState, ObjectStore

_BATCH_ROWS = 4096
_BATCH_BYTES = 16 * 2**20
_BUFFER_BYTES = 2**20


class ParquetReader(TableReader):
    """Reads Parquet."""

    def scan(self, store: ObjectStore, key: str, size_bytes: int, *, rows_per_range: int) -> FileScan:  # noqa: ARG002
        """See the base class; reads the footer alone."""
        with _opened(store, key) as file:
            names = file.schema_arrow.names
            doubled = sorted({name for name in names if names.count(name) > 1})
            if doubled:
                raise InputFormatError(f"{store.location(key)}: two columns have the same name: {doubled[0]!r}.")
            columns = {column.name: plain_type(column.type) for column in file.schema_arrow}
            return FileScan(columns, even_ranges(file.metadata.num_rows, rows_per_range))

    def join_columns(self, one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
        """See the base class; Parquet states its types, so only equal ones agree (null with any)."""
        if one == other or pa.types.is_null(other):
            return one
        return other if pa.types.is_null(one) else None

    def read(
        self,
        store: ObjectStore,
        key: str,
        piece: RowRange,
        schema: ReadSchema,
        *,
        header: tuple[str, ...],  # noqa: ARG002 - a Parquet file names its columns itself
        first_row: int,
        state: ObjectState | None = None,
    ) -> Iterator[TableWindow]:
        """See the base class."""
        with _opened(store, key, state) as file:
            row = first_row
            for batch in _batches(file, piece, schema.schema):
                yield TableWindow(batch, np.arange(row, row + batch.num_rows))
                row += batch.num_rows


def plain_type(dtype: pa.DataType) -> pa.DataType:
    """
    Return the type that a column is read as.

    >>> plain_type(pa.dictionary(pa.int8(), pa.large_string())), plain_type(pa.timestamp("us"))
    (DataType(string), TimestampType(timestamp[us]))
    """
    if pa.types.is_dictionary(dtype):
        return plain_type(dtype.value_type)
    if pa.types.is_large_string(dtype) or pa.types.is_string_view(dtype):
        return pa.string()
    return dtype


@contextmanager
def _opened(store: ObjectStore, key: str, state: ObjectState | None = None) -> Iterator[pq.ParquetFile]:
    """Open a file, and tell its errors apart from the store's: a broken file stays broken."""
    try:
        # Without pre_buffer and with a small buffer a column is streamed, not held in memory as a whole.
        with (
            store.open_reader(key, state=state) as reader,
            pq.ParquetFile(reader, pre_buffer=False, buffer_size=_BUFFER_BYTES) as file,
        ):
            yield file
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputFormatError(f"{store.location(key)} cannot be read as Parquet: {error}") from error


def _batches(file: pq.ParquetFile, piece: RowRange, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    groups, skipped = groups_of_rows([file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)], piece)
    wanted = piece.rows
    for batch in file.iter_batches(_batch_rows(file, schema), row_groups=groups, columns=schema.names):
        kept = batch.slice(skipped, wanted) if skipped < batch.num_rows else batch.slice(0, 0)
        skipped = max(0, skipped - batch.num_rows)
        wanted -= kept.num_rows
        if kept.num_rows:
            yield pa.RecordBatch.from_arrays([kept.column(c.name).cast(c.type) for c in schema], schema=schema)
        if not wanted:
            return


def groups_of_rows(group_rows: list[int], piece: RowRange) -> tuple[list[int], int]:
    """
    Return the row groups that hold a range, and how many rows of the first come before it.

    >>> groups_of_rows([10, 10, 10], RowRange(first_row=12, rows=8))
    ([1], 2)
    """
    ends = np.cumsum(group_rows)
    first, last = np.searchsorted(ends, [piece.first_row, piece.first_row + piece.rows - 1], side="right")
    before = int(ends[first - 1]) if first else 0
    return list(range(int(first), int(last) + 1)), piece.first_row - before


def _batch_rows(file: pq.ParquetFile, schema: pa.Schema) -> int:
    """Return how many rows to decode at once: fewer where the columns that are read are wide."""
    wanted = set(schema.names)
    total = 0
    for group in range(file.num_row_groups):
        meta = file.metadata.row_group(group)
        chunks = (meta.column(place) for place in range(meta.num_columns))
        total += sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema.split(".")[0] in wanted)
    row_bytes = max(1, int(total) // max(1, int(file.metadata.num_rows)))
    return max(1, min(_BATCH_ROWS, _BATCH_BYTES // row_bytes))
