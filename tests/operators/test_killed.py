"""A task on a pool is killed by a real signal, under Airflow's own supervisor: its shards stop, and a retry goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_provider_hfreg.runs import layout
from airflow_provider_hfreg.storage.urls import open_store
from airflow_provider_hfreg.testing.models import text_generator
from airflow_provider_hfreg.workers.claims import ClaimState, read_claim

DAG = """
from airflow.sdk import DAG

from airflow_provider_hfreg.operators.run_model import RunHFModelOperator

with DAG("killed", schedule=None):
    RunHFModelOperator(
        task_id="score", model="slow", input_url={input!r}, output_url={output!r}, rows_per_shard=8000,
        columns={{"inputs": "text"}}, executor_pool="cpu", retries=1,
    )
"""
ROWS = 24_000

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def slow_dag(registry, tmp_path):
    """A DAG's file whose task takes a while, and the store of its output."""
    model = text_generator(tmp_path / "slow")
    kwargs = {"do_sample": True, "max_new_tokens": 24, "return_full_text": False}
    registry.log_folder(model, model_name="slow", task="text-generation", pipeline_kwargs=kwargs)
    texts = [f"the film number {number} was good" for number in range(ROWS)]
    pq.write_table(pa.table({"id": range(ROWS), "text": texts}), tmp_path / "in.parquet", row_group_size=1000)
    dag_file = tmp_path / "dags" / "killed.py"
    dag_file.parent.mkdir()
    dag_file.write_text(DAG.format(input=str(tmp_path / "in.parquet"), output=str(tmp_path / "out")))
    return dag_file, open_store((tmp_path / "out").as_uri())


def supervised(dag_file):
    program = [sys.executable, "-m", "airflow_provider_hfreg.testing.supervised"]
    arguments = [str(dag_file), "killed", "score", str(dag_file.with_suffix(".log")), "True"]
    environment = os.environ | {"AIRFLOW__CORE__DAGS_FOLDER": str(dag_file.parent)}
    return subprocess.Popen([*program, *arguments], env=environment, stdout=subprocess.PIPE, text=True)


def claims_in(output):
    keys = [info.key for info in output.list_infos(layout.RUNS_FOLDER)]
    return [read_claim(output, key)[0] for key in keys if "/claims/" in key and key.endswith(".json")]


def is_running(output):
    return any(claim.state is ClaimState.RUNNING for claim in claims_in(output))


def wait_until(condition, timeout_s=300):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)


def test_a_task_that_gets_a_sigterm_stops_its_shards_before_it_would_be_killed(slow_dag, pool):
    dag_file, output = slow_dag
    first = supervised(dag_file)
    wait_until(lambda: is_running(output))
    (task,) = psutil.Process(first.pid).children()
    task.send_signal(signal.SIGTERM)
    state = first.communicate(timeout=300)[0].split()[-1]

    assert state == "up_for_retry"
    assert "Stopping after the current batch" in dag_file.with_suffix(".log").read_text()
    assert any("/claims/stopped-" in info.key for info in output.list_infos(layout.RUNS_FOLDER))
    wait_until(lambda: not is_running(output))
    assert "was stopped and is handed back" in pool.log_text()
    assert len(list(output.list_infos("part-"))) < 3

    second = supervised(dag_file)
    assert second.communicate(timeout=600)[0].split()[-1] == "success"
    parts = [pq.read_table(pa.BufferReader(output.get(info.key))) for info in output.list_infos("part-")]
    assert sorted(pa.concat_tables(parts)["id"].to_pylist()) == list(range(ROWS))
