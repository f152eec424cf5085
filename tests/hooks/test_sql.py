"""A query's rows as Arrow, from a real PostgreSQL by both of its drivers, and from SQLite."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from decimal import Decimal

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_provider_hfreg.errors import (
    DatabaseUnavailableError,
    InputFormatError,
    QueryFailedError,
    RunCancelledError,
    SettingsError,
)
from airflow_provider_hfreg.hooks.connections import get_connection
from airflow_provider_hfreg.hooks.sql import sql_rows
from airflow_provider_hfreg.runs import query_batches, row_sources


@pytest.fixture(params=["psycopg", "psycopg2"])
def driver(request, warehouse, monkeypatch):
    """Each of the drivers that Airflow's hook may use: version 2 where psycopg 3 is not installed."""
    from airflow.providers.postgres.hooks import postgres as hook

    monkeypatch.setattr(hook, "USE_PSYCOPG3", request.param == "psycopg")
    return request.param


@pytest.fixture
def lite(tmp_path, monkeypatch):
    """The connection ``lite`` to a SQLite file; gives it for writing."""
    path = tmp_path / "lite.db"
    monkeypatch.setenv("AIRFLOW_CONN_LITE", json.dumps({"conn_type": "sqlite", "host": str(path)}))
    connection = sqlite3.connect(path, isolation_level=None)
    yield connection
    connection.close()


@pytest.fixture
def read(tmp_path):
    """Return a query's rows."""

    def rows_of(conn_id, sql, params=None, **options):
        pieces = list(sql_rows(conn_id, sql, params, **options).pieces(tmp_path))
        return pa.concat_tables([pq.read_table(piece.path) for piece in pieces], promote_options="permissive")

    return rows_of


TYPES = {
    "true": (True, "bool"),
    "1::int2": (1, "int16"),
    "1::int4": (1, "int32"),
    "9007199254740993::int8": (2**53 + 1, "int64"),
    "0.5::float4": (0.5, "float"),
    "'NaN'::float8": ("nan", "double"),
    "1.50::numeric(10, 2)": (Decimal("1.50"), "decimal128(10, 2)"),
    "0.0000001::numeric": ("0.0000001", "string"),
    "12345678901234567890.5::numeric": ("12345678901234567890.5", "string"),
    "'köstlich'::text": ("köstlich", "string"),
    "'x'::char(3)": ("x  ", "string"),
    "'name'::name": ("name", "string"),
    "date '2026-01-02'": (dt.date(2026, 1, 2), "date32[day]"),
    "time '12:30'": (dt.time(12, 30), "time64[us]"),
    "timestamp '2026-01-02 03:04:05.000006'": (
        dt.datetime.fromisoformat("2026-01-02 03:04:05.000006"),
        "timestamp[us]",
    ),
    "timestamptz '2026-01-02 03:04+02'": (
        dt.datetime(2026, 1, 2, 1, 4, tzinfo=dt.UTC),
        "timestamp[us, tz=UTC]",
    ),
    "interval '1 month 2 days'": ("1 mon 2 days", "string"),
    '\'{"b": 1.10, "b": 2}\'::json': ('{"b": 1.10, "b": 2}', "string"),
    "'{\"a\": 1.10}'::jsonb": ('{"a": 1.10}', "string"),
    f"'{uuid.UUID(int=7)}'::uuid": (str(uuid.UUID(int=7)), "string"),
    "'\\x00ff'::bytea": (b"\x00\xff", "binary"),
    "array[1, null, 3]": ([1, None, 3], "list<element: int32>"),
    "array['a', 'b']": (["a", "b"], "list<element: string>"),
    "array['\\x01'::bytea]": ([b"\x01"], "list<element: binary>"),
    "array[1.5::numeric]": ("{1.5}", "string"),
    "int4range(1, 5)": ("[1,5)", "string"),
    "'10.0.0.1/8'::inet": ("10.0.0.1/8", "string"),
    "(1, 'two')": ("(1,two)", "string"),
    "null": (None, "string"),
    "null::int4": (None, "int32"),
}


def test_every_type_of_postgres_keeps_its_value(read, driver):
    listed = ", ".join(f"{expression} as c{number}" for number, expression in enumerate(TYPES))
    table = read("warehouse", f"select {listed}")
    found = {
        expression: (column[0].as_py(), str(column.type))
        for expression, column in zip(TYPES, table.columns, strict=True)
    }
    not_a_number, kind = found.pop("'NaN'::float8")
    assert (str(not_a_number), kind) == TYPES["'NaN'::float8"]
    assert found == {expression: told for expression, told in TYPES.items() if "NaN" not in expression}


def test_a_column_that_is_null_for_long_has_its_type_from_the_start(read, driver, monkeypatch):
    monkeypatch.setattr(query_batches, "_MOST_ROWS", 2)
    monkeypatch.setattr(query_batches, "_FIRST_ROWS", 2)
    table = read("warehouse", "select case when n > 4 then n end as n, n as m from generate_series(1, 6) n")
    assert table.to_pydict() == {"n": [None] * 4 + [5, 6], "m": [1, 2, 3, 4, 5, 6]}


def test_parameters_are_the_drivers_and_a_percent_sign_needs_none(read, driver):
    assert read("warehouse", "select %s::int as a", [5])["a"].to_pylist() == [5]
    assert read("warehouse", "select %(text)s as a", {"text": "it's"})["a"].to_pylist() == ["it's"]
    assert read("warehouse", "select '100 %' as a where 'ab' like 'a%';  ")["a"].to_pylist() == ["100 %"]


def test_rows_of_dicts_are_read_by_their_columns(read, warehouse):
    warehouse(extra={"cursor": "dictcursor"})
    assert read("warehouse", "select 1 as a, 2 as b").to_pydict() == {"a": [1], "b": [2]}


def test_no_rows_have_their_columns(read, driver, lite):
    assert str(read("warehouse", "select 1.5::float8 as a where false").schema.field("a").type) == "double"
    assert read("lite", "select 1 as a where 0").schema.names == ["a"]


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("insert into t values (1)", 'syntax error at or near "insert"'),
        ("explain select 1", "syntax error"),
        ("select * from no_table", 'relation "no_table" does not exist'),
        ("select 1/0", "division by zero"),
        ("select nextval('counter')", "read-only transaction"),
        ("select", "No column comes from the query"),
        (" ; ", "query is empty"),
        ("select 'NaN'::numeric(4, 2) as n", r"column 'n' of the query.*decimal128\(4, 2\).*NaN"),
        ("select array[[1, 2], [3, 4]] as a", r"column 'a' .*list<item: int32>.*\[\[1, 2\], \[3, 4\]\]"),
    ],
)
def test_what_gives_no_table_is_refused_and_changes_nothing(read, driver, postgres, statement, message):
    with psycopg.connect(postgres.url(scheme="postgresql")) as connection:
        connection.execute("create sequence if not exists counter")
    with pytest.raises(QueryFailedError, match=message):
        read("warehouse", statement)


def test_a_second_statement_is_never_run(read, driver, postgres):
    with psycopg.connect(postgres.url(scheme="postgresql")) as connection:
        connection.execute("create table if not exists kept (n int)")
    # psycopg 3 refuses two statements, version 2 sends them: the transaction reads only
    with pytest.raises(QueryFailedError, match=r"multiple commands|read-only"):
        read("warehouse", "select 1 as a; drop table kept")
    with psycopg.connect(postgres.url(scheme="postgresql")) as connection:
        assert connection.execute("select count(*) from kept").fetchone() == (0,)


def test_two_columns_of_one_name_are_refused(read, driver, lite):
    for conn_id in ("warehouse", "lite"):
        with pytest.raises(InputFormatError, match="same name: 'a'"):
            read(conn_id, "select 1 as a, 2 as a")


@pytest.mark.parametrize("changes", [{"password": "wrong-password"}, {"port": 9}, {"schema": "nowhere"}])
def test_a_database_that_lets_nobody_in_may_let_in_later_and_no_password_is_told(read, driver, warehouse, changes):
    warehouse(**changes)
    with pytest.raises(DatabaseUnavailableError, match="connection 'warehouse' cannot be read") as raised:
        read("warehouse", "select 1 as a")
    assert raised.value.retryable
    assert "wrong-password" not in str(raised.value)


def test_a_connection_that_is_none_or_no_database_is_named(read, monkeypatch):
    with pytest.raises(SettingsError, match="There is no connection 'nothing'"):
        read("nothing", "select 1")
    monkeypatch.setenv("AIRFLOW_CONN_WEB", json.dumps({"conn_type": "http", "host": "example.org"}))
    with pytest.raises(SettingsError, match="is of type 'http', which is no SQL database"):
        read("web", "select 1")
    monkeypatch.setenv("AIRFLOW_CONN_ODD", json.dumps({"conn_type": "odd", "host": "x"}))
    with pytest.raises(SettingsError, match=r"is of type 'odd', and no provider.*pip install"):
        read("odd", "select 1")


def test_no_secret_of_the_connection_is_told_not_even_as_it_stands_in_a_url(read, driver, warehouse):
    warehouse(extra={"sslpassword": "t0ken/with+more", "application_name": "plain-name"})
    password = get_connection("warehouse", hint="").password
    leaks = f"{password} t0ken/with+more t0ken%2fwith%2Bmore plain-name"
    with pytest.raises(QueryFailedError) as raised:
        read("warehouse", f"select cast('{leaks}' as int)")
    assert 'type integer: "*** *** *** plain-name"' in str(raised.value)


def test_a_database_that_goes_away_midway_is_retryable(read, driver, postgres, tmp_path, monkeypatch):
    monkeypatch.setattr(query_batches, "_MOST_ROWS", 1000)
    monkeypatch.setattr(row_sources, "_PIECE_ROWS", 1000)
    source = sql_rows("warehouse", "select n, repeat('x', 1000) as t from generate_series(1, 1000000) n")
    pieces = source.pieces(tmp_path)
    next(pieces)
    with psycopg.connect(postgres.url(scheme="postgresql"), autocommit=True) as connection:
        ended = connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where query like 'FETCH%' and pid <> pg_backend_pid()"
        ).fetchall()
    assert ended
    with pytest.raises(DatabaseUnavailableError):
        list(pieces)


def test_a_query_that_takes_for_ever_is_cancelled_on_the_server(driver, postgres, tmp_path):
    source = sql_rows("warehouse", "select pg_sleep(300)::text as a", cancelled=lambda: True)
    failures = []

    def run():
        try:
            list(source.pieces(tmp_path))
        except Exception as error:  # noqa: BLE001
            failures.append(error)

    reading = threading.Thread(target=run)
    reading.start()
    with psycopg.connect(postgres.url(scheme="postgresql"), autocommit=True) as connection:

        def is_running():
            asked = "select count(*) from pg_stat_activity where wait_event = 'PgSleep' and state = 'active'"
            return connection.execute(asked).fetchone()[0]

        while not is_running():
            time.sleep(0.05)
        with pytest.raises(RunCancelledError, match="asks the database anew"):
            source.check()
        source.cancel()
        reading.join(60)
        assert not is_running()
    assert len(failures) == 1


def test_sqlite_is_read_in_batches_and_types_grow(read, lite, monkeypatch):
    monkeypatch.setattr(query_batches, "_MOST_ROWS", 2)
    monkeypatch.setattr(query_batches, "_FIRST_ROWS", 2)
    lite.execute("create table t (n, t text, b blob)")
    lite.executemany(
        "insert into t values (?, ?, ?)", [(None, "a", b"1")] * 2 + [(1, "b", None)] * 3 + [(0.5, None, None)]
    )
    table = read("lite", "select * from t where t is null or t <> ?", ["z"])
    assert table.to_pydict() == {
        "n": [None, None, 1.0, 1.0, 1.0, 0.5],
        "t": ["a", "a", "b", "b", "b", None],
        "b": [b"1", b"1", None, None, None, None],
    }


def test_sqlite_is_not_changed_and_what_it_cannot_do_is_told(read, lite):
    lite.execute("create table t (n)")
    lite.execute("insert into t values (1), ('two')")
    for statement in ("insert into t values (3)", "delete from t"):
        with pytest.raises(QueryFailedError, match="No column comes from the query of connection 'lite'"):
            read("lite", statement)
    assert lite.execute("select count(*) from t").fetchone() == (2,)
    with pytest.raises(QueryFailedError, match=r"column 'n' .*int64 and then string with 'two'"):
        read("lite", "select n from t")
    with pytest.raises(QueryFailedError, match="no such table: no_table"):
        read("lite", "select * from no_table")


def test_the_question_is_the_query_its_parameters_and_its_connection():
    first = sql_rows("a", "select 1;", [1]).question
    assert sql_rows("a", " select 1", [1]).question == first
    others = (sql_rows("b", "select 1", [1]), sql_rows("a", "select 2", [1]), sql_rows("a", "select 1", [2]))
    assert len({first, *(other.question for other in others)}) == 4


GROWING = """
import pathlib, sys, tempfile
from airflow_provider_hfreg.hooks.sql import sql_rows
def high_water_kib():
    return int(dict(line.split(":", 1) for line in open("/proc/self/status"))["VmHWM"].split()[0])
query = "select n as id, repeat('x', case when n > %s then 2000000 else 100 end) as text from generate_series(1, %s) n"
with tempfile.TemporaryDirectory() as folder:
    list(sql_rows("warehouse", query, [1000, 1000]).pieces(pathlib.Path(folder)))
    before = high_water_kib()
    read = 0
    for piece in sql_rows("warehouse", query, [10_000, 10_600]).pieces(pathlib.Path(folder)):
        read += piece.rows
        piece.path.unlink()
    print(read, high_water_kib() - before)
"""


@pytest.mark.timeout(900)
def test_rows_that_grow_from_a_line_to_a_document_stream_in_the_memory_of_a_fetch(warehouse, driver):
    # 600 documents of 2 MB after 10,000 lines: one fetch of a hundred of them, as it comes and as Python's texts
    done = subprocess.run([sys.executable, "-c", GROWING], capture_output=True, text=True, check=True)
    rows, grown_kib = map(int, done.stdout.split())
    assert rows == 10_600
    assert grown_kib < 700 * 1024, f"{grown_kib} KiB"


STREAM = """
import pathlib, sys, tempfile
from airflow_provider_hfreg.hooks.sql import sql_rows
rows = int(sys.argv[1])
def high_water_kib():
    return int(dict(line.split(":", 1) for line in open("/proc/self/status"))["VmHWM"].split()[0])
with tempfile.TemporaryDirectory() as folder:
    query = "select n as id, repeat(md5(n::text), 20) as text from generate_series(1, %s) n"
    list(sql_rows("warehouse", query, [1000]).pieces(pathlib.Path(folder)))
    before = high_water_kib()
    source = sql_rows("warehouse", query, [rows])
    read = 0
    for piece in source.pieces(pathlib.Path(folder)):
        read += piece.rows
        piece.path.unlink()
    print(read, high_water_kib() - before)
"""


@pytest.mark.timeout(900)  # a busy machine takes minutes for it
def test_three_hundred_thousand_rows_stream_in_the_memory_of_some_batches(warehouse):
    done = subprocess.run([sys.executable, "-c", STREAM, "300000"], capture_output=True, text=True, check=True)
    rows, grown_kib = map(int, done.stdout.split())
    table_kib = 300_000 * 640 // 1024
    assert rows == 300_000
    assert grown_kib < table_kib / 2, f"{grown_kib} KiB for a table of {table_kib} KiB"
