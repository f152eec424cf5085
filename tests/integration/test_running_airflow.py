"""The nightly example in a running Airflow, its registry and tables on S3: triggered through REST, and killed."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_provider_hfreg.hooks.hfreg import HFRegistryHook
from airflow_provider_hfreg.storage.urls import open_store
from airflow_provider_hfreg.testing.airflow import standalone

EXAMPLES = Path(__file__).parents[2] / "example_dags"
DAG = "sentiment_nightly"
ROWS = 23_703

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def connection(seaweedfs):
    """The connection ``hfreg_default``, its registry in a bucket."""
    bucket = seaweedfs.create_bucket("running-airflow")
    keys = {"login": seaweedfs.access_key, "password": seaweedfs.secret_key}
    return {
        "conn_type": "hfreg",
        "host": f"{bucket}/registry",
        "extra": {"endpoint_url": seaweedfs.endpoint_url},
        **keys,
    }


@pytest.fixture(scope="module")
def airflow(connection, tmp_path_factory):
    """A running Airflow with the example DAGs."""
    home = tmp_path_factory.mktemp("running") / "airflow"
    environment = {
        "AIRFLOW_CONN_HFREG_DEFAULT": json.dumps(connection),
        "AIRFLOW__HFREG__CACHE_FOLDER": str(home / "cache"),
    }
    with standalone(home, EXAMPLES, environment) as running:
        yield running


@pytest.fixture
def bucket(connection, seaweedfs):
    return open_store(connection["host"].removesuffix("/registry"), seaweedfs.settings())


def trigger(airflow, bucket, **conf):
    """Trigger the example with values of the form; the run that its schedule starts by itself is called off."""
    quick = {"epochs": 1, "train_rows": 2_000, "min_accuracy": 0.5, "model_name": "rest"}
    run_id = airflow.trigger(DAG, quick | {"workspace_url": bucket.location("workspace")} | conf)

    def ours_runs():
        for run in airflow.call("GET", f"dags/{DAG}/dagRuns")["dag_runs"]:
            if run["run_type"] == "scheduled" and run["state"] in ("queued", "running"):
                airflow.call("PATCH", f"dags/{DAG}/dagRuns/{run['dag_run_id']}", state="failed")
        return airflow.task(DAG, run_id, "prepare")["state"] in ("running", "success")

    airflow.wait_until("the triggered run has begun", ours_runs, timeout_s=300)
    return run_id


def ids_in(bucket, folder):
    parts = [info.key for info in bucket.list_infos(f"{folder}/part-")]
    return pa.concat_tables(pq.read_table(bucket.open_reader(part)) for part in parts)["id"].to_pylist()


def test_a_run_triggered_with_other_params_succeeds_on_s3(airflow, bucket, connection, monkeypatch):
    output = bucket.location("scored/first")
    run_id = trigger(airflow, bucket, version_name="v1", alias="challenger", output_url=output)
    assert airflow.wait(DAG, run_id, timeout_s=900) == "success"
    report = airflow.xcom(DAG, run_id, "score")
    assert (report["model_name"], report["version_name"], report["output"]) == ("rest", "v1", output)
    assert report["rows_in"] == report["rows_ok"] == ROWS
    assert len(set(ids_in(bucket, "scored/first"))) == ROWS
    monkeypatch.setenv("AIRFLOW_CONN_HFREG_DEFAULT", json.dumps(connection))
    assert HFRegistryHook().registry.get_model("rest").aliases() == {"challenger": "v1"}
    reached = airflow.call(
        "POST", "connections/test", connection_id="asked", **connection | {"extra": json.dumps(connection["extra"])}
    )
    assert reached["status"] is True, reached
    assert "1 model(s): rest" in reached["message"]


def test_a_task_killed_in_the_middle_of_scoring_is_retried_and_no_row_is_twice(airflow, bucket):
    run_id = trigger(airflow, bucket, output_url=bucket.location("scored/killed"))

    def some_parts_written():
        parts = len(list(bucket.list_infos("scored/killed/part-")))
        return parts and airflow.task(DAG, run_id, "score")

    task = airflow.wait_until("the first shard is committed", some_parts_written, timeout_s=900)
    assert task["state"] == "running"
    os.kill(task["pid"], signal.SIGKILL)
    assert airflow.wait(DAG, run_id, timeout_s=900) == "success"
    assert airflow.task(DAG, run_id, "score")["try_number"] == 2
    report = airflow.xcom(DAG, run_id, "score")
    assert (report["rows_in"], report["rows_ok"]) == (ROWS, ROWS)
    assert 1 <= report["shards_resumed"] < report["shards_total"]
    ids = ids_in(bucket, "scored/killed")
    assert (len(ids), len(set(ids))) == (ROWS, ROWS)
    said = "\n".join(airflow.log_events(DAG, run_id, "score", try_number=2))
    assert f"resuming: {report['shards_resumed']} of {report['shards_total']} shards" in said
