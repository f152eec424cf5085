"""A query through a plain DB-API connection, without Airflow: its rows are a run's like any others."""

import sqlite3
import subprocess
import sys
from functools import partial

import pytest

from airflow_provider_hfreg.errors import DatabaseUnavailableError, RunCancelledError
from airflow_provider_hfreg.runs.batch import run_batch
from airflow_provider_hfreg.runs.query import first_line, query_rows


@pytest.fixture
def shop(tmp_path):
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as connection:
        connection.execute("create table reviews (id integer, text text, at real)")
        connection.executemany("insert into reviews values (?, ?, ?)", [(n, f"film {n}", n / 2) for n in range(7)])
    connection.close()
    return partial(sqlite3.connect, path)


def test_a_query_is_run_in_the_order_that_it_gives(file_place, shop):
    report = run_batch(
        file_place.request(input="", rows_per_shard=3),
        version=file_place.version,
        identity="me",
        registry_url=file_place.version.registry_url,
        source=query_rows("the shop", shop, "select * from reviews order by id desc"),
    )
    assert (report.rows_ok, report.shards_total) == (7, 3)
    assert file_place.result()["id"].to_pylist() == [6, 5, 4, 3, 2, 1, 0]
    assert [str(column.type) for column in file_place.result().columns[:3]] == ["int64", "string", "double"]


def test_a_locked_database_is_worth_a_retry(shop, tmp_path):
    writer = shop(isolation_level=None)
    writer.execute("begin exclusive")
    source = query_rows("the shop", partial(shop, timeout=0.1), "select * from reviews")
    with pytest.raises(DatabaseUnavailableError, match="the shop cannot be read: database is locked"):
        list(source.pieces(tmp_path))
    writer.close()


def test_no_message_goes_on_with_the_query_or_holds_the_secret(tmp_path):
    def connect():
        raise ConnectionError("no route with hunter22\nLINE 1: select secrets")

    source = query_rows("the shop", connect, "select 1", secrets=lambda: ["hunter22"])
    with pytest.raises(DatabaseUnavailableError, match=r"cannot be read: no route with \*\*\*\. Check"):
        list(source.pieces(tmp_path))
    assert first_line(ValueError()) == "ValueError"


def test_a_query_that_is_cancelled_before_there_is_a_connection_is_never_asked(shop, tmp_path):
    asked = []

    def connect():
        source.cancel()  # as another thread does while this one waits for the server
        connection = shop()
        connection.set_trace_callback(asked.append)
        return connection

    source = query_rows("the shop", connect, "select * from reviews")
    with pytest.raises(RunCancelledError):
        list(source.pieces(tmp_path))
    assert asked == []


def test_a_query_that_is_cancelled_between_two_fetches_reads_no_further(shop, tmp_path):
    source = query_rows("the shop", shop, "select a.text || b.text as text from reviews a, reviews b, reviews c")
    pieces = source.pieces(tmp_path)
    source.cancel()
    with pytest.raises(RunCancelledError):
        next(pieces)


def test_reading_a_query_needs_no_airflow():
    code = "import sys, airflow_provider_hfreg.runs.query; print('airflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
