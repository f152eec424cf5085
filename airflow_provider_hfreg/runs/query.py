"""
A query's rows as a stream of Arrow batches in bounded memory, from any connection of Python's DB-API; no Airflow here.

On PostgreSQL a named server-side cursor is read; elsewhere the driver's own cursor, some rows at a time, whose memory
is then the driver's business (MySQL's holds the whole result unless it is told otherwise).

Nothing is committed: a statement that changes something changes nothing. Neither the query's text nor its parameters
are logged or stored from here, and no message holds the connection's secrets. What Airflow shows of an operator's own
fields is Airflow's.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, quote_plus

import pyarrow as pa

from airflow_provider_hfreg.errors import DatabaseUnavailableError, QueryFailedError, RunCancelledError
from airflow_provider_hfreg.runs.query_batches import Row, batches_of_rows
from airflow_provider_hfreg.runs.query_cursors import (
    cancel,
    columns_of,
    is_database_error,
    is_postgres,
    may_pass,
    open_cursor,
)
from airflow_provider_hfreg.runs.query_types import SqlColumn, postgres_type, to_batch
from airflow_provider_hfreg.runs.row_sources import ArrowRows

SqlParams = Mapping[str, Any] | Sequence[Any]

_SHORTEST_SECRET = 4
_STOPPED = (
    "The run was stopped, as asked, while the rows of its query were being staged. Nothing of it is kept; running "
    "again asks the database anew."
)


def query_rows(
    place: str,
    connect: Callable[[], Any],
    sql: str,
    params: SqlParams | None = None,
    *,
    secrets: Callable[[], Iterable[str]] = tuple,
    cancelled: Callable[[], bool] = lambda: False,
) -> ArrowRows:
    """
    Return the rows of a query, to be given to a run as its source. Asks nobody yet.

    .. code-block:: python

        query_rows("the shop", partial(sqlite3.connect, "shop.db"), "select id, body from reviews")

    :param place: names the database, in messages and for a retry; the same at every try.
    :param connect: opens a connection, which is closed again; called in the thread that reads.
    :param sql: one query; a semicolon at its end is dropped.
    :param params: as the driver takes them: a list, or a mapping of names.
    :param secrets: what no message may hold, as it is or percent-encoded; asked for where one is written.
    :param cancelled: asked several times a second.
    :raises QueryFailedError: there is no query.
    """
    text = sql.strip().rstrip(";").rstrip()
    if not text:
        raise QueryFailedError("The query is empty: write one that gives rows, such as select id, body from texts.")
    query = _Query(place, connect, text, params, secrets)

    def check() -> None:
        if cancelled():
            raise RunCancelledError(_STOPPED)

    asked = json.dumps([place, text, params], sort_keys=True, default=str)
    question = hashlib.sha256(asked.encode()).hexdigest()
    return ArrowRows(query.what, question, query.batches, check=check, cancel=query.cancel)


class _Query:
    """One query on one connection."""

    def __init__(
        self,
        place: str,
        connect: Callable[[], Any],
        sql: str,
        params: SqlParams | None,
        secrets: Callable[[], Iterable[str]],
    ) -> None:
        self.what = f"the query of {place}"
        self._place, self._connect, self._secrets = place, connect, secrets
        self._told = [sql] if params is None else [sql, params]
        self._connection: Any = None
        self._is_cancelled = threading.Event()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the result; at least one batch, which has no row where the result has none."""
        with self._translated(), contextlib.closing(self._connect()) as connection:
            self._connection = connection
            with contextlib.closing(open_cursor(connection)) as cursor:
                self._go_on()
                cursor.execute(*self._told)
                yield from self._read(cursor, with_type_ids=is_postgres(connection))

    def cancel(self) -> None:
        """Stop the query, from another thread; one that is not asked yet is never asked."""
        self._is_cancelled.set()  # first: there may be no connection yet whose query could be stopped
        cancel(self._connection)

    def _go_on(self) -> None:
        if self._is_cancelled.is_set():
            raise RunCancelledError(_STOPPED)

    def _read(self, cursor: Any, *, with_type_ids: bool) -> Iterator[pa.RecordBatch]:
        if not with_type_ids:  # PostgreSQL refuses a cursor for anything else, and tells the columns with the first row
            self._check_query(cursor)

        def fetch(count: int) -> Sequence[Any]:
            self._go_on()
            rows: Sequence[Any] = cursor.fetchmany(count)
            return rows

        for rows in batches_of_rows(fetch):
            self._check_query(cursor)
            yield self._batch(rows, columns_of(cursor, with_type_ids=with_type_ids))

    def _check_query(self, cursor: Any) -> None:
        if not cursor.description:
            raise QueryFailedError(
                f"No column comes from {self.what}, so it gives no rows. Write one query that does; nothing was "
                "changed in the database."
            )

    def _batch(self, rows: Sequence[Row], columns: Sequence[SqlColumn]) -> pa.RecordBatch:
        types = [None if column.type_id is None else postgres_type(column) for column in columns]
        return to_batch(rows, columns, types, what=self.what)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not (is_database_error(error) or isinstance(error, OSError)):
                raise
            told = without_secrets(first_line(error), self._secrets())
            if may_pass(error):
                raise DatabaseUnavailableError(
                    f"The database of {self._place} cannot be read: {told}. Check that it runs and that host, login "
                    "and password are right; running again asks it anew."
                ) from None
            raise QueryFailedError(
                f"The database of {self._place} refuses the query: {told}. Correct the query; it must be one that only "
                "reads, since it may be run more than once."
            ) from None


def first_line(error: Exception) -> str:
    """Return an error's first line; drivers go on with the query's text and hints."""
    return next((line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()), type(error).__name__)


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """
    Return a text without secrets: neither as they are, nor as they stand in a URL, nor one of their lines.

    >>> without_secrets("no host pass:word, postgresql://me:pass%3aword@host", ["pass:word"])
    'no host ***, postgresql://me:***@host'
    """
    lines = {line.strip() for secret in secrets for line in (secret, *secret.splitlines())}
    forms = {form for line in lines for form in (line, quote(line), quote(line, safe=""), quote_plus(line))}
    for form in sorted(forms, key=len, reverse=True):  # a secret may be the beginning of another one
        if len(form) >= _SHORTEST_SECRET:
            text = re.sub(re.escape(form), "***", text, flags=re.IGNORECASE)  # %3A and %3a are the same
    return text
