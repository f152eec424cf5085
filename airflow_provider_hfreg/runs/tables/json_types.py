"""
The type of a JSONL column that no feature reads: the narrowest that holds every one of its values without loss.

Invariants:

- Joining is associative and commutative, so that blocks and files may be joined in any order.
- A value fits every type that its own was joined into; no row is lost to a column that the model does not read.
- Where there is no such type (numbers beside texts, objects, nested lists, lists with a null, whole numbers beyond
  2**53 beside decimal ones) the column is text, and a value that is no text is its JSON.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from airflow_provider_hfreg.runs.tables.cells import is_encodable

EXACT_IN_DOUBLE = 2**53
"""Up to here, every whole number is a double too."""

LARGE_WHOLE = pa.decimal128(19)
"""Stands for int64 in a scan that met a whole number that is no double; :func:`stored` makes it int64."""

_INT64 = range(-(2**63), 2**63)


def join_types(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """
    Return the narrowest type that holds both without loss.

    >>> join_types(pa.int64(), pa.float64()), join_types(pa.null(), pa.bool_()), join_types(pa.bool_(), pa.int64())
    (DataType(double), DataType(bool), DataType(string))
    >>> join_types(LARGE_WHOLE, pa.float64()), join_types(pa.list_(pa.int64()), pa.list_(pa.string()))
    (DataType(string), DataType(string))
    """
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if pa.types.is_list(one) and pa.types.is_list(other):
        element = join_types(one.value_type, other.value_type)
        fits = not pa.types.is_string(element) or {one.value_type, other.value_type} <= {pa.string(), pa.null()}
        return pa.list_(element) if fits else pa.string()
    pair = {one, other}
    if pair == {pa.int64(), pa.float64()}:
        return pa.float64()
    return LARGE_WHOLE if pair == {pa.int64(), LARGE_WHOLE} else pa.string()


def stored(dtype: pa.DataType) -> pa.DataType:
    """Return the type that values of a scan's type are kept in."""
    if pa.types.is_list(dtype):
        return pa.list_(stored(dtype.value_type))
    return pa.int64() if dtype == LARGE_WHOLE else dtype


def settled(dtype: pa.DataType) -> pa.DataType:
    """Return the type of a planned column; one of which no value, or no element, was seen is text."""
    if pa.types.is_null(dtype):
        return pa.string()
    return pa.list_(pa.string()) if dtype == pa.list_(pa.null()) else stored(dtype)


def type_of_json(value: Any) -> pa.DataType:
    """
    Return the type of one JSON value; what Arrow has no plain type for is kept as JSON text.

    >>> [str(type_of_json(value)) for value in (1, 2**53 + 1, 2**70, [1, 2.5], [], [1, "a"], {"a": 1})]
    ['int64', 'decimal128(19, 0)', 'string', 'list<item: double>', 'list<item: null>', 'string', 'string']
    """
    if value is None:
        return pa.null()
    if isinstance(value, bool):
        return pa.bool_()
    if isinstance(value, int):
        return _type_of_whole(value)
    if isinstance(value, list):
        return _type_of_list(value)
    return pa.float64() if isinstance(value, float) else pa.string()


def _type_of_whole(value: int) -> pa.DataType:
    if abs(value) <= EXACT_IN_DOUBLE:
        return pa.int64()
    return LARGE_WHOLE if value in _INT64 else pa.string()


def _type_of_list(values: list[Any]) -> pa.DataType:
    if not all(_is_plain(value) for value in values):
        return pa.string()
    joined: pa.DataType = pa.list_(pa.null())
    for dtype in {type_of_json(value) for value in values}:
        joined = join_types(joined, pa.list_(dtype))
    return joined


def _is_plain(value: Any) -> bool:
    """Return whether an Arrow list takes the element: no list, no object, no null (which NaN is read as), Unicode."""
    if isinstance(value, str):
        return is_encodable(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value in _INT64
    return isinstance(value, bool) or (isinstance(value, float) and value == value)  # noqa: PLR0124 - NaN differs
