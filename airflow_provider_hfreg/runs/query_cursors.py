"""
A cursor that streams: PostgreSQL's named one, which holds the result on the server, and any driver's own elsewhere.

A PostgreSQL query runs in a read-only transaction: staging may run it again after a failure, and what changes something
would change it twice. Drivers are recognised by their connections and never imported otherwise: none is needed here.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Sequence
from typing import Any

from airflow_provider_hfreg.runs.query_types import POSTGRES_NATIVE, SqlColumn

_RETRYABLE_STATES = ("08", "40", "53", "55", "57", "58")  # connection, rollback, resources, locks, operator, system
_RETRYABLE_SQLITE = ("SQLITE_BUSY", "SQLITE_LOCKED")


def is_postgres(connection: Any) -> bool:
    """Return whether a connection is psycopg's, of version 2 or 3."""
    return type(connection).__module__.partition(".")[0] in ("psycopg", "psycopg2")


def open_cursor(connection: Any) -> Any:
    """Return a cursor to execute a query on and fetch rows from, as tuples."""
    driver = type(connection).__module__.partition(".")[0]
    if driver == "psycopg":
        return _psycopg_cursor(connection)
    if driver == "psycopg2":
        return _psycopg2_cursor(connection)
    return connection.cursor()


def _name() -> str:
    return f"hfreg_{uuid.uuid4().hex[:12]}"


def _psycopg_cursor(connection: Any) -> Any:
    from psycopg.rows import tuple_row  # noqa: PLC0415 - it is installed: the connection is its
    from psycopg.types.string import TextLoader  # noqa: PLC0415

    connection.autocommit = False  # a named cursor lives in a transaction
    connection.read_only = True
    for kind in connection.adapters.types:
        for type_id in (kind.oid, kind.array_oid):
            if type_id and type_id not in POSTGRES_NATIVE:
                connection.adapters.register_loader(type_id, TextLoader)
    return connection.cursor(_name(), row_factory=tuple_row)


def _psycopg2_cursor(connection: Any) -> Any:
    from psycopg2 import extensions  # noqa: PLC0415 - it is installed: the connection is its

    connection.set_session(readonly=True, autocommit=False)
    others = tuple(type_id for type_id in extensions.string_types if type_id not in POSTGRES_NATIVE)
    extensions.register_type(extensions.new_type(others, "HFREG_TEXT", lambda value, _cursor: value), connection)
    return connection.cursor(_name(), cursor_factory=extensions.cursor)


def columns_of(cursor: Any, *, with_type_ids: bool) -> list[SqlColumn]:
    """
    Return the columns of a result.

    :param with_type_ids: the driver's type codes are PostgreSQL's ids.
    """
    return [_column(entry, with_type_ids=with_type_ids) for entry in cursor.description or ()]


def _column(entry: Sequence[Any], *, with_type_ids: bool) -> SqlColumn:
    name, type_code, _, _, precision, scale, *_ = (*entry, *(None,) * 7)[:7]
    is_told = isinstance(precision, int) and isinstance(scale, int)
    return SqlColumn(
        str(name),
        type_code if with_type_ids else None,
        precision if is_told else None,
        scale if is_told else None,
    )


def cancel(connection: Any) -> None:
    """Ask the database to stop what the connection waits for; to be called from another thread."""
    for name in ("cancel", "interrupt"):  # psycopg's and others', sqlite's
        stop = getattr(connection, name, None)
        if callable(stop):
            with contextlib.suppress(Exception):  # whatever it is, the connection is being given up
                stop()
            return


def is_database_error(error: Exception) -> bool:
    """Return whether an error is a driver's: PEP 249 names the root of theirs ``Error``."""
    return any(kind.__name__ == "Error" for kind in type(error).__mro__)


def may_pass(error: Exception) -> bool:
    """
    Return whether the same query may succeed later.

    A driver that tells no state is believed by the kind of its error: a retry in vain costs less than a lost run.

    >>> import sqlite3
    >>> try: sqlite3.connect(":memory:").execute("select * from nothing")
    ... except sqlite3.Error as error: print(may_pass(error))
    False
    """
    if isinstance(error, OSError):
        return True
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if isinstance(state, str):
        return state[:2] in _RETRYABLE_STATES
    sqlite = getattr(error, "sqlite_errorname", None)
    if isinstance(sqlite, str):
        return sqlite.startswith(_RETRYABLE_SQLITE)
    return any(kind.__name__ in ("OperationalError", "InterfaceError") for kind in type(error).__mro__)
