r"""
JSONL: one JSON object a line, in UTF-8; a byte order mark is skipped, a line of white space alone is no row.

- A line that is no JSON object is that row's error (``bad_json``), as is a value that does not fit the type of the
  feature that reads it; the raw line is kept. A key that is missing is null, one that the run does not read is ignored.
- Columns that no feature reads have a type that all their values fit (:mod:`json_types`), so scanning looks at every
  value: in Python in a block with something new, elsewhere by having Arrow read the block in the types known so far.
- Arrow's parser reads a block at once. It knows nothing of lines, so it is asked only where every line begins with
  ``{`` and ends with ``}``; then no object can span two lines, and one row per line is checked by counting. A block
  that it refuses is read again line by line, to find out which line it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from airflow_provider_hfreg.runs.tables.base import FileScan, ReadSchema, RowRange, TableReader
from airflow_provider_hfreg.runs.tables.cells import shortened, typed_values
from airflow_provider_hfreg.runs.tables.json_types import EXACT_IN_DOUBLE, join_types, stored, type_of_json
from airflow_provider_hfreg.runs.tables.ranges import RangeCutter
from airflow_provider_hfreg.runs.tables.records import RecordBlock, jsonl_records, record_blocks
from airflow_provider_hfreg.runs.tables.windows import BrokenRow, TableWindow
from airflow_provider_hfreg.storage.base import ObjectState, ObjectStore

_BOM = b"\xef\xbb\xbf"


class JsonlReader(TableReader):
    """Reads JSONL."""

    def scan(self, store: ObjectStore, key: str, size_bytes: int, *, rows_per_range: int) -> FileScan:
        """See the base class; one pass over the file. Columns are the keys seen, in the order they were."""
        read = _reader(store, key)
        start = len(_BOM) if size_bytes and read(0, 3) == _BOM else 0
        cutter = RangeCutter(rows_per_range, start)
        types: dict[str, pa.DataType] = {}
        for block in record_blocks(read, start, size_bytes, jsonl_records, where=store.location(key)):
            cutter.add(block)
            if not _fits(block, types):
                _learn(block, types)
        return FileScan(types, cutter.ranges(), is_open=True)

    def join_columns(self, one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
        """See the base class; what differs is kept as text, so files never disagree."""
        return join_types(one, other)

    def read(
        self,
        store: ObjectStore,
        key: str,
        piece: RowRange,
        schema: ReadSchema,
        *,
        header: tuple[str, ...],  # noqa: ARG002 - JSONL has none
        first_row: int,
        state: ObjectState | None = None,
    ) -> Iterator[TableWindow]:
        """See the base class."""
        read = _reader(store, key, state)
        blocks = record_blocks(read, piece.start_byte, piece.end_byte, jsonl_records, where=store.location(key))
        row = first_row
        for block in blocks:
            rows = int(np.count_nonzero(~block.records.blank))
            batch = _read_at_once(block, schema.schema, rows)
            if batch is None:
                yield _read_by_line(block, schema, row)
            else:
                yield TableWindow(batch, np.arange(row, row + rows))
            row += rows


def _reader(store: ObjectStore, key: str, state: ObjectState | None = None) -> Callable[[int, int], bytes]:
    etag = None if state is None else state.etag
    return lambda position, length: store.get(key, start=position, length=length, etag=etag)


def _object(raw: bytes) -> tuple[dict[str, Any], str | None]:
    """Return the line's object, or an empty one and what is wrong."""
    try:
        value = json.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        return {}, f"the line is no JSON: {error}"
    if not isinstance(value, dict):
        return {}, f"the line must be a JSON object, not {shortened(value)}"
    return value, None


def _fits(block: RecordBlock, types: Mapping[str, pa.DataType]) -> bool:
    """Return whether a block surely changes no type: every key is known, and every value is of its type already."""
    schema = pa.schema([(name, stored(dtype)) for name, dtype in types.items()])
    batch = _read_at_once(block, schema, int(np.count_nonzero(~block.records.blank)), unknown="error")
    return batch is not None and not any(
        _may_be_more(column, dtype) for column, dtype in zip(batch.columns, types.values(), strict=True)
    )


def _may_be_more(column: pa.Array, known: pa.DataType) -> bool:
    """Return whether Arrow read something into the type that does not fit it: a null in a list, a number rounded."""
    numbers = column.flatten() if pa.types.is_list(column.type) else column
    if numbers is not column and numbers.null_count:
        return True
    if column.type != known or not (pa.types.is_integer(numbers.type) or pa.types.is_floating(numbers.type)):
        return False  # large whole numbers are known, or it holds no numbers
    # A double may have been written as a whole number, and a large one of those was rounded.
    bounds = pc.min_max(numbers).as_py()
    return any(abs(bound) >= EXACT_IN_DOUBLE for bound in bounds.values() if bound is not None)


def _learn(block: RecordBlock, types: dict[str, pa.DataType]) -> None:
    """Join the types of all values of a block into ``types``."""
    for record in np.flatnonzero(~block.records.blank):
        value, fault = _object(block.raw(int(record)))
        for name, cell in {} if fault else value.items():
            types[name] = join_types(types.get(name, pa.null()), type_of_json(cell))


def _read_at_once(
    block: RecordBlock, schema: pa.Schema, rows: int, *, unknown: str = "ignore"
) -> pa.RecordBatch | None:
    """
    Return the rows of a block in which every line fits, or None.

    :param unknown: of a key that the schema lacks: ``ignore``, or ``error`` for None.
    """
    # NaN, which is no JSON and which Python writes, is read as null; Arrow would keep it.
    if not rows or not schema.names or b"NaN" in block.content or not _is_object_per_line(block):
        return None
    try:
        block.content.decode()  # Arrow's parser does not look
        table = pyarrow.json.read_json(
            pa.BufferReader(block.content),
            read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=len(block.content) + 1),
            parse_options=pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior=unknown),
        )
    except (pa.ArrowException, ValueError):
        return None
    if table.num_rows != rows:
        return None
    return table.select(schema.names).cast(schema).combine_chunks().to_batches()[0]


def _is_object_per_line(block: RecordBlock) -> bool:
    content = np.frombuffer(block.content, dtype=np.uint8)
    written = np.flatnonzero((content != ord(" ")) & (content != 9) & (content != 10) & (content != 13))
    ends = block.records.ends[~block.records.blank]
    starts = block.records.starts[~block.records.blank]
    first = content[written[np.searchsorted(written, starts)]]
    last = content[written[np.searchsorted(written, ends) - 1]]
    return bool(np.all(first == ord("{")) and np.all(last == ord("}")))


def _read_by_line(block: RecordBlock, schema: ReadSchema, first_row: int) -> TableWindow:
    records = np.flatnonzero(~block.records.blank)
    parsed = [_object(block.raw(int(record))) for record in records]
    faults: dict[int, tuple[str, str, str | None]] = {
        place: ("bad_json", fault, None) for place, (_, fault) in enumerate(parsed) if fault
    }
    columns = []
    for column in schema.schema:
        values = [value.get(column.name) for value, _ in parsed]
        typed, misfits = typed_values(values, column.type, as_text=column.name in schema.as_text)
        columns.append(typed)
        for place, code, message in misfits:
            faults.setdefault(place, (code, message, column.name))
    broken = tuple(
        BrokenRow(first_row + place, *fault, raw=block.raw(int(records[place])).decode(errors="backslashreplace"))
        for place, fault in sorted(faults.items())
    )
    fits = np.ones(len(records), dtype=np.bool_)
    fits[list(faults)] = False
    batch = pa.RecordBatch.from_arrays(columns, schema=schema.schema).filter(pa.array(fits))
    return TableWindow(batch, first_row + np.flatnonzero(fits), broken)
