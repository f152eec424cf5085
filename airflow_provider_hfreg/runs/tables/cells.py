"""
Texts and JSON values to typed columns, cell by cell where one does not fit.

Types of columns that the signature does not name are found by looking at values: only what every value seen can be
without loss is taken (``007`` stays a text, as does a number of 20 digits, a date, and ``1`` beside ``true``), whole
numbers beside decimal ones become decimal, and anything else that differs becomes text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from airflow_provider_hfreg.signatures.cells import convert_cells

CellError = tuple[int, str, str]
"""Position, code, message."""

_INT64 = range(-(2**63), 2**63)
_WHOLE = r"^-?(0|[1-9][0-9]{0,17})$"
_DECIMAL = r"^-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,17})?([eE][+-]?[0-9]{1,2})?$"
_KINDS = ((r"^(true|false|True|False|TRUE|FALSE)$", pa.bool_()), (_WHOLE, pa.int64()), (_DECIMAL, pa.float64()))


def join_types(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """
    Return the narrowest type that holds both without loss.

    >>> join_types(pa.int64(), pa.float64()), join_types(pa.null(), pa.bool_()), join_types(pa.bool_(), pa.int64())
    (DataType(double), DataType(bool), DataType(string))
    """
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if {one, other} == {pa.int64(), pa.float64()}:
        return pa.float64()
    if pa.types.is_list(one) and pa.types.is_list(other):
        element = join_types(one.value_type, other.value_type)
        # A list of numbers beside a list of texts is one of neither: the column is kept as JSON text.
        differs = pa.types.is_string(element) and pa.string() not in (one.value_type, other.value_type)
        return pa.string() if differs else pa.list_(element)
    return pa.string()


def settled(dtype: pa.DataType) -> pa.DataType:
    """Return the type of a column of which no value, or no element, was seen: text."""
    if pa.types.is_null(dtype):
        return pa.string()
    return pa.list_(pa.string()) if dtype == pa.list_(pa.null()) else dtype


def type_of_texts(texts: pa.Array) -> pa.DataType:
    """
    Return the type of CSV cells.

    >>> [type_of_texts(pa.array(cells)) for cells in (["1", None], ["1", "2.5"], ["007"], ["true"], [""])]
    [DataType(int64), DataType(double), DataType(string), DataType(bool), DataType(null)]
    """
    written = texts.filter(pc.not_equal(texts, ""))
    if not len(written):
        return pa.null()
    for pattern, dtype in _KINDS:
        if pc.all(pc.match_substring_regex(written, pattern)).as_py():
            return dtype
    return pa.string()


def type_of_json(value: Any) -> pa.DataType:
    """
    Return the type of one JSON value; what Arrow has no plain type for is kept as JSON text.

    >>> [type_of_json(value) for value in (1, 2**70, [1, 2.5], [], [1, "a"], {"a": 1})]
    [DataType(int64), DataType(string), ListType(list<item: double>), ListType(list<item: null>), DataType(string), \
DataType(string)]
    """
    if value is None:
        return pa.null()
    if isinstance(value, bool):
        return pa.bool_()
    if isinstance(value, int):
        return pa.int64() if value in _INT64 else pa.string()
    if isinstance(value, list):
        return _type_of_list(value)
    return pa.float64() if isinstance(value, float) else pa.string()


def _type_of_list(values: list[Any]) -> pa.DataType:
    if any(isinstance(value, list | dict) for value in values):
        return pa.string()
    element = pa.null()
    for value in values:
        joined = join_types(element, type_of_json(value))
        if pa.types.is_string(joined) and not isinstance(value, str):
            return pa.string()
        if pa.types.is_string(joined) and not (pa.types.is_string(element) or pa.types.is_null(element)):
            return pa.string()
        element = joined
    return pa.list_(element)


def texts_of(cells: pa.Array) -> tuple[pa.Array, list[CellError]]:
    """Return binary CSV cells as texts, null where one is no UTF-8, and which those are."""
    try:
        return cells.cast(pa.string()), []
    except pa.ArrowInvalid:
        return _one_by_one(cells.to_pylist(), pa.string(), bytes.decode, "bad_encoding", "text in UTF-8")


def typed_texts(texts: pa.Array, dtype: pa.DataType) -> tuple[pa.Array, list[CellError]]:
    """
    Return CSV cells in their planned type, null where one is empty or does not fit, and which do not.

    >>> typed_texts(pa.array(["1", "", "x"]), pa.int64())[1]
    [(2, 'bad_value', "'x' is no int64, which this column was planned as")]
    """
    if pa.types.is_string(dtype):
        return texts, []
    if pa.types.is_list(dtype):
        return _one_by_one(texts.to_pylist(), dtype, _list_reader(dtype), "bad_json", "a JSON list")
    trimmed = pc.utf8_trim_whitespace(texts)
    trimmed = pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)
    try:
        return trimmed.cast(dtype), []
    except pa.ArrowInvalid:
        return _one_by_one(
            trimmed.to_pylist(), dtype, lambda text: pa.scalar(text).cast(dtype).as_py(), "bad_value", _planned(dtype)
        )


def _planned(dtype: pa.DataType) -> str:
    return f"{dtype}, which this column was planned as"


def _list_reader(dtype: pa.DataType) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        values = json.loads(text) if text.strip() else None
        return pa.scalar(values, dtype).as_py()

    return read


def _one_by_one(
    values: Sequence[Any], dtype: pa.DataType, read: Callable[[Any], Any], code: str, expected: str
) -> tuple[pa.Array, list[CellError]]:
    good: list[Any] = []
    errors: list[CellError] = []
    for place, value in enumerate(values):
        try:
            good.append(None if value is None else read(value))
        except (pa.ArrowException, ValueError, TypeError, RecursionError):
            good.append(None)
            errors.append((place, code, f"{shortened(value)} is no {expected}"))
    return pa.array(good, dtype), errors


def typed_values(values: Sequence[Any], dtype: pa.DataType, *, as_text: bool) -> tuple[pa.Array, list[CellError]]:
    """
    Return JSON values in their planned type, null where one does not fit, and which do not.

    :param as_text: a planned text takes any value: one that is no text as its JSON.
    """
    if as_text and pa.types.is_string(dtype):
        texts = [value if value is None or isinstance(value, str) else _json_text(value) for value in values]
        return _one_by_one(texts, dtype, _encodable, "bad_value", "text in UTF-8")
    array, misfits = convert_cells(values, dtype)
    return array, [(cell.row, cell.code, f"expected {dtype}, found {cell.found}") for cell in misfits]


def _json_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _encodable(text: str) -> str:
    text.encode()  # a lone surrogate, as JSON can escape one, is no character
    return text


def shortened(value: Any, length: int = 80) -> str:
    """Return a value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= length else f"{text[: length - 1]}…"
