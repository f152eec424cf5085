"""
A pandas frame as a window of rows. It takes the frame as it is, and loads no pandas of its own.

Columns of objects may hold anything, so their cells are judged one by one; columns with a dtype as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

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
    :raises ColumnMissingError: a required column is not there.
    :raises ColumnTypeError: a column of a dtype that holds no such values.
    """
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


def _read_series(series: Any, feature: FeatureSpec, key: ColumnKey) -> tuple[pa.Array, tuple[RowError, ...]]:
    if not series.notna().any():
        return pa.nulls(len(series)), ()  # pandas makes floats of a column in which nothing stands
    if series.dtype == object:
        return from_cells(series.to_numpy(), feature, column=key)
    array = pa.array(series, from_pandas=True)
    return (array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array), ()
