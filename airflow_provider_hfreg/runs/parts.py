"""The local Parquet files of one attempt at a shard: results, and the quarantined rows beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_GROUP_ROWS = 64 * 2**10
_GROUP_BYTES = 64 * 2**20


class ParquetPart:
    """
    A Parquet file written by windows, with row groups of a useful size: what is held in memory is one of them.

    :param path: written when the first row group is full, or at :meth:`finish`.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._schema = schema
        dictionaries = [leaf for field in schema for leaf in _dictionary_leaves(field.name, field.type)]
        # An empty list would read as "for every column".
        self._writer = pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=dictionaries or False)
        self._held: list[pa.RecordBatch] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def add(self, batch: pa.RecordBatch) -> None:
        """Take a window's rows."""
        self._held.append(batch)
        rows = sum(held.num_rows for held in self._held)
        if rows >= _GROUP_ROWS or sum(held.nbytes for held in self._held) >= _GROUP_BYTES:
            self._flush()

    def finish(self, metadata: Mapping[str, str] | None = None) -> None:
        """Write what is held, and the key-value metadata of the footer."""
        self._flush()
        if metadata:
            self._writer.add_key_value_metadata(dict(metadata))

    def _flush(self) -> None:
        if self._held:
            self._writer.write_table(pa.Table.from_batches(self._held, schema=self._schema))
            self._held = []


def _dictionary_leaves(path: str, kind: pa.DataType) -> Iterator[str]:
    """
    Yield the Parquet columns of an Arrow column that are worth a dictionary: all but floating-point numbers.

    Scores and embeddings hardly repeat: a dictionary of them is built, grows too large, is given up, and stays in the
    file, a tenth of its size. They are stored plain, which every reader reads; Parquet's own encoding for them,
    BYTE_STREAM_SPLIT, is smaller still, and Spark's vectorised reader refuses it.

    >>> list(_dictionary_leaves("a", pa.list_(pa.struct([("label", pa.string()), ("score", pa.float64())]))))
    ['a.list.element.label']
    """
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        yield from _dictionary_leaves(f"{path}.list.element", kind.value_type)
    elif pa.types.is_struct(kind):
        for field in kind:
            yield from _dictionary_leaves(f"{path}.{field.name}", field.type)
    elif pa.types.is_map(kind):
        yield from _dictionary_leaves(f"{path}.key_value.key", kind.key_type)
        yield from _dictionary_leaves(f"{path}.key_value.value", kind.item_type)
    elif not pa.types.is_floating(kind):
        yield path


@dataclass(frozen=True)
class QuarantinedRow:
    """
    A row without a result.

    :param row: its number in the whole input, from 0.
    :param file: URL of the input file, and ``file_row`` its number there.
    :param raw: its text in the file where it could not be read; None where it could, and ``place`` tells where it is.
    :param place: position in the window's batch.
    """

    row: int
    file: str
    file_row: int
    code: str
    message: str
    column: str | None
    raw: str | None = None
    place: int | None = None


def errors_schema(read: pa.Schema) -> pa.Schema:
    """
    Return the schema of quarantined rows: why, where, and the row itself.

    ``values`` is a struct of the columns that were read, apart from ours so that no name can clash.
    """
    return pa.schema(
        [
            ("row", pa.int64()),
            ("file", pa.string()),
            ("file_row", pa.int64()),
            ("code", pa.string()),
            ("message", pa.string()),
            ("column", pa.string()),
            ("raw", pa.string()),
            ("values", pa.struct(list(read))),
        ]
    )


def errors_batch(rows: Sequence[QuarantinedRow], batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return quarantined rows of one window as columns; ``batch`` holds the window's readable rows."""
    places = pa.array([row.place for row in rows], pa.int64())
    taken = batch.take(places)  # null where there is no place
    unread = pa.array(np.array([row.place is None for row in rows]))
    values = pa.StructArray.from_arrays(taken.columns, fields=list(batch.schema), mask=unread)
    names = ("row", "file", "file_row", "code", "message", "column", "raw")
    schema = errors_schema(batch.schema)
    columns = [pa.array([getattr(row, name) for row in rows], schema.field(name).type) for name in names]
    return pa.RecordBatch.from_arrays([*columns, values], schema=schema)
