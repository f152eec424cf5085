"""
Rows that lie in no file yet: those of the call itself, and Arrow batches that somebody streams, such as a query's.

A source tells its question (what is asked for, as a digest) before anything is read, and gives its rows as local
Parquet or JSONL files of bounded size; :mod:`airflow_provider_hfreg.runs.staging` stores them. It knows no database.

Invariants:

- Memory holds some batches, the disk some pieces, whatever the table's size.
- All pieces of a stream have one schema in the end. A column that is null at first takes the type of its first value,
  whole numbers become decimal ones where a decimal one follows; any other change of a type is an error that names the
  column and the value, because a conversion would change values that were written already.
"""

from __future__ import annotations

import datetime as dt
import decimal
import hashlib
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from airflow_provider_hfreg.errors import InputFormatError, InvalidRunOptionError
from airflow_provider_hfreg.runs.tables.cells import shortened

MOST_GIVEN_BYTES = 16 * 2**20
_PIECE_ROWS = 250_000
_PIECE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Piece:
    """
    Some rows of a source as a local file.

    :param schema: of a Parquet file; a later piece's may be wider.
    """

    path: Path
    rows: int
    schema: pa.Schema | None = None


class RowSource(Protocol):
    """Rows to be staged before a run is planned."""

    what: str
    """In words, for messages and logs; holds no secret."""
    question: str
    """Hex digest of what is asked for: a retry with the same question gets the rows that were staged for it."""

    @property
    def rows_read(self) -> int:
        """How many rows were read so far; may be asked from another thread."""

    def pieces(self, folder: Path) -> Iterator[Piece]:
        """Yield the rows as files of different names below ``folder``, in order; at least one."""

    def check(self) -> None:
        """
        Be asked several times a second while rows are awaited.

        :raises RunCancelledError: the run is to stop.
        """

    def cancel(self) -> None:
        """Stop reading, from another thread than the one that reads."""


class GivenRows:
    r"""
    Rows given by value, for some thousands of them: they become JSON lines, and are read as any JSONL file is.

    A missing key is null, a value of the wrong type is its row's error, and so is a row that is no mapping.

    >>> GivenRows([{"text": "good"}, {"text": None}]).content
    b'{"text": "good"}\n{"text": null}\n'

    :param rows: mappings of column names to values that JSON has, or dates, times, decimals and UUIDs, which become
        their text.
    :raises InvalidRunOptionError: another kind of value, or more than 16 MiB of JSON.
    """

    def __init__(self, rows: Sequence[Any]) -> None:
        lines = []
        size_bytes = 0
        for number, row in enumerate(rows):
            lines.append(_json_line(row, number))
            size_bytes += len(lines[-1])
            if size_bytes > MOST_GIVEN_BYTES:
                raise InvalidRunOptionError(
                    f"The rows given in the call are more than {MOST_GIVEN_BYTES // 2**20} MiB of JSON from row "
                    f"{number} of {len(rows)} on: they would pass through the task's fields and XCom. Write them to a "
                    "table (Parquet, CSV or JSONL) and give its URL as input."
                )
        self.content = b"".join(lines)
        self.what = f"{len(rows):,} rows of the call"
        self.question = hashlib.sha256(self.content).hexdigest()
        self.rows_read = len(rows)

    def pieces(self, folder: Path) -> Iterator[Piece]:
        """Yield all rows as one file."""
        path = folder / "rows.jsonl"
        path.write_bytes(self.content)
        yield Piece(path, self.rows_read)

    def check(self) -> None:
        """There is nothing to wait for."""

    def cancel(self) -> None:
        """There is nothing to stop."""


def _json_line(row: Any, number: int) -> bytes:
    try:
        text = json.dumps(row, default=_as_text, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRunOptionError(
            f"Row {number} of the rows given in the call holds what no table does: {error}. Give texts, numbers, "
            "booleans, None, and lists or mappings of them."
        ) from None
    try:
        return f"{text}\n".encode()
    except UnicodeEncodeError:  # a lone surrogate can only be written as an escape
        return f"{json.dumps(row, default=_as_text)}\n".encode()


def _as_text(value: Any) -> str:
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal | uuid.UUID):
        return str(value)
    raise TypeError(f"{shortened(value)} is of type {type(value).__name__}")


class ArrowRows:
    """
    Rows that are streamed as Arrow batches, such as those of a query.

    :param what: in words, for messages.
    :param question: digest of what is asked for.
    :param batches: begins the stream; called in a thread of its own, which alone touches what it gives. At least one
        batch, which may have no rows.
    :param check: raises where the run is to stop.
    :param cancel: ends a stream that waits, from another thread.
    """

    def __init__(
        self,
        what: str,
        question: str,
        batches: Callable[[], Iterable[pa.RecordBatch]],
        *,
        check: Callable[[], None] = lambda: None,
        cancel: Callable[[], None] = lambda: None,
    ) -> None:
        self.what, self.question = what, question
        self.check, self.cancel = check, cancel
        self._batches = batches
        self.rows_read = 0

    def pieces(self, folder: Path) -> Iterator[Piece]:
        """Yield the rows as Parquet files."""
        return parquet_pieces(self._counted(), folder, what=self.what)

    def _counted(self) -> Iterator[pa.RecordBatch]:
        for batch in self._batches():
            yield batch
            self.rows_read += batch.num_rows


def parquet_pieces(batches: Iterable[pa.RecordBatch], folder: Path, *, what: str) -> Iterator[Piece]:
    """
    Yield a stream as Parquet files, a new one where the last is full or a column's type grows.

    A batch is a row group: a shard that begins inside a piece decodes little of what lies before it.

    :raises InputFormatError: a column changes its type in a way that loses something, or two have one name.
    """
    stream = iter(batches)
    batch = next(stream, None)
    schema = pa.schema([])
    number = 0
    while batch is not None:
        path = folder / f"{number:05d}.parquet"
        schema = grown_schema(schema, batch, what=what)
        rows = size_bytes = 0
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            while batch is not None and rows < _PIECE_ROWS and size_bytes < _PIECE_BYTES:
                if rows and grown_schema(schema, batch, what=what) != schema:
                    break
                writer.write_batch(cast_batch(batch, schema, what=what))
                rows += batch.num_rows
                size_bytes += batch.nbytes
                batch = next(stream, None)
        yield Piece(path, rows, schema)
        number += 1


def grown_schema(schema: pa.Schema, batch: pa.RecordBatch, *, what: str) -> pa.Schema:
    """
    Return the narrowest schema that holds what was read so far and a batch.

    >>> def batch(*values): return pa.record_batch({"n": pa.array(values)})
    >>> first = grown_schema(pa.schema([]), batch(None), what="the query")
    >>> second = grown_schema(first, batch(1), what="the query")
    >>> grown_schema(second, batch(0.5), what="the query").field("n").type
    DataType(double)

    :raises InputFormatError: there is none.
    """
    names = batch.schema.names
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise InputFormatError(
            f"Two columns of {what} have the same name: {doubled[0]!r}. Give one of them another name."
        )
    if not schema.names:
        return batch.schema
    return pa.schema(
        [(column.name, _grown_type(schema.field(column.name).type, column, batch, what)) for column in batch.schema]
    )


def _grown_type(known: pa.DataType, column: pa.Field, batch: pa.RecordBatch, what: str) -> pa.DataType:
    if column.type == known or pa.types.is_null(column.type):
        return known
    if pa.types.is_null(known):
        return column.type
    if {known, column.type} == {pa.int64(), pa.float64()}:
        return pa.float64()
    value = batch.column(column.name).drop_null()[0].as_py()
    raise InputFormatError(
        f"The column {column.name!r} of {what} was {known} so far and is {column.type} in {shortened(value)}. A column "
        "of a table has one type: cast it to one, such as text."
    )


def cast_batch(batch: pa.RecordBatch, schema: pa.Schema, *, what: str) -> pa.RecordBatch:
    """
    Return a batch in a wider schema.

    :raises InputFormatError: a whole number that is no double.
    """
    try:
        return pa.RecordBatch.from_arrays([batch.column(c.name).cast(c.type) for c in schema], schema=schema)
    except pa.ArrowInvalid as error:
        raise InputFormatError(
            f"A column of {what} holds decimal numbers and whole ones that are too large to be one: {error}. Cast it "
            "to one type, such as text."
        ) from error
