"""
A query's rows as a stream of Arrow batches in bounded memory, from any connection of Python's DB-API; no Airflow here.

On PostgreSQL a named server-side cursor is read; elsewhere chunks of the driver's own cursor, whose memory is then the
driver's business (MySQL's holds the whole result unless it is told otherwise).

Nothing is committed: a statement that changes something changes nothing. Neither the query's text nor its parameters
are logged or kept, and no message holds the connection's secret.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from airflow_provider_hfreg.errors import DatabaseUnavailableError, QueryFailedError, RunCancelledError
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

_FIRST_ROWS = 500
_MOST_ROWS = 20_000
_CHUNK_BYTES = 8 * 2**20
_SHORTEST_SECRET = 4


def query_rows(
    place: str,
    connect: Callable[[], Any],
    sql: str,
    params: SqlParams | None = None,
    *,
    secret: Callable[[], str | None] = lambda: None,
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
    :param secret: what no message may hold, asked for where one is written.
    :param cancelled: asked several times a second.
    :raises QueryFailedError: there is no query.
    """
    text = sql.strip().rstrip(";").rstrip()
    if not text:
        raise QueryFailedError("The query is empty: write one that gives rows, such as select id, body from texts.")
    query = _Query(place, connect, text, params, secret)

    def check() -> None:
        if cancelled():
            raise RunCancelledError(
                "The run was stopped, as asked, while the rows of its query were being staged. Nothing of it is kept; "
                "running again asks the database anew."
            )

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
        secret: Callable[[], str | None],
    ) -> None:
        self.what = f"the query of {place}"
        self._place, self._connect, self._secret = place, connect, secret
        self._told = [sql] if params is None else [sql, params]
        self._connection: Any = None

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the result; at least one batch, which has no row where the result has none."""
        with self._translated(), contextlib.closing(self._connect()) as connection:
            self._connection = connection
            with contextlib.closing(open_cursor(connection)) as cursor:
                cursor.execute(*self._told)
                yield from self._chunks(cursor, with_type_ids=is_postgres(connection))

    def cancel(self) -> None:
        """Stop the query, from another thread."""
        cancel(self._connection)

    def _chunks(self, cursor: Any, *, with_type_ids: bool) -> Iterator[pa.RecordBatch]:
        if not with_type_ids:  # PostgreSQL refuses a cursor for anything else, and tells the columns with the first row
            self._check_query(cursor)
        rows = cursor.fetchmany(_FIRST_ROWS)
        self._check_query(cursor)
        columns = columns_of(cursor, with_type_ids=with_type_ids)
        types = [postgres_type(column) if with_type_ids else None for column in columns]
        batch = self._batch(rows, columns, types)
        yield batch
        while rows:
            rows = cursor.fetchmany(next_rows(len(rows), batch.nbytes))
            if rows:
                batch = self._batch(rows, columns, types)
                yield batch

    def _check_query(self, cursor: Any) -> None:
        if not cursor.description:
            raise QueryFailedError(
                f"No column comes from {self.what}, so it gives no rows. Write one query that does; nothing was "
                "changed in the database."
            )

    def _batch(
        self, rows: Sequence[Any], columns: Sequence[SqlColumn], types: Sequence[pa.DataType | None]
    ) -> pa.RecordBatch:
        plain = [tuple(row.values()) if isinstance(row, Mapping) else row for row in rows]  # a connection of dict rows
        return to_batch(plain, columns, types, what=self.what)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not (is_database_error(error) or isinstance(error, OSError)):
                raise
            told = without_secret(first_line(error), self._secret())
            if may_pass(error):
                raise DatabaseUnavailableError(
                    f"The database of {self._place} cannot be read: {told}. Check that it runs and that host, login "
                    "and password are right; running again asks it anew."
                ) from None
            raise QueryFailedError(
                f"The database of {self._place} refuses the query: {told}. Correct the query; it must be one that only "
                "reads, since it may be run more than once."
            ) from None


def next_rows(rows: int, size_bytes: int) -> int:
    """
    Return how many rows to fetch next: about 8 MiB, and at most twice as many as before.

    >>> next_rows(500, 50_000), next_rows(500, 80 * 2**20), next_rows(1, 2**30)
    (1000, 50, 1)
    """
    return max(1, min(2 * rows, _MOST_ROWS, rows * _CHUNK_BYTES // max(1, size_bytes)))


def first_line(error: Exception) -> str:
    """Return an error's first line; drivers go on with the query's text and hints."""
    return next((line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()), type(error).__name__)


def without_secret(text: str, secret: str | None) -> str:
    """
    Return a text without a secret.

    >>> without_secret("no host pass:word", "pass:word")
    'no host ***'
    """
    return text.replace(secret, "***") if secret and len(secret) >= _SHORTEST_SECRET else text
