"""
Lists of objects, what a task gives where a row has many results: made once, by columns, in the format asked for.

A task names its objects' keys and types in one Arrow type, and gives an array for each of them. ``json`` is what the
signature promises, a text per row; ``struct`` is the same objects as Arrow values. The text is written from the values,
and never read back.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from airflow_provider_hfreg.pipelines.json_columns import json_array
from airflow_provider_hfreg.signatures.output_format import OutputFormat


def object_lists(
    kind: pa.ListType, values: Mapping[str, pa.Array], offsets: npt.NDArray[np.int32], output_format: OutputFormat
) -> pa.Array:
    """
    Return a list of objects per row.

    >>> kind = pa.list_(pa.struct([("label", pa.string()), ("score", pa.float64())]))
    >>> values = {"label": pa.array(["yes", "no"]).dictionary_encode(), "score": pa.array([0.75, 0.25])}
    >>> object_lists(kind, values, np.array([0, 0, 2], np.int32), OutputFormat.JSON).to_pylist()
    ['[]', '[{"label": "yes", "score": 0.75}, {"label": "no", "score": 0.25}]']
    >>> object_lists(kind, values, np.array([0, 0, 2], np.int32), OutputFormat.STRUCT).type
    ListType(list<item: struct<label: string, score: double>>)

    :param kind: the type of the lists as structs: which keys an object has, in which order.
    :param values: of each key, an array over all objects; values that recur may be a dictionary.
    :param offsets: int32 [rows + 1]: the row ``i`` holds the objects from ``offsets[i]`` up to ``offsets[i + 1]``.
    """
    keys = [field.name for field in kind.value_type]
    objects = pa.StructArray.from_arrays([values[key] for key in keys], names=keys)
    lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), objects)
    return json_array(lists) if output_format is OutputFormat.JSON else lists.cast(kind)


def with_structs(columns: pa.Schema, structs: Mapping[str, pa.DataType]) -> pa.Schema:
    """
    Return the columns of a signature's outputs with some as structs instead of JSON text.

    >>> texts = pa.schema([("summary_text", pa.string()), ("outputs", pa.string())])
    >>> with_structs(texts, {"outputs": pa.list_(pa.struct([("label", pa.string())]))}).types
    [DataType(string), ListType(list<item: struct<label: string>>)]
    """
    return pa.schema([column.with_type(structs.get(column.name, column.type)) for column in columns])
