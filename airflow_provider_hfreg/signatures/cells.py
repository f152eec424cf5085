"""
Values of one column in the type that a signature wants; those that do not fit are told one by one.

Invariants:

- As many values come out as went in; a bad cell is a null in the array and a :class:`BadCell` beside it.
- Nothing changes its meaning: text is never made of numbers, nor numbers of text, nor integers of fractions. What is
  exact is taken: a dictionary or a large string as a string, ``2.0`` as the integer 2.
- A missing value of pandas (None, NaN in an object column, NA, NaT) is a null. A list holds no null.
- A column that fits costs one cast. Python looks at single cells only in columns of Python objects that are mixed, and
  in windows where the cast found something bad.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airflow_provider_hfreg.signatures.arrow import is_list

NULL_VALUE = "null_value"
WRONG_TYPE = "wrong_type"

_KINDS = (
    (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal),
    (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
    (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view),
)


@dataclass(frozen=True)
class BadCell:
    """
    One value that does not fit.

    :param row: its position in the column.
    :param code: ``null_value`` (inside a list) or ``wrong_type``.
    :param found: what is there instead, for a message after "expected …, found".
    """

    row: int
    code: str
    found: str


class _Undecodable:
    """Stands for text whose bytes are no UTF-8."""

    def __repr__(self) -> str:
        return "text that is not valid UTF-8"


class _MisfitError(Exception):
    """Carries a bad cell's code and what was found, from where it is seen to where its row is known."""

    def __init__(self, code: str, found: str) -> None:
        super().__init__(found)
        self.code = code
        self.found = found


def is_readable(given: pa.DataType, wanted: pa.DataType) -> bool:
    """
    Return whether a column of type ``given`` may hold values of type ``wanted``; single cells may still not fit.

    >>> is_readable(pa.large_string(), pa.string()), is_readable(pa.int64(), pa.string())
    (True, False)
    """
    if pa.types.is_dictionary(given):
        given = given.value_type
    if pa.types.is_null(given):
        return True
    if is_list(wanted):
        return is_list(given) and is_readable(given.value_type, wanted.value_type)
    for kind in _KINDS:
        if any(is_kind(wanted) for is_kind in kind):
            return any(is_kind(given) for is_kind in kind)
    return bool(given == wanted)


def convert(array: pa.Array, wanted: pa.DataType) -> tuple[pa.Array, tuple[BadCell, ...]]:
    """
    Return an Arrow column in the wanted type, and the cells that do not fit.

    >>> array, bad = convert(pa.array([1.0, 2.5, None]), pa.int64())
    >>> array.to_pylist(), bad
    ([1, None, None], (BadCell(row=1, code='wrong_type', found='2.5'),))

    :param array: of a type that :func:`is_readable`.
    """
    converted = _cast(array, wanted)
    return (converted, ()) if converted is not None else _convert_each(_values(array), wanted)


def convert_cells(values: Any, wanted: pa.DataType) -> tuple[pa.Array, tuple[BadCell, ...]]:
    """
    Return Python values (a list, an object array or Series, mixed as they may be) as a column of the wanted type.

    >>> array, bad = convert_cells(["a", 5, None], pa.string())
    >>> array.to_pylist(), bad
    (['a', None, None], (BadCell(row=1, code='wrong_type', found='5'),))
    """
    try:
        inferred = pa.array(values, from_pandas=True)
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        return _convert_each(values, wanted)  # mixed
    # Among numbers, Arrow takes True for 1.
    mixed = not pa.types.is_boolean(inferred.type) and not {bool, np.bool_}.isdisjoint(map(type, values))
    converted = _cast(inferred, wanted) if is_readable(inferred.type, wanted) and not mixed else None
    return (converted, ()) if converted is not None else _convert_each(values, wanted)


def _cast(array: pa.Array, wanted: pa.DataType) -> pa.Array | None:
    """Return the whole column in the wanted type, or None where some cell does not fit."""
    if pa.types.is_floating(array.type) and pa.types.is_integer(wanted):
        # How pandas writes integers with missing ones.
        array = pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array)
    try:
        # Widths of floats are a matter of precision, not of fitting; everything else must be exact.
        converted = array.cast(wanted, safe=not (pa.types.is_floating(array.type) and pa.types.is_floating(wanted)))
        converted.validate(full=True)  # Parquet files may hold strings that are no UTF-8
    except pa.ArrowException:
        return None
    return None if _holds_null_in_list(converted) else converted


def _holds_null_in_list(array: pa.Array) -> bool:
    while is_list(array.type):
        array = array.flatten()
        if array.null_count:
            return True
    return False


def _values(array: pa.Array) -> list[Any]:
    try:
        return list(array.to_pylist())
    except UnicodeDecodeError:
        return [_value(cell) for cell in array]


def _value(cell: pa.Scalar) -> Any:
    try:
        return cell.as_py()
    except UnicodeDecodeError:
        return _Undecodable()


def _convert_each(values: Iterable[Any], wanted: pa.DataType) -> tuple[pa.Array, tuple[BadCell, ...]]:
    cells: list[Any] = []
    bad: list[BadCell] = []
    for row, value in enumerate(values):
        try:
            cells.append(None if _is_null(value) else _plain(value, wanted))
        except _MisfitError as misfit:
            cells.append(None)
            bad.append(BadCell(row, misfit.code, misfit.found))
    return pa.array(cells, wanted), tuple(bad)


def _is_null(value: Any) -> bool:
    # pandas' NA and NaT by name: comparing NA gives NA, and pandas is not loaded for this.
    nan = isinstance(value, Real) and bool(value != value)  # noqa: PLR0124  # only NaN differs from itself
    return value is None or nan or type(value).__name__ in ("NAType", "NaTType")


def _plain(value: Any, wanted: pa.DataType) -> Any:
    """Return ``value`` as Arrow takes it for ``wanted``, or raise :class:`_MisfitError`."""
    if is_list(wanted):
        return _plain_list(value, wanted)
    if pa.types.is_integer(wanted):
        return _plain_integer(value, wanted)
    if pa.types.is_floating(wanted):
        return _plain_float(value)
    if pa.types.is_string(wanted) and isinstance(value, str):
        return _plain_text(value)
    if pa.types.is_boolean(wanted) and isinstance(value, bool | np.bool_):
        return bool(value)
    if pa.types.is_binary(wanted) and isinstance(value, bytes):
        return value
    raise _MisfitError(WRONG_TYPE, reprlib.repr(value))


def _plain_list(value: Any, wanted: pa.DataType) -> list[Any]:
    if not isinstance(value, list | tuple | np.ndarray):
        raise _MisfitError(WRONG_TYPE, reprlib.repr(value))
    if pa.types.is_fixed_size_list(wanted) and len(value) != wanted.list_size:
        raise _MisfitError(WRONG_TYPE, f"a list of length {len(value)}")
    if any(_is_null(element) for element in value):
        raise _MisfitError(NULL_VALUE, "a list that holds a null")
    return [_plain(element, wanted.value_type) for element in value]


def _plain_float(value: Any) -> float:
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real | Decimal):
        raise _MisfitError(WRONG_TYPE, reprlib.repr(value))
    try:
        return float(value)
    except OverflowError:
        raise _MisfitError(WRONG_TYPE, f"{reprlib.repr(value)}, which is too large") from None


def _plain_integer(value: Any, wanted: pa.DataType) -> int:
    if isinstance(value, bool | np.bool_) or not _is_whole(value):
        raise _MisfitError(WRONG_TYPE, reprlib.repr(value))
    number, bits = int(value), wanted.bit_width
    if not -(1 << (bits - 1)) <= number < 1 << (bits - 1):
        raise _MisfitError(WRONG_TYPE, f"{number}, which needs more than {bits} bits")
    return number


def _is_whole(value: Any) -> bool:
    if isinstance(value, Real | Decimal) and not isinstance(value, Integral):
        return bool(math.isfinite(value) and value == value // 1)
    return isinstance(value, Integral)


def _plain_text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _MisfitError(WRONG_TYPE, "text with half of a surrogate pair, which is no Unicode") from None
    return value
