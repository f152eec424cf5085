"""
Where the rows of a run come from, read from an operator's fields: files by URL, rows of the call, or a query.

Exactly one of the three. What was written into the DAG is checked when it is parsed; what a template gave, when it is
rendered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_provider_hfreg.errors import RenderedValueError, SettingsError
from airflow_provider_hfreg.operators.rendered import read_rows, read_sql_params, read_text, require_text

if TYPE_CHECKING:
    from airflow_provider_hfreg.runs.row_sources import RowSource

_ONE_OF = "input_url (files), rows (the rows themselves) and sql (a query, with sql_conn_id)"


def check_inputs(
    task_id: str, *, input_url: object, rows: object, sql: object, sql_conn_id: object, sql_params: object
) -> None:
    """
    Check what was written into the DAG.

    >>> given = {"input_url": None, "rows": None, "sql": "select 1", "sql_conn_id": None, "sql_params": None}
    >>> check_inputs("score", **given)
    Traceback (most recent call last):
    ...
    airflow_provider_hfreg.errors.SettingsError: Task 'score': sql needs sql_conn_id, the connection of its database.

    :raises SettingsError: none of the inputs, or two; a part of a query without the rest.
    """
    given = [name for name, value in {"input_url": input_url, "rows": rows, "sql": sql}.items() if value is not None]
    if len(given) != 1:
        found = " and ".join(given) or "none"
        raise SettingsError(f"Task {task_id!r}: give exactly one of {_ONE_OF}; there is {found}.")
    if sql is not None and sql_conn_id is None:
        raise SettingsError(f"Task {task_id!r}: sql needs sql_conn_id, the connection of its database.")
    if sql is None and (sql_conn_id is not None or sql_params is not None):
        raise SettingsError(f"Task {task_id!r}: sql_conn_id and sql_params belong to sql, which is not given.")


def row_source(
    *,
    input_url: object,
    rows: object,
    sql: object,
    sql_conn_id: object,
    sql_params: object,
    cancelled: Callable[[], bool],
) -> RowSource | None:
    """
    Return where the rows come from, or None if it is from files; asks nobody yet.

    :param cancelled: asked while a query's rows are read.
    :raises RenderedValueError: after rendering there is none of the inputs, or two.
    :raises InvalidRunOptionError: too many rows, or a value that no table holds.
    """
    given: dict[str, Any] = {
        "input_url": read_text("input_url", input_url),
        "rows": read_rows("rows", rows),
        "sql": read_text("sql", sql),
    }
    there = [name for name, value in given.items() if value is not None]
    if len(there) != 1:
        found = " and ".join(there) or "none"
        raise RenderedValueError(f"Exactly one of {_ONE_OF} is needed; after rendering there is {found}.")
    if given["rows"] is not None:
        from airflow_provider_hfreg.runs.row_sources import GivenRows  # noqa: PLC0415 - a DAG's parse needs none

        return GivenRows(given["rows"])
    if given["sql"] is not None:
        from airflow_provider_hfreg.hooks.sql import sql_rows  # noqa: PLC0415 - a DAG's parse needs none

        return sql_rows(
            require_text("sql_conn_id", sql_conn_id),
            given["sql"],
            read_sql_params("sql_params", sql_params),
            cancelled=cancelled,
        )
    return None
