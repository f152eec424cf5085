"""
From the rows of a database to Arrow columns, without changing a value. Pure.

Where the driver tells a column's type (PostgreSQL's), that holds from the first row on. Elsewhere the values of
a batch of rows tell it; that a type grows later (null, then whole, then decimal numbers) is
:func:`airflow_provider_hfreg.runs.row_sources.grown_schema`'s business.

What has no plain type of its own becomes text, as the database or the driver writes it: JSON, UUIDs, intervals, ranges,
and numbers of unlimited precision, which a double would round. A query that wants another type casts.
"""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow as pa

from airflow_provider_hfreg.errors import QueryFailedError
from airflow_provider_hfreg.runs.tables.cells import shortened

_MOST_DIGITS = 38  # of Arrow's decimal128, which all readers of Parquet know

_UTC = pa.timestamp("us", tz="UTC")
_POSTGRES_SCALARS = {
    16: pa.bool_(),
    17: pa.binary(),
    20: pa.int64(),
    21: pa.int16(),
    23: pa.int32(),
    26: pa.int64(),  # oid, unsigned 32 bits
    700: pa.float32(),
    701: pa.float64(),
    1082: pa.date32(),
    1083: pa.time64("us"),
    1114: pa.timestamp("us"),
    1184: _UTC,
    **dict.fromkeys((18, 19, 25, 1042, 1043), pa.string()),
}
_POSTGRES_ARRAYS = {
    1000: 16, 1001: 17, 1005: 21, 1007: 23, 1016: 20, 1021: 700, 1022: 701,
    1009: 25, 1014: 1042, 1015: 1043, 1115: 1114, 1182: 1082, 1185: 1184,
}  # fmt: skip
_POSTGRES_NUMERIC = 1700

POSTGRES_NATIVE = frozenset({*_POSTGRES_SCALARS, *_POSTGRES_ARRAYS, _POSTGRES_NUMERIC})
"""Type ids whose values are taken as the driver's objects; all others as PostgreSQL's own text."""


@dataclass(frozen=True)
class SqlColumn:
    """
    One column of a result.

    :param type_id: PostgreSQL's id of its type; None for another database.
    :param precision: digits of a decimal number, ``scale`` of them after the point; None: not told.
    """

    name: str
    type_id: int | None = None
    precision: int | None = None
    scale: int | None = None


def postgres_type(column: SqlColumn) -> pa.DataType:
    """
    Return the type of a PostgreSQL column.

    >>> [str(postgres_type(SqlColumn("a", *given))) for given in ((23,), (1009,), (1700, 10, 2), (1700,), (3802,))]
    ['int32', 'list<item: string>', 'decimal128(10, 2)', 'string', 'string']
    """
    type_id = column.type_id or 0
    if type_id == _POSTGRES_NUMERIC:
        return _decimal_type(column)
    if type_id in _POSTGRES_ARRAYS:
        return pa.list_(_POSTGRES_SCALARS[_POSTGRES_ARRAYS[type_id]])
    return _POSTGRES_SCALARS.get(type_id, pa.string())


def _decimal_type(column: SqlColumn) -> pa.DataType:
    precision, scale = column.precision or 0, column.scale or 0
    fits = 0 < precision <= _MOST_DIGITS and 0 <= scale <= precision
    return pa.decimal128(precision, scale) if fits else pa.string()


def to_batch(
    rows: Sequence[Sequence[Any]], columns: Sequence[SqlColumn], types: Sequence[pa.DataType | None], *, what: str
) -> pa.RecordBatch:
    """
    Return rows as columns.

    >>> to_batch([(1, None), (2.5, "b")], [SqlColumn("a"), SqlColumn("b")], [None, None], what="q").to_pydict()
    {'a': [1.0, 2.5], 'b': [None, 'b']}

    :param types: of the columns; None where the values tell it.
    :param what: in words, for messages.
    :raises QueryFailedError: a value that its column cannot hold.
    """
    arrays = []
    for place, (column, dtype) in enumerate(zip(columns, types, strict=True)):
        values = [row[place] for row in rows]
        arrays.append(_array(values, dtype or _type_of(values, column, what), column, what))
    fields = [(column.name, array.type) for column, array in zip(columns, arrays, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def _array(values: Sequence[Any], dtype: pa.DataType, column: SqlColumn, what: str) -> pa.Array:
    read = _reader(dtype)
    try:
        return pa.array([None if value is None else read(value) for value in values], dtype)
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        for value in values:
            _check_value(value, dtype, column, what)
        raise


def _check_value(value: Any, dtype: pa.DataType, column: SqlColumn, what: str) -> None:
    try:
        pa.array([None if value is None else _reader(dtype)(value)], dtype)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise QueryFailedError(
            f"The column {column.name!r} of {what} is read as {dtype}, and the value {shortened(value)} is none: "
            f"{error}. Cast the column in the query, for instance to text."
        ) from error


def _reader(dtype: pa.DataType) -> Callable[[Any], Any]:
    """Return what makes a driver's object one that Arrow takes."""
    if pa.types.is_string(dtype):
        return _text
    if pa.types.is_binary(dtype):
        return bytes
    if pa.types.is_list(dtype) and pa.types.is_binary(dtype.value_type):
        return lambda values: [None if value is None else bytes(value) for value in values]
    if dtype == pa.timestamp("us"):
        return _without_zone
    return lambda value: value


def _text(value: Any) -> str:
    if isinstance(value, Decimal):
        return format(value, "f")  # 0.0000001, as databases write it, not 1E-7
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode()  # psycopg gives the texts of a database without an encoding as bytes
    if isinstance(value, list | tuple | Mapping):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def _without_zone(value: dt.datetime) -> dt.datetime:
    if value.tzinfo is not None:  # Arrow would drop the zone, and with it what moment was meant
        raise ValueError("it has a time zone, and other values of the column have none")
    return value


_KINDS: tuple[tuple[tuple[type, ...], pa.DataType], ...] = (
    ((bool,), pa.bool_()),  # before int, which a bool also is
    ((int,), pa.int64()),
    ((float,), pa.float64()),
    ((str, uuid.UUID, list, tuple, dict), pa.string()),
    ((bytes, bytearray, memoryview), pa.binary()),
    ((dt.date,), pa.date32()),
    ((dt.time,), pa.time64("us")),
    ((dt.timedelta,), pa.duration("us")),
)


def _type_of(values: Sequence[Any], column: SqlColumn, what: str) -> pa.DataType:
    """Return the type that holds all values of one column of a batch of rows."""
    known = pa.null()
    seen: set[tuple[type, bool]] = set()
    for value in values:
        kind = (type(value), isinstance(value, dt.datetime) and value.tzinfo is not None)
        if value is None or kind in seen:
            continue
        seen.add(kind)
        dtype = _type_of_value(value, column, what)
        if pa.types.is_null(known) or dtype == known:
            known = dtype
        elif {dtype, known} == {pa.int64(), pa.float64()}:
            known = pa.float64()
        else:
            raise QueryFailedError(
                f"The column {column.name!r} of {what} holds values of two types, {known} and then {dtype} with "
                f"{shortened(value)}. Cast it to one type in the query, for instance to text."
            )
    return known


def _type_of_value(value: Any, column: SqlColumn, what: str) -> pa.DataType:
    if isinstance(value, dt.datetime):  # before date, which it also is
        return pa.timestamp("us") if value.tzinfo is None else _UTC
    if isinstance(value, Decimal):
        return _decimal_type(column)
    for kinds, dtype in _KINDS:
        if isinstance(value, kinds):
            return dtype
    raise QueryFailedError(
        f"The column {column.name!r} of {what} holds {shortened(value)} of the type {type(value).__name__}, which no "
        "column of a table holds. Cast it in the query, for instance to text."
    )
