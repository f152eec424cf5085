"""
Texts and JSON values to typed columns, cell by cell where one does not fit.

Columns that a feature reads have the signature's type, and a cell that does not fit is its row's error. The others
must cost no row and change no value: in CSV they are text, in JSONL they have a type of :mod:`json_types`, that all of
their values fit, or are text where there is none.
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


def texts_of(cells: pa.Array, *, as_text: bool) -> tuple[pa.Array, list[CellError]]:
    r"""
    Return binary CSV cells as texts, and which are no UTF-8.

    >>> texts_of(pa.array([b"\xc3\xa9", b"a\xff"]), as_text=True)[0].to_pylist()
    ['é', 'a\\xff']

    :param as_text: bytes that are no UTF-8 are written as ``\xff``, and no cell is bad; otherwise it is null and told.
    """
    try:
        return cells.cast(pa.string()), []
    except pa.ArrowInvalid:
        read = _escaped if as_text else bytes.decode
        return _one_by_one(cells.to_pylist(), pa.string(), read, "bad_encoding", "text in UTF-8")


def _escaped(raw: bytes) -> str:
    return raw.decode(errors="backslashreplace")


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
        return pa.array([None if value is None else _text_of(value) for value in values], dtype), []
    array, misfits = convert_cells(values, dtype)
    return array, [(cell.row, cell.code, f"expected {dtype}, found {cell.found}") for cell in misfits]


def _text_of(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    # A lone surrogate, as JSON can escape one, is no character: it stays the escape that it was.
    return text if is_encodable(text) else json.dumps(value)


def is_encodable(text: str) -> bool:
    r"""
    Return whether a text is Unicode.

    >>> is_encodable("\N{GRINNING FACE}"), is_encodable("\ud83d")
    (True, False)
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shortened(value: Any, length: int = 80) -> str:
    """Return a value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= length else f"{text[: length - 1]}…"
