"""
Signatures as Arrow types and back: the one place where a :class:`DataType` meets a :class:`pyarrow.DataType`.

``arrow_type`` is exact (a feature has one Arrow type, the one that windows and output files have); ``features_of`` is
generous (a file may hold large strings or dictionaries, which are read as plain ones).
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import pyarrow as pa

from airflow_provider_hfreg.errors import ColumnTypeError
from airflow_provider_hfreg.signatures.features import DataType, FeatureSpec, ParamSpec

_ARROW = {
    DataType.INT8: pa.int8(),
    DataType.INT16: pa.int16(),
    DataType.INT32: pa.int32(),
    DataType.INT64: pa.int64(),
    DataType.FLOAT: pa.float32(),
    DataType.DOUBLE: pa.float64(),
    DataType.BOOL: pa.bool_(),
    DataType.STRING: pa.string(),
    DataType.BYTES: pa.binary(),
}
_PARAMS_KEY = b"hfreg.params"
_LIST_LAYOUTS = (
    pa.types.is_list,
    pa.types.is_large_list,
    pa.types.is_fixed_size_list,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
)
_DATA_TYPE = {arrow: dtype for dtype, arrow in _ARROW.items()} | {
    pa.large_string(): DataType.STRING,
    pa.string_view(): DataType.STRING,
    pa.large_binary(): DataType.BYTES,
    pa.binary_view(): DataType.BYTES,
}


def arrow_type(feature: FeatureSpec) -> pa.DataType:
    """
    Return the Arrow type of a feature's column: a scalar, or lists as deep as its shape, fixed where it tells a length.

    >>> arrow_type(FeatureSpec("score", DataType.DOUBLE))
    DataType(double)
    >>> arrow_type(FeatureSpec("coordinates", DataType.INT64, (-1, 2)))
    ListType(list<item: fixed_size_list<item: int64>[2]>)
    """
    arrow = _ARROW[feature.dtype]
    for length in reversed(feature.shape or ()):
        arrow = pa.list_(arrow, length) if length >= 0 else pa.list_(arrow)
    return arrow


def arrow_schema(features: Iterable[FeatureSpec]) -> pa.Schema:
    """
    Return the schema of a table with these columns, in their order.

    >>> arrow_schema([FeatureSpec("label", DataType.STRING), FeatureSpec("score", DataType.DOUBLE)]).names
    ['label', 'score']
    """
    return pa.schema([(feature.name, arrow_type(feature)) for feature in features])


def with_params(schema: pa.Schema, params: Iterable[ParamSpec]) -> pa.Schema:
    """Return the schema with parameters in its metadata; without any it stays as it is."""
    plain = [param.to_json() for param in params]
    return schema.with_metadata({_PARAMS_KEY: json.dumps(plain)}) if plain else schema


def params_in(schema: pa.Schema) -> tuple[ParamSpec, ...]:
    """Return the parameters that :func:`with_params` put there."""
    plain = json.loads((schema.metadata or {}).get(_PARAMS_KEY, b"[]"))
    return tuple(ParamSpec.from_json(param) for param in plain)


def features_of(schema: pa.Schema) -> tuple[FeatureSpec, ...]:
    """
    Return the features that a table's columns are.

    >>> features_of(pa.schema([("cells", pa.list_(pa.large_string()))]))
    (FeatureSpec(dtype=DataType.STRING, name='cells', shape=(-1,)),)

    :raises ColumnTypeError: a column of a type that no feature has, named.
    """
    return tuple(_feature_of(field) for field in schema)


def _feature_of(field: pa.Field) -> FeatureSpec:
    arrow, shape = field.type, []
    while is_list(arrow):
        shape.append(arrow.list_size if pa.types.is_fixed_size_list(arrow) else -1)
        arrow = arrow.value_type
    if pa.types.is_dictionary(arrow):
        arrow = arrow.value_type
    dtype = _DATA_TYPE.get(arrow)
    if dtype is None:
        known = ", ".join(str(known) for known in _ARROW.values())
        raise ColumnTypeError(
            f"The column {field.name!r} has the Arrow type {field.type}, which no feature has. "
            f"Cast it to one of {known}, or a list of one."
        )
    return FeatureSpec(field.name, dtype, tuple(shape) or None)


def is_list(arrow: pa.DataType) -> bool:
    """Return whether values of this type are lists, of whichever layout."""
    return any(layout(arrow) for layout in _LIST_LAYOUTS)


def type_name(feature: FeatureSpec) -> str:
    """
    Return a feature's type as the documentation writes it.

    >>> type_name(FeatureSpec("coordinates", DataType.INT64, (-1, 2)))
    'INT64[-1,2]'
    """
    shape = "" if feature.shape is None else f"[{','.join(map(str, feature.shape))}]"
    return f"{feature.dtype.value}{shape}"
