"""
A query through any Airflow SQL connection, as the source of a run.

The connection says which database and how to log in, through its provider's hook; how a query is read is the business
of :mod:`airflow_provider_hfreg.runs.query`. Importing this module loads neither.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_hfreg.errors import SettingsError
from airflow_provider_hfreg.hooks.connections import get_connection

_SECRET_NAME = re.compile(r"(?i)pass|secret|token|key|credential|private|authorization")

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook
    from airflow.sdk import Connection

    from airflow_provider_hfreg.runs.row_sources import ArrowRows


def sql_rows(
    conn_id: str,
    sql: str,
    params: Mapping[str, Any] | Sequence[Any] | None = None,
    *,
    cancelled: Callable[[], bool] = lambda: False,
) -> ArrowRows:
    """
    Return the rows of a query; see :func:`~airflow_provider_hfreg.runs.query.query_rows`. Asks nobody yet.

    What is wrong with the connection is told when the rows are read, as a
    :class:`~airflow_provider_hfreg.errors.SettingsError`.

    :param conn_id: an Airflow connection of a type whose hook is a ``DbApiHook``.
    :raises QueryFailedError: there is no query.
    """
    from airflow_provider_hfreg.runs.query import query_rows  # noqa: PLC0415 - Arrow

    database = _Database(conn_id)
    return query_rows(
        f"connection {conn_id!r}",
        database.connect,
        sql,
        params,
        secrets=lambda: database.secrets,
        cancelled=cancelled,
    )


class _Database:
    """One connection's database."""

    def __init__(self, conn_id: str) -> None:
        self._conn_id = conn_id

    @cached_property
    def connection(self) -> Connection:
        """
        What Airflow knows of it.

        :raises SettingsError: there is no such connection.
        """
        return get_connection(self._conn_id, hint="of a database, such as type 'postgres'")

    @property
    def secrets(self) -> list[str]:
        """What no message may hold: its password, and what ``extra`` holds under names that say so."""
        told = [self.connection.password] if self.connection.password else []
        return told + list(_secrets_in(self.connection.extra_dejson))

    def connect(self) -> Any:
        """Open a connection of the database's driver."""
        return self.hook.get_conn()

    @cached_property
    def hook(self) -> DbApiHook:
        """
        What opens connections to it.

        :raises SettingsError: there is no such connection, it is of no database, or its provider is not installed.
        """
        from airflow.sdk.exceptions import AirflowException  # noqa: PLC0415 - with the provider's, below

        conn_type = self.connection.conn_type
        try:
            from airflow.providers.common.sql.hooks.sql import DbApiHook  # noqa: PLC0415 - an extra

            hook = self.connection.get_hook()  # type: ignore[no-untyped-call]  # Airflow's
        except (ImportError, AirflowException) as error:
            raise SettingsError(
                f"Connection {self._conn_id!r} is of type {conn_type!r}, and no provider that reads it is installed "
                f"here ({error}): pip install 'airflow-provider-hfreg[sql]' and the provider of that database, such as "
                "apache-airflow-providers-postgres."
            ) from None
        if not isinstance(hook, DbApiHook):
            raise SettingsError(
                f"Connection {self._conn_id!r} is of type {conn_type!r}, which is no SQL database: its hook "
                f"{type(hook).__name__} is no DbApiHook."
            )
        return hook


def _secrets_in(value: Any, *, is_secret: bool = False) -> Iterator[str]:
    """
    Yield the texts that stand in a JSON value below a name that says that they are secret; one too many does no harm.

    >>> list(_secrets_in({"sslmode": "require", "private_key": "a", "more": [{"ApiToken": {"value": "b"}}]}))
    ['a', 'b']
    """
    if isinstance(value, str):
        if is_secret:
            yield value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _secrets_in(inner, is_secret=is_secret or _SECRET_NAME.search(str(name)) is not None)
    elif isinstance(value, list):
        for inner in value:
            yield from _secrets_in(inner, is_secret=is_secret)
