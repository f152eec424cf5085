"""PostgreSQL for tests: what it committed survives a kill, and it runs as nobody in a folder closed to others."""

from __future__ import annotations

import os

import psutil
import psycopg
import pytest

from airflow_provider_hfreg.testing.postgres import postgres_server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("closed")
    folder.chmod(0o700)
    with postgres_server(folder / ("deep" * 30)) as running:
        running.create_database("airflow")
        yield running


def connect(server, database="airflow"):
    return psycopg.connect(server.url(database, scheme="postgresql"))


def test_what_was_committed_survives_a_kill(server):
    with connect(server) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS number")
    server.kill()
    with pytest.raises(psycopg.OperationalError):
        connect(server)
    server.restart()
    with connect(server) as connection:
        assert connection.execute("SELECT number FROM kept").fetchall() == [(1,)]


def test_a_database_that_is_there_is_no_error(server):
    server.create_database("airflow")
    with connect(server) as connection:
        assert connection.info.dbname == "airflow"


def test_nobody_enters_without_the_password(server):
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(server.url("airflow", scheme="postgresql").replace(server.password, "guess"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to give way")
def test_it_does_not_run_as_root(server):
    programs = [child for child in psutil.Process(server.process.pid).children() if child.name() == "postgres"]
    assert [program.username() for program in programs] == ["nobody"]


def test_a_second_start_finds_the_first_ones_databases_and_nothing_is_left_running(tmp_path):
    with postgres_server(tmp_path) as first:
        first.create_database("kept")
        leader = psutil.Process(first.process.pid)
        family = [leader, *leader.children(recursive=True)]
    assert [process for process in family if process.is_running()] == []
    assert "database system is shut down" in (tmp_path / "postgres.log").read_text()
    with postgres_server(tmp_path) as second, connect(second, "kept") as connection:
        assert connection.info.dbname == "kept"
