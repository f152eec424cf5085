"""
What template fields hold once rendered, read by the type each field is declared with.

Jinja gives text unless a DAG asks for native objects, and the values of a trigger form pass through Jinja: ``12``
comes as ``"12"``, None as ``"None"``, a dict as its Python or JSON text. So every field is read here by one rule, the
same for a value written in the DAG, given by XCom and typed into a form: absent values are None, the type itself
passes, its text is parsed, and the rest is an error that names the field, the value and what it should be.

Pure functions; nothing is guessed from the value alone, and nothing is evaluated (``literal_eval`` reads literals).
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from airflow_provider_hfreg.errors import RenderedValueError
from airflow_provider_hfreg.signatures.features import DataType, ParamSpec

_ABSENT = ("", "none", "null")
_LONGEST_SHOWN = 300
_FLAGS = {"true": True, "false": False, "yes": True, "no": False, "on": True, "off": False, "1": True, "0": False}


def _is_absent(value: object) -> bool:
    return value is None or (isinstance(value, str) and value.strip().lower() in _ABSENT)


def _wrong(field: str, value: object, expected: str) -> RenderedValueError:
    found = repr(value)
    shown = found if len(found) <= _LONGEST_SHOWN else f"{found[:_LONGEST_SHOWN]}…"
    return RenderedValueError(f"{field} must be {expected}; after rendering it is {shown}.")


def read_text(field: str, value: object) -> str | None:
    """
    Read a text.

    >>> read_text("comment", " nightly "), read_text("comment", "None")
    ('nightly', None)
    """
    if _is_absent(value):
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # native rendering makes a number of a version name such as "20260729"
    if not isinstance(value, str):
        raise _wrong(field, value, "a text")
    return value.strip()


def require_text(field: str, value: object) -> str:
    """
    Read a text that must be there.

    :raises RenderedValueError: it is absent.
    """
    text = read_text(field, value)
    if text is None:
        raise RenderedValueError(f"{field} is needed, and after rendering it is {value!r}.")
    return text


def read_flag(field: str, value: object) -> bool:
    """
    Read a yes or no; absent is no.

    >>> read_flag("rerun", "True"), read_flag("rerun", "false"), read_flag("rerun", None)
    (True, False, False)
    """
    if _is_absent(value):
        return False
    if isinstance(value, bool):
        return value
    flag = _FLAGS.get(str(value).strip().lower())
    if flag is None:
        raise _wrong(field, value, "true or false")
    return flag


def read_whole(field: str, value: object) -> int | None:
    """
    Read a whole number.

    >>> read_whole("seed", "12"), read_whole("seed", 12), read_whole("seed", "")
    (12, 12, None)
    """
    number = read_number(field, value)
    if isinstance(number, float):
        raise _wrong(field, value, "a whole number")
    return number


def read_number(field: str, value: object) -> int | float | None:
    """
    Read a number; whole ones stay whole, because ``1`` may mean one row and ``1.0`` all of them.

    >>> read_number("max_row_errors", "0.01"), read_number("max_row_errors", "1")
    (0.01, 1)
    """
    if _is_absent(value):
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        for parse in (int, float):
            with suppress(ValueError):
                return parse(value)
    raise _wrong(field, value, "a number")


def number_if_one(value: object) -> object:
    """
    Return the number that a text is, or the value as it came.

    >>> number_if_one("0.91"), number_if_one("good"), number_if_one([1])
    (0.91, 'good', [1])
    """
    try:
        return read_number("", value)
    except RenderedValueError:
        return value


def read_mapping(field: str, value: object) -> dict[str, Any] | None:
    """
    Read a mapping, or its JSON or Python text.

    >>> read_mapping("columns", '{"text": "body"}'), read_mapping("columns", "{'text': 'body'}")
    ({'text': 'body'}, {'text': 'body'})
    """
    if _is_absent(value):
        return None
    mapping = _parsed(value) if isinstance(value, str) else value
    if not isinstance(mapping, Mapping) or not all(isinstance(key, str) for key in mapping):
        raise _wrong(field, value, "a mapping with names as keys, or its JSON text")
    return dict(mapping)


def read_names(field: str, value: object) -> list[str] | None:
    """
    Read a list of names; a text is its JSON, or names between commas. An empty list is not absent.

    >>> read_names("passthrough", "id, text"), read_names("passthrough", "[]"), read_names("passthrough", "")
    (['id', 'text'], [], None)
    """
    if _is_absent(value):
        return None
    names = value
    if isinstance(value, str):
        listed = value.strip().startswith(("[", "("))
        names = _parsed(value) if listed else [name.strip() for name in value.split(",")]
    if not isinstance(names, Sequence) or isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise _wrong(field, value, "a list of names, its JSON text, or names between commas")
    return list(names)


def read_rows(field: str, value: object) -> list[Any] | None:
    """
    Read rows, or their JSON or Python text. An empty list is not absent.

    >>> read_rows("rows", "[{'text': 'good'}]"), read_rows("rows", []), read_rows("rows", "None")
    ([{'text': 'good'}], [], None)
    """
    if _is_absent(value):
        return None
    rows = _parsed(value) if isinstance(value, str) else value
    if not isinstance(rows, Sequence) or isinstance(rows, str | bytes):
        raise _wrong(field, value, "a list of rows, each a mapping of column names to values")
    return list(rows)


def read_sql_params(field: str, value: object) -> dict[str, Any] | list[Any] | None:
    """
    Read a query's parameters: a mapping or a list, as the driver takes them, or its JSON or Python text.

    >>> read_sql_params("sql_params", "{'day': '2026-01-01'}"), read_sql_params("sql_params", (1, 2))
    ({'day': '2026-01-01'}, [1, 2])
    """
    if _is_absent(value):
        return None
    params = _parsed(value) if isinstance(value, str) else value
    if isinstance(params, Mapping):
        return dict(params)
    if not isinstance(params, Sequence) or isinstance(params, str | bytes):
        raise _wrong(field, value, "a mapping of names or a list")
    return list(params)


def read_choice(field: str, value: object) -> bool | None:
    """
    Read a yes or no for which absent is a third answer.

    >>> read_choice("hive_partitioning", "False"), read_choice("hive_partitioning", "")
    (False, None)
    """
    return None if _is_absent(value) else read_flag(field, value)


def read_reference(field: str, value: object) -> str | dict[str, Any]:
    """
    Read which model version is meant: the text of a reference, or what a logging task returned.

    >>> read_reference("model", "finbert@champion"), read_reference("model", "{'model_name': 'finbert'}")
    ('finbert@champion', {'model_name': 'finbert'})
    """
    if isinstance(value, Mapping) or (isinstance(value, str) and value.strip().startswith("{")):
        return read_mapping(field, value) or {}
    return require_text(field, value)


def read_params(values: Mapping[str, Any] | None, specs: Sequence[ParamSpec]) -> dict[str, Any]:
    """
    Read a model's run-time parameters by the types its signature gives them; what it does not list is left as it is.

    A text that stands for "not given" is left out, so that the model's own default holds.

    >>> top_k = ParamSpec("top_k", DataType.INT64)
    >>> read_params({"top_k": "2"}, [top_k]), read_params({"top_k": "None"}, [top_k])
    ({'top_k': 2}, {})
    """
    kinds = {spec.name: spec.dtype for spec in specs if spec.shape is None}
    given = {name: (value, _READERS.get(kinds.get(name))) for name, value in (values or {}).items()}
    return {
        name: read(f"model_params[{name!r}]", value) if read and isinstance(value, str) else value
        for name, (value, read) in given.items()
        if not (read and isinstance(value, str) and _is_absent(value))
    }


_WHOLE = (DataType.INT8, DataType.INT16, DataType.INT32, DataType.INT64)
_READERS: dict[DataType | None, Callable[[str, object], Any]] = {
    **dict.fromkeys(_WHOLE, read_whole),
    **dict.fromkeys((DataType.FLOAT, DataType.DOUBLE), read_number),
    DataType.BOOL: read_flag,
}


def _parsed(text: str) -> object:
    for parse in (json.loads, ast.literal_eval):
        with suppress(ValueError, SyntaxError):
            return parse(text)
    return None
