"""
A caller's table as windows of rows in the signature's types: which column is which feature, and which rows can be run.

Invariants:

- Good rows plus row errors are all rows: none is lost, none is told twice.
- A row that cannot be run is a value, so that the others go on. What no row of the column could pass (it is absent, or
  of a type that holds no such values) is an exception, raised before anything runs.
- Nothing given is changed, and no row is copied where all are good.

It reads no file and loads no pandas; :mod:`airflow_provider_hfreg.signatures.frames` takes frames.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from airflow_provider_hfreg.errors import ColumnMissingError, ColumnTypeError
from airflow_provider_hfreg.signatures.arrow import arrow_schema, arrow_type, type_name
from airflow_provider_hfreg.signatures.cells import NULL_VALUE, BadCell, convert, convert_cells, is_readable
from airflow_provider_hfreg.signatures.features import FeatureSpec

ColumnKey = str | int
"""How a table calls a column: by name, or by position where its columns have no names."""


@dataclass(frozen=True)
class RowError:
    """
    Why one row has no result.

    :param row: position of the row in what was given: a window, a shard or a frame, as the holder says.
    :param code: short, stable, for counting: ``null_value``, ``wrong_type``, ``bad_json``, ``model_error`` …
    :param message: what is wrong and what was expected, for people.
    :param column: the column at fault, in the caller's naming, where one is.
    """

    row: int
    code: str
    message: str
    column: str | None = None


@dataclass(frozen=True)
class Window:
    """
    The rows of some columns that can be run, and why the others cannot.

    :param batch: the good rows, under the features' names and Arrow types, in the features' order.
    :param row: int64, ascending: the position of each good row in the columns given.
    :param errors: one for each other row, ascending.
    """

    batch: pa.RecordBatch
    row: npt.NDArray[np.int64]
    errors: tuple[RowError, ...]


def bind_columns(
    inputs: Sequence[FeatureSpec],
    table_columns: Iterable[ColumnKey],
    *,
    columns_map: Mapping[str, ColumnKey] | None = None,
    optional: frozenset[str] = frozenset(),
) -> dict[str, ColumnKey | None]:
    """
    Tell which column of a table is which feature: by name in any order, or by position where columns have no names.

    >>> from airflow_provider_hfreg.signatures.features import DataType
    >>> text, pair = FeatureSpec("text", DataType.STRING), FeatureSpec("text_pair", DataType.STRING)
    >>> bind_columns([text, pair], ["id", "review"], columns_map={"text": "review"}, optional=frozenset({"text_pair"}))
    {'text': 'review', 'text_pair': None}
    >>> bind_columns([text, pair], [0, 1, 2])
    {'text': 0, 'text_pair': 1}

    :param table_columns: the table's own names; ``0, 1, …`` (or these as text, as Parquet keeps them) are positions.
    :param columns_map: feature → column of the table, where they differ.
    :param optional: features that a table may lack; such a one is bound to None.
    :raises ColumnMissingError: a required or mapped column is not there, or is there twice.
    """
    columns, mapped = [_plain_key(key) for key in table_columns], dict(columns_map or {})
    _check_map(mapped, inputs)
    unnamed = _are_positions(columns) and not any(feature.name in columns for feature in inputs)
    bound: dict[str, ColumnKey | None] = {}
    for position, feature in enumerate(inputs):
        own: ColumnKey | None = feature.name
        if unnamed:
            own = columns[position] if position < len(columns) else None
        key = _plain_key(mapped[feature.name]) if feature.name in mapped else own
        found = columns.count(key) if key is not None else 0
        lacking_allowed = feature.name in optional and feature.name not in mapped
        if found > 1 or (found == 0 and not lacking_allowed):
            raise ColumnMissingError(_no_such_column(feature, feature.name if key is None else key, columns))
        bound[feature.name] = key if found else None
    return bound


def _plain_key(key: Any) -> ColumnKey:
    return int(key) if isinstance(key, int | np.integer) and not isinstance(key, bool) else str(key)


def _are_positions(columns: Sequence[ColumnKey]) -> bool:
    return [str(key) for key in columns] == [str(position) for position in range(len(columns))]


def _check_map(mapped: Mapping[str, ColumnKey], inputs: Sequence[FeatureSpec]) -> None:
    names = [feature.name for feature in inputs]
    for name in mapped:
        if name not in names:
            raise ColumnMissingError(
                f"The columns map names {name!r}, which is no input of the model. Its inputs are {', '.join(names)}; "
                "write the model's column first and the table's second, as in {'" + names[0] + "': 'my_column'}."
            )


def _no_such_column(feature: FeatureSpec, key: ColumnKey, columns: Sequence[ColumnKey]) -> str:
    wanted = f"The model's input {feature.name!r} ({type_name(feature)})"
    if key in columns:
        return f"{wanted} needs one column {key!r}, and the table has {columns.count(key)} of them: rename all but one."
    close = difflib.get_close_matches(str(key), [str(column) for column in columns], n=1)
    there = ", ".join(repr(column) for column in columns) or "no column"
    hint = close[0] if close else "my_column"
    return (
        f"{wanted} needs a column {key!r}, and the table has {there}. "
        f"Rename the column, or map it: {{{feature.name!r}: {hint!r}}}."
    )


def from_cells(
    values: Any, feature: FeatureSpec, *, column: ColumnKey | None = None
) -> tuple[pa.Array, tuple[RowError, ...]]:
    """
    Return Python values of any kind as the feature's column, with a null and an error where one does not fit.

    :param values: a sequence, an object array or Series; None, NaN, NA and NaT are nulls.
    :param column: the caller's name of the column, for the messages.
    """
    array, bad = convert_cells(values, arrow_type(feature))
    return array, _row_errors(bad, feature, feature.name if column is None else column)


def to_window(
    columns: Mapping[str, pa.Array | pa.ChunkedArray | None],
    inputs: Sequence[FeatureSpec],
    *,
    optional: frozenset[str] = frozenset(),
    names: Mapping[str, ColumnKey | None] | None = None,
    errors: Iterable[RowError] = (),
) -> Window:
    """
    Return the rows that can be run, in the signature's types, and an error for each of the others.

    :param columns: feature → its column, all of one length; None where the table lacks an optional one, which is then
        all null.
    :param optional: features that may be null.
    :param names: feature → the caller's name of its column, as :func:`bind_columns` gave it; for messages.
    :param errors: rows known to be bad already (of :func:`from_cells`).
    :raises ColumnTypeError: a column of a type that holds no such values.
    """
    length = max((len(column) for column in columns.values() if column is not None), default=0)
    first = {error.row: error for error in reversed(list(errors))}
    arrays = []
    for feature in inputs:
        name = (names or {}).get(feature.name)
        array, found = _read_column(columns.get(feature.name), feature, feature.name if name is None else name, length)
        arrays.append(array)
        if feature.name not in optional:
            found += _null_errors(array, feature, name, {error.row for error in found})
        for error in found:
            first.setdefault(error.row, error)
    batch = pa.RecordBatch.from_arrays(arrays, schema=arrow_schema(inputs))
    bad = np.array(sorted(first), dtype=np.int64)
    row = np.delete(np.arange(length, dtype=np.int64), bad)
    return Window(batch if not first else batch.take(row), row, tuple(first[position] for position in bad.tolist()))


def _read_column(
    column: pa.Array | pa.ChunkedArray | None, feature: FeatureSpec, name: ColumnKey, length: int
) -> tuple[pa.Array, tuple[RowError, ...]]:
    wanted = arrow_type(feature)
    if column is None:
        return pa.nulls(length, wanted), ()
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if not is_readable(array.type, wanted):
        raise ColumnTypeError(
            f"The column {name!r} is of the type {array.type}, and the model's input {feature.name!r} is "
            f"{type_name(feature)}. Cast the column, or map another one to {feature.name!r}."
        )
    converted, bad = convert(array, wanted)
    return converted, _row_errors(bad, feature, name)


def _row_errors(bad: Iterable[BadCell], feature: FeatureSpec, name: ColumnKey) -> tuple[RowError, ...]:
    expected = f"expected {type_name(feature)} in the column {name!r}, found"
    return tuple(RowError(cell.row, cell.code, f"{expected} {cell.found}", str(name)) for cell in bad)


def _null_errors(array: pa.Array, feature: FeatureSpec, name: ColumnKey | None, told: set[int]) -> tuple[RowError, ...]:
    """A bad cell is a null too, and was told what it is."""
    if not array.null_count:
        return ()
    nulls = np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False)).tolist()
    cells = [BadCell(row, NULL_VALUE, "null") for row in nulls if row not in told]
    return _row_errors(cells, feature, feature.name if name is None else name)
