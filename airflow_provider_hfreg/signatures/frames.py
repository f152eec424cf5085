"""
A pandas frame as a window of rows. It takes the frame as it is, and loads no pandas of its own.

Columns of objects may hold anything, so their cells are judged one by one; columns with a dtype as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from airflow_provider_hfreg.errors import ColumnTypeError, InvalidOptionError
from airflow_provider_hfreg.signatures.arrow import type_name
from airflow_provider_hfreg.signatures.features import FeatureSpec
from airflow_provider_hfreg.signatures.rows import ColumnKey, RowError, Window, bind_columns, from_cells, to_window


def from_frame(
    frame: Any,
    inputs: Sequence[FeatureSpec],
    *,
    columns_map: Mapping[str, ColumnKey] | None = None,
    optional: frozenset[str] = frozenset(),
) -> Window:
    """
    Return a frame's rows that can be run, and why the others cannot; positions count from 0, whatever the index.

    :param frame: a ``pandas.DataFrame``; it is not changed. Extra columns are ignored.
    :raises InvalidOptionError: it is no frame.
    :raises ColumnMissingError: a required column is not there.
    :raises ColumnTypeError: a column of a dtype that holds no such values.
    """
    _check_frame(frame)
    bound = bind_columns(inputs, frame.columns, columns_map=columns_map, optional=optional)
    labels = [str(label) for label in frame.columns]
    columns: dict[str, pa.Array | None] = {}
    errors: list[RowError] = []
    for feature in inputs:
        key = bound[feature.name]
        if key is None:
            columns[feature.name] = None
            continue
        series = frame.iloc[:, labels.index(str(key))]
        columns[feature.name], bad = _read_series(series, feature, key)
        errors.extend(bad)
    return to_window(columns, inputs, optional=optional, names=bound, errors=errors)


def _check_frame(frame: Any) -> None:
    """Refuse what is no frame, which is known by what is used of it: so no pandas is loaded."""
    if not all(hasattr(frame, name) for name in ("columns", "iloc", "index")):
        raise InvalidOptionError(
            f"The frame is a {type(frame).__name__}; give a pandas.DataFrame with a column for each input. "
            "pandas.DataFrame(…) makes one of a dict of columns or a list of rows, .to_frame(name) of a Series, "
            ".to_pandas() of an Arrow table."
        )


def _read_series(series: Any, feature: FeatureSpec, key: ColumnKey) -> tuple[pa.Array, tuple[RowError, ...]]:
    if series.dtype == object:
        if series.isna().to_numpy().all():
            return pa.nulls(len(series)), ()  # NumPy's own NaT and NaN among them, which Arrow takes for values
        return from_cells(series.to_numpy(), feature, column=key)
    try:
        array = pa.array(series, from_pandas=True)
    except (pa.ArrowException, TypeError) as error:
        if not series.notna().any():
            return pa.nulls(len(series)), ()
        raise ColumnTypeError(
            f"The column {key!r} is of the type {series.dtype}, which Arrow cannot hold, and the model's input "
            f"{feature.name!r} is {type_name(feature)}. Cast the column, or map another one to {feature.name!r}."
        ) from error
    if array.null_count == len(array):
        return pa.nulls(len(array)), ()  # pandas makes floats of a column in which nothing stands
    return (array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array), ()
