"""The examples on S3: one logs, gates and scores, the other scores with what the first one's alias points to."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sentiment_workspace import read_results, write_table

from airflow_provider_hfreg.storage.urls import open_store
from airflow_provider_hfreg.testing.servers import ServerProcess
from airflow_provider_hfreg.testing.workers import redis_server


@pytest.fixture(scope="module")
def lake(seaweedfs):
    """The bucket that ``minimal`` names."""
    yield seaweedfs.create_bucket("lake")
    seaweedfs.delete_bucket("lake")


@pytest.fixture(scope="module")
def run_dag(airflow_environment, seaweedfs, lake):
    """Runs a DAG with Airflow's own command."""
    connection = {
        "conn_type": "hfreg",
        "host": f"{lake}/registry",
        "login": seaweedfs.access_key,
        "password": seaweedfs.secret_key,
        "extra": {"endpoint_url": seaweedfs.endpoint_url, "region_name": "us-east-1"},
    }
    environment = airflow_environment | {"AIRFLOW_CONN_HFREG_DEFAULT": json.dumps(connection)}

    def run(dag_id, more=None, **params):
        command = [sys.executable, "-m", "airflow", "dags", "test", dag_id, "--conf", json.dumps(params)]
        done = subprocess.run(command, env=environment | (more or {}), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        assert seaweedfs.secret_key not in done.stdout + done.stderr
        return done.stdout

    run.environment = environment
    return run


@pytest.fixture(scope="module")
def nightly_log(run_dag, lake, easy_table, s3_settings):
    write_table(open_store(f"{lake}/workspace", s3_settings), easy_table)
    return run_dag("sentiment_nightly", workspace_url=f"{lake}/workspace", output_url=f"{lake}/nightly", epochs=5)


def test_sentiment_nightly_keeps_everything_in_the_bucket(nightly_log, lake, s3_settings):
    assert "1,000" in nightly_log
    results = read_results(f"{lake}/nightly", s3_settings)
    assert results.num_rows == 1_000
    assert results["predicted_label"].null_count == 0


def test_minimal_scores_a_folder_with_the_version_that_passed(nightly_log, run_dag, lake, s3_settings):
    texts = pa.BufferOutputStream()
    pq.write_table(pa.table({"id": [1, 2], "text": ["text 1: lovely!", "text 2: awful!"]}), texts)
    open_store(f"{lake}/texts", s3_settings).put("day.parquet", texts.getvalue().to_pybytes())

    run_dag("minimal")

    (day,) = open_store(f"{lake}/scores", s3_settings).list_names()
    results = read_results(f"{lake}/scores/{day}", s3_settings).to_pylist()
    assert [(row["id"], row["label"]) for row in results] == [(1, "POSITIVE"), (2, "NEGATIVE")]


@pytest.fixture
def pool(run_dag, lake, tmp_path):
    """The pool ``cpu`` with a worker started by Airflow's own command; gives the configuration of both."""
    options = {
        "message_keys": "a key for tests that protects nothing",
        "executor_pools": json.dumps({"cpu": {}}),
        "worker_storages": json.dumps([{"url": lake, "conn_id": "hfreg_default"}]),
    }
    with redis_server(tmp_path / "redis") as redis:
        options["broker_url"] = redis.url
        configured = {f"AIRFLOW__HFREG__{name.upper()}": value for name, value in options.items()}
        command = [sys.executable, "-m", "airflow", "hfreg", "worker", "--pool", "cpu"]
        worker = ServerProcess(command, tmp_path / "worker.log", run_dag.environment | configured)
        worker.start()
        try:
            yield configured
        finally:
            worker.kill()


@pytest.mark.slow
def test_sentiment_nightly_scores_on_an_executor_pool(nightly_log, pool, run_dag, lake, s3_settings):
    doctor = [sys.executable, "-m", "airflow", "hfreg", "doctor"]
    deadline = time.monotonic() + 90
    while subprocess.run(doctor, env=run_dag.environment | pool, capture_output=True, check=False).returncode:
        assert time.monotonic() < deadline

    log = run_dag(
        "sentiment_nightly",
        more=pool,
        workspace_url=f"{lake}/workspace",
        output_url=f"{lake}/on-a-pool",
        epochs=5,
        executor_pool="cpu",
    )

    assert "[cpu-0-" in log
    ours = read_results(f"{lake}/on-a-pool", s3_settings).sort_by("text")
    here = read_results(f"{lake}/nightly", s3_settings).sort_by("text")
    assert ours["predicted_label"].to_pylist() == here["predicted_label"].to_pylist()
