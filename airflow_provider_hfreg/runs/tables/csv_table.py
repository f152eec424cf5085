r"""
CSV: a header, then RFC 4180 records in UTF-8, separated by commas; a byte order mark is skipped.

- A blank line is no row. A line with another number of fields than the header is that row's error, as is a cell that
  does not fit the type of the feature that reads it; the raw text is kept.
- Columns that no feature reads are text, exactly as it stands: CSV has no types, and guessed ones change values
  (``1.10``, ``007``, ids of 18 digits) and are wrong about a later cell. Such a cell never costs its row; bytes in it
  that are no UTF-8 are written as ``\xff``.
- An empty cell is null, a quoted empty one (``""``) an empty text, as in PostgreSQL's ``COPY``; in a column of another
  type both are null.
- Scanning walks through every file once, because only so can ranges be exact in rows.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv

from airflow_provider_hfreg.errors import InputFormatError
from airflow_provider_hfreg.runs.tables.base import FileScan, ReadSchema, RowRange, TableReader
from airflow_provider_hfreg.runs.tables.cells import CellError, texts_of, typed_texts
from airflow_provider_hfreg.runs.tables.ranges import RangeCutter
from airflow_provider_hfreg.runs.tables.records import RecordBlock, csv_field_counts, csv_records, record_blocks
from airflow_provider_hfreg.runs.tables.windows import BrokenRow, TableWindow
from airflow_provider_hfreg.storage.base import ObjectState, ObjectStore

_BOM = b"\xef\xbb\xbf"
_HEADER_BLOCK_BYTES = 64 * 2**10


class CsvReader(TableReader):
    """Reads CSV."""

    def scan(self, store: ObjectStore, key: str, size_bytes: int, *, rows_per_range: int) -> FileScan:
        """See the base class; one pass over the file."""
        where = store.location(key)
        read = _reader(store, key)
        header, start = _header(read, size_bytes, where)
        cutter = RangeCutter(rows_per_range, start)
        for block in record_blocks(read, start, size_bytes, csv_records, where=where):
            cutter.add(block)
        return FileScan(dict.fromkeys(header, pa.string()), cutter.ranges(), header, is_open=not header)

    def join_columns(self, one: pa.DataType, other: pa.DataType) -> pa.DataType | None:  # noqa: ARG002 - as below
        """See the base class; all is text, so files never disagree."""
        return pa.string()

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
        """See the base class."""
        where = store.location(key)
        row = first_row
        read = _reader(store, key, state)
        for block in record_blocks(read, piece.start_byte, piece.end_byte, csv_records, where=where):
            yield _window(block, schema, header, row)
            row += int(np.count_nonzero(~block.records.blank))


def _reader(store: ObjectStore, key: str, state: ObjectState | None = None) -> Callable[[int, int], bytes]:
    etag = None if state is None else state.etag
    return lambda position, length: store.get(key, start=position, length=length, etag=etag)


def _header(read: Callable[[int, int], bytes], size_bytes: int, where: str) -> tuple[tuple[str, ...], int]:
    """Return the column names and where the records begin; no names for a file without any record."""
    start = _after_bom(read(0, 3) if size_bytes else b"", where)
    blocks = record_blocks(read, start, size_bytes, csv_records, where=where, block_bytes=_HEADER_BLOCK_BYTES)
    for block in blocks:
        for record in np.flatnonzero(~block.records.blank)[:1]:
            return _names(block.raw(int(record)), where), block.offset + int(block.records.ends[record])
    return (), size_bytes


def _after_bom(head: bytes, where: str) -> int:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputFormatError(f"{where} is encoded in UTF-16. Save it as UTF-8.")
    if b"\0" in head or head.startswith((b"PAR", b"PK\x03", b"\x1f\x8b")):
        raise InputFormatError(
            f"{where} is no CSV: it begins with the bytes {head!r}. Check its ending or input_format."
        )
    return len(_BOM) if head == _BOM else 0


def _names(raw: bytes, where: str) -> tuple[str, ...]:
    try:
        names = next(csv.reader(io.StringIO(raw.decode(), newline="")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputFormatError(f"{where}: its first line cannot be read as column names in UTF-8: {error}.") from None
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise InputFormatError(f"{where}: two columns have the same name: {doubled[0]!r}. Rename one in the header.")
    return tuple(names)


def _good(block: RecordBlock, header: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    """Return which records are rows with as many fields as the header."""
    counts = csv_field_counts(np.frombuffer(block.content, dtype=np.uint8), block.records)
    good: npt.NDArray[np.bool_] = ~block.records.blank & (counts == len(header))
    return good


def _parse(
    block: RecordBlock, header: tuple[str, ...], names: tuple[str, ...], good: npt.NDArray[np.bool_]
) -> list[pa.Array]:
    """Return the named columns of the good records as binary cells; the others never reach Arrow's parser."""
    content = block.content if good.all() else _without(block, good)
    if not content:
        return [pa.array([], pa.binary()) for _ in names]
    if not content.endswith((b"\n", b"\r")):
        content += b"\n"  # at the very end, Arrow takes an empty cell after a quoted one for a quoted one
    table = pyarrow.csv.read_csv(
        pa.py_buffer(content),
        read_options=pyarrow.csv.ReadOptions(
            use_threads=False, block_size=len(content) + 1, column_names=[str(place) for place in range(len(header))]
        ),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(
            include_columns=[str(header.index(name)) for name in names],
            column_types={str(place): pa.binary() for place in range(len(header))},
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    return [column.combine_chunks() for column in table.columns]


def _without(block: RecordBlock, good: npt.NDArray[np.bool_]) -> bytes:
    starts, ends = block.records.starts, block.records.ends
    return b"".join(block.content[starts[record] : ends[record]] for record in np.flatnonzero(good))


def _window(block: RecordBlock, schema: ReadSchema, header: tuple[str, ...], first_row: int) -> TableWindow:
    good = _good(block, header)
    records = np.flatnonzero(good)
    row_of_record = first_row + np.cumsum(~block.records.blank) - 1
    faults = _field_count_faults(block, good, len(header))
    columns: list[pa.Array] = []
    parsed = _parse(block, header, tuple(schema.schema.names), good)
    for column, cells in zip(schema.schema, parsed, strict=True):
        typed, misfits = _typed(cells, column, as_text=column.name in schema.as_text)
        columns.append(typed)
        for place, code, message in misfits:
            faults.setdefault(int(records[place]), (code, message, column.name))
    broken = tuple(
        BrokenRow(int(row_of_record[record]), *fault, raw=block.raw(record).decode(errors="backslashreplace"))
        for record, fault in sorted(faults.items())
    )
    batch = pa.RecordBatch.from_arrays(columns, schema=schema.schema)
    if broken:
        fits = ~np.isin(records, list(faults))
        batch, records = batch.filter(pa.array(fits)), records[fits]
    return TableWindow(batch, row_of_record[records], broken)


def _typed(cells: pa.Array, column: pa.Field, *, as_text: bool) -> tuple[pa.Array, list[CellError]]:
    if pa.types.is_binary(column.type):
        return cells, []
    texts, undecoded = texts_of(cells, as_text=as_text)
    typed, misfits = typed_texts(texts, column.type)
    return typed, [*undecoded, *misfits]


def _field_count_faults(
    block: RecordBlock, good: npt.NDArray[np.bool_], fields: int
) -> dict[int, tuple[str, str, str | None]]:
    wrong = np.flatnonzero(~good & ~block.records.blank)
    if not len(wrong):
        return {}
    counts = csv_field_counts(np.frombuffer(block.content, dtype=np.uint8), block.records)
    return {
        int(record): ("field_count", f"the line has {counts[record]} fields, the header {fields}", None)
        for record in wrong
    }
