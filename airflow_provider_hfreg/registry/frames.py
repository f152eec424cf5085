"""What there is, as tables of pandas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from airflow_provider_hfreg.errors import InferenceExtraMissingError


def frame_of(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Any:
    """
    Return a ``pandas.DataFrame`` of rows that are dicts.

    :param columns: their keys; a frame without rows has these columns too.
    :raises InferenceExtraMissingError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError:
        raise InferenceExtraMissingError(
            "pandas is not installed here, so nothing can be shown as a frame: pip install "
            "'airflow-provider-hfreg[inference]', or use what is not called show: models(), versions(), tags, metrics."
        ) from None
    plain = list(rows)
    # Column by column as objects: pandas would turn a metric of lists into something else, and None into NaN.
    return pd.DataFrame({name: pd.Series([row[name] for row in plain], dtype=_dtype(plain, name)) for name in columns})


def named_values(kind: str, values: Mapping[str, Any]) -> Any:
    """
    Return a frame of names and values.

    :param kind: ``tag`` or ``metric``, in the name of the first column.
    """
    name = f"{kind}_name"
    return frame_of((name, "value"), ({name: key, "value": value} for key, value in values.items()))


def _dtype(rows: Sequence[Mapping[str, Any]], name: str) -> str | None:
    """
    Return the type of a column that holds one kind of plain value, else ``object``.

    >>> _dtype([{"n": 1}, {"n": 2}], "n"), _dtype([{"n": True}], "n"), _dtype([{"n": 1}, {"n": None}], "n")
    ('int64', 'bool', 'object')
    """
    kinds = {type(row[name]) for row in rows}
    return {frozenset({int}): "int64", frozenset({bool}): "bool"}.get(frozenset(kinds), "object")
