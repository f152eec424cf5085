"""Where a task's rows come from: partitions, rows of the call, and a query, which is asked once whatever dies."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import threading
import time

import psycopg
import pyarrow.parquet as pq
import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_hfreg.errors import (
    DatabaseUnavailableError,
    NoWorkerError,
    PoolMismatchError,
    RunCancelledError,
    SettingsError,
)
from airflow_provider_hfreg.operators.run_model import RunHFModelOperator
from airflow_provider_hfreg.runs import layout
from airflow_provider_hfreg.storage.urls import open_store

ROWS = [{"id": number, "body": f"film {number}"} for number in range(5)]


@pytest.fixture
def run_task(registry, model_folder, tmp_path):
    registry.log_folder(model_folder, model_name="tiny", version_name="v1", task="text-classification")

    def make(**kwargs):
        fields = {"model": "tiny/v1", "output_url": str(tmp_path / "out"), "columns": {"text": "body"}}
        return RunHFModelOperator(task_id="task", **(fields | kwargs))

    return make


def output_of(report):
    return pq.read_table(report["output"].removeprefix("file://")).sort_by("id")


def staged(tmp_path):
    return [info.key for info in open_store((tmp_path / "out").as_uri()).list_infos(layout.STAGED_FOLDER)]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "exactly one of .*; there is none"),
        ({"input_url": "/in", "rows": []}, "there is input_url and rows"),
        ({"rows": [], "sql": "select 1", "sql_conn_id": "x"}, "there is rows and sql"),
        ({"sql": "select 1"}, "sql needs sql_conn_id"),
        ({"input_url": "/in", "sql_conn_id": "x"}, "belong to sql"),
    ],
)
def test_a_dag_without_one_input_does_not_parse(fields, told):
    with pytest.raises(SettingsError, match=f"Task 'task': .*{told}"):
        RunHFModelOperator(task_id="task", model="tiny/v1", output_url="/out", **fields)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"input_url": ""}, "after rendering there is none"),
        ({"rows": "None"}, "after rendering there is none"),
        ({"rows": "five"}, "rows must be a list of rows"),
        ({"sql": "", "sql_conn_id": "lite"}, "after rendering there is none"),
        ({"sql": "select 1", "sql_conn_id": "lite", "sql_params": "5"}, "sql_params must be a mapping"),
        ({"sql": "select 1", "sql_conn_id": "nowhere"}, "no connection 'nowhere'"),
        ({"sql": "select 1 as id", "sql_conn_id": "lite"}, "body"),
        ({"sql": "delete from texts", "sql_conn_id": "lite"}, "gives no rows"),
        ({"rows": [{"body": {1, 2}}]}, "Row 0 of the rows"),
        ({"rows": ROWS, "input_format": "csv"}, "input_format is given"),
    ],
)
def test_wrong_inputs_fail_for_good_in_one_paragraph(run_task, context, lite, fields, told):
    with pytest.raises(AirflowFailException) as failed:
        run_task(**fields).execute(context())
    assert told in str(failed.value)
    assert "\n" not in str(failed.value)
    assert lite.execute("select count(*) from texts").fetchone() == (5,)


def test_rows_of_the_call_as_they_are_or_as_a_templates_text(run_task, context, tmp_path):
    first = run_task(rows=ROWS).execute(context("a"))
    assert output_of(first)["body"].to_pylist() == [row["body"] for row in ROWS]
    again = run_task(rows=str(ROWS)).execute(context("a"))
    assert (again["status"], again["batch_run_id"]) == ("already_completed", first["batch_run_id"])
    fewer = run_task(rows=json.dumps(ROWS[:2])).execute(context("a"))
    assert (fewer["status"], output_of(fewer).num_rows) == ("completed", 2)


def test_partitions_are_columns_unless_told(run_task, context, table, tmp_path):
    folder = tmp_path / "lake" / "day=2026-01-01"
    folder.mkdir(parents=True)
    table.rename(folder / "a.parquet")
    report = run_task(input_url=str(tmp_path / "lake")).execute(context("a"))
    assert set(output_of(report)["day"].to_pylist()) == {"2026-01-01"}
    plain = run_task(input_url=str(tmp_path / "lake"), hive_partitioning="False").execute(context("a"))
    assert "day" not in output_of(plain).column_names


QUERY = {
    "sql": "select id, body from texts where day = :day",
    "sql_conn_id": "lite",
    "sql_params": {"day": "2026-01-01"},
}


def test_a_query_is_run_once_and_asked_again_only_by_rerun(run_task, context, lite, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        first = run_task(**QUERY, rows_per_shard=2).execute(context())
    assert (first["rows_ok"], first["shards_total"]) == (5, 3)
    assert output_of(first)["body"].to_pylist() == [row["body"] for row in ROWS]
    assert [key.rpartition("/")[2] for key in staged(tmp_path)] == ["staged.json"]
    assert "staging: the query of connection 'lite'" in caplog.text
    assert "select id" not in caplog.text
    lite.execute("update texts set body = 'another film'")
    assert run_task(**QUERY, rows_per_shard=2).execute(context())["status"] == "already_completed"
    forced = run_task(**QUERY, rerun=True).execute(context())
    assert set(output_of(forced)["body"].to_pylist()) == {"another film"}


def test_fields_of_a_query_are_rendered_and_a_file_holds_one(tmp_path, registry):
    (tmp_path / "texts.sql").write_text("select id, body from texts where day = '{{ ds }}'")
    with DAG("nightly", schedule=None, template_searchpath=str(tmp_path)):
        task = RunHFModelOperator(
            task_id="task",
            model="tiny/v1",
            output_url="/out",
            sql="texts.sql",
            sql_conn_id="{{ params.place }}",
            sql_params={"lang": "{{ params.lang }}"},
        )
    task.resolve_template_files()
    task.render_template_fields({"ds": "2026-01-01", "params": {"place": "lite", "lang": "de"}})
    assert task.sql == "select id, body from texts where day = '2026-01-01'"
    assert (task.sql_conn_id, task.sql_params) == ("lite", {"lang": "de"})


def test_only_the_query_may_be_in_a_file(tmp_path, registry):
    rows = [{"text": "{{ ds }}: see dump.sql"}]
    with DAG("nightly", schedule=None, template_searchpath=str(tmp_path)):
        given = RunHFModelOperator(task_id="given", model="tiny/v1", output_url="/out.sql", rows=rows)
        asked = RunHFModelOperator(
            task_id="asked", model="tiny/v1", output_url="/o", sql="select ?", sql_conn_id="c", sql_params=["a.sql"]
        )
    for task in (given, asked):
        task.resolve_template_files()
        task.render_template_fields({"ds": "2026-01-01"})
    assert (given.output_url, given.rows) == ("/out.sql", [{"text": "2026-01-01: see dump.sql"}])
    assert (asked.sql, asked.sql_params) == ("select ?", ["a.sql"])


def test_a_mapped_query_may_be_in_a_file_too(tmp_path, registry):
    (tmp_path / "texts.sql").write_text("select id from texts where day = '{{ ds }}'")
    with DAG("nightly", schedule=None, template_searchpath=str(tmp_path)):
        mapped = RunHFModelOperator.partial(task_id="a", model="tiny/v1", sql="texts.sql", sql_conn_id="c").expand(
            output_url=["/a"]
        )
    task = mapped.unmap({"output_url": "/a"})
    task._do_render_template_fields(task, task.template_fields, {"ds": "2026-01-01"}, mapped.get_template_env(), set())
    assert task.sql == "select id from texts where day = '2026-01-01'"


def test_a_database_that_is_away_is_worth_a_retry(run_task, context, warehouse):
    warehouse(port=9)
    with pytest.raises(DatabaseUnavailableError, match="'warehouse' cannot be read"):
        run_task(sql="select 1 as id, 'a' as body", sql_conn_id="warehouse").execute(context())


@pytest.fixture
def gate(postgres):
    """A lock that a query waits for from its 801st row on; opened by the test."""
    with psycopg.connect(postgres.url(scheme="postgresql"), autocommit=True) as connection:
        connection.execute("select pg_advisory_lock(7)")
        yield connection


GATED = """
    select n as id, 'film ' || n as body, case when n > 800 then pg_advisory_xact_lock_shared(7)::text end as waited
    from generate_series(1, 2000) n
"""

KILLED = """
import sys
from types import SimpleNamespace
from airflow_provider_hfreg.operators.run_model import RunHFModelOperator
from airflow_provider_hfreg.runs import query_batches, row_sources
query_batches._FIRST_ROWS = query_batches._MOST_ROWS = row_sources._PIECE_ROWS = 200
task = RunHFModelOperator(task_id="task", model="tiny/v1", output_url=sys.argv[1], columns={"text": "body"},
                          passthrough=["id"], sql=sys.argv[2], sql_conn_id="warehouse")
ti = SimpleNamespace(dag_id="nightly", task_id="task", run_id="manual__1", map_index=-1)
task.execute({"ti": ti})
"""


def test_killed_while_it_stages_the_next_try_gives_each_row_once(run_task, context, warehouse, gate, tmp_path):
    told = [sys.executable, "-c", KILLED, str(tmp_path / "out"), GATED]
    with subprocess.Popen(told) as killed:
        while len(staged(tmp_path)) < 2:
            assert killed.poll() is None
            time.sleep(0.1)
        killed.kill()
    assert killed.returncode == -signal.SIGKILL
    left = staged(tmp_path)
    assert left
    assert not [key for key in left if key.endswith("staged.json")]
    gate.execute("select pg_advisory_unlock(7)")
    report = run_task(sql=GATED, sql_conn_id="warehouse", passthrough=["id"]).execute(context())
    assert (report["rows_in"], report["rows_ok"]) == (2000, 2000)
    assert output_of(report)["id"].to_pylist() == list(range(1, 2001))
    assert [key.rpartition("/")[2] for key in staged(tmp_path)] == ["staged.json"]


def test_cancelled_while_it_waits_for_the_database_it_ends_and_so_does_the_query(
    run_task, context, warehouse, gate, tmp_path
):
    waiting = "select count(*) from pg_stat_activity where wait_event = 'advisory'"
    task = run_task(sql=GATED, sql_conn_id="warehouse")

    def kill():
        while not gate.execute(waiting).fetchone()[0]:
            time.sleep(0.05)
        task.on_kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(RunCancelledError, match="while the rows of its query were being staged"):
        task.execute(context())
    killer.join()
    deadline = time.monotonic() + 60
    while gate.execute(waiting).fetchone()[0]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert staged(tmp_path) == []


@pytest.mark.parametrize(
    ("executor_pool", "error", "told"),
    [("nobody", NoWorkerError, "No worker"), ("gpu", PoolMismatchError, "cuda_version=None")],
)
def test_a_query_for_a_pool_that_cannot_run_it_is_never_asked(
    run_task, context, pool, lite, monkeypatch, tmp_path, registry, model_folder, executor_pool, error, told
):
    options = {"cuda_version": None}
    registry.log_folder(model_folder, model_name="plain", task="text-classification", options=options)
    pools = {"nobody": {}, "gpu": {"device": "cuda"}}
    monkeypatch.setenv("AIRFLOW__HFREG__EXECUTOR_POOLS", json.dumps(pools))
    lite.execute("drop table texts")  # a query that is asked fails for that
    query = {"sql": "select id, body from texts", "sql_conn_id": "lite"}
    task = run_task(model="plain", **query, executor_pool=executor_pool)
    with pytest.raises((error, AirflowFailException), match=told):
        task.execute(context())
    assert staged(tmp_path) == []


def test_a_query_is_spread_over_a_pool(run_task, context, pool, warehouse):
    query = "select n as id, 'film ' || n as body from generate_series(1, 50) n"
    report = run_task(sql=query, sql_conn_id="warehouse", executor_pool="cpu", rows_per_shard=20).execute(context())
    assert (report["rows_ok"], report["shards_total"]) == (50, 3)
    assert output_of(report)["id"].to_pylist() == list(range(1, 51))
    assert "Loaded tiny/v1" in pool.log_text()
