"""A deferred run in a running Airflow: its triggerer follows real workers, and stops them when the task is marked."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_provider_hfreg.registry import Registry
from airflow_provider_hfreg.runs import layout
from airflow_provider_hfreg.storage.urls import open_store
from airflow_provider_hfreg.testing.airflow import standalone
from airflow_provider_hfreg.testing.models import text_classifier, text_generator
from airflow_provider_hfreg.testing.workers import WorkerProcess, redis_server, workers_settings
from airflow_provider_hfreg.workers.claims import ClaimState, read_claim

DAGS = Path(__file__).parent / "pool_dags"
DAG = "score_on_pool"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def bucket(seaweedfs):
    """A bucket with a registry of a classifier and of a generator that takes its time."""
    return open_store(seaweedfs.create_bucket("deferred"), seaweedfs.settings())


@pytest.fixture(scope="module")
def registry(bucket, seaweedfs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("registry")
    registry = Registry(bucket.location("registry"), s3=seaweedfs.settings(), cache_folder=folder / "cache")
    registry.log_folder(text_classifier(folder / "quick"), model_name="quick", task="text-classification")
    kwargs = {"do_sample": True, "max_new_tokens": 24, "return_full_text": False}
    registry.log_folder(
        text_generator(folder / "slow"), model_name="slow", task="text-generation", pipeline_kwargs=kwargs
    )
    return registry


@pytest.fixture(scope="module")
def airflow(registry, bucket, seaweedfs, tmp_path_factory):
    """A running Airflow, a broker, and a worker of the pool ``cpu``."""
    folder = tmp_path_factory.mktemp("deferred")
    keys = {"login": seaweedfs.access_key, "password": seaweedfs.secret_key}
    connection = {"conn_type": "hfreg", "host": registry.url, "extra": {"endpoint_url": seaweedfs.endpoint_url}, **keys}
    s3 = seaweedfs.settings()
    names = ("endpoint_url", "region_name", "access_key_id", "secret_access_key")
    storage = {"url": bucket.url, **{name: getattr(s3, name) for name in names}}
    with redis_server(folder / "redis") as redis:
        plain = workers_settings(redis.url, [storage], cache_folder=str(folder / "worker-cache"))
        environment = {
            "AIRFLOW_CONN_HFREG_DEFAULT": json.dumps(connection),
            "AIRFLOW__HFREG__CACHE_FOLDER": str(folder / "cache"),
            "AIRFLOW__HFREG__BROKER_URL": redis.url,
            "AIRFLOW__HFREG__MESSAGE_KEYS": ",".join(plain["message_keys"]),
            "AIRFLOW__HFREG__EXECUTOR_POOLS": json.dumps(plain["pools"]),
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "120",  # a busy machine is no failure
        }
        with WorkerProcess(plain, folder / "worker"), standalone(folder / "airflow", DAGS, environment) as running:
            yield running


def put_texts(bucket, count, folder):
    texts = [f"the film number {number} was good" for number in range(count)]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"id": range(count), "text": texts}), sink, row_group_size=100)
    bucket.put(f"{folder}/in/a.parquet", sink.getvalue().to_pybytes())
    return {"input": bucket.location(f"{folder}/in"), "output": bucket.location(f"{folder}/out")}


def claims_below(bucket, folder):
    keys = [info.key for info in bucket.list_infos(f"{folder}/out/{layout.RUNS_FOLDER}")]
    return [read_claim(bucket, key)[0] for key in keys if "/claims/" in key and key.endswith(".json")]


def is_running(bucket, folder):
    return any(claim.state is ClaimState.RUNNING for claim in claims_below(bucket, folder))


def ids_in(bucket, folder):
    parts = [info.key for info in bucket.list_infos(f"{folder}/out/part-")]
    return sorted(
        pa.concat_tables(pq.read_table(pa.BufferReader(bucket.get(part))) for part in parts)["id"].to_pylist()
    )


def test_a_deferred_run_is_completed_and_its_workers_lines_are_in_the_tasks_log(airflow, bucket):
    places = put_texts(bucket, 500, "completed")
    run_id = airflow.trigger(DAG, {"model": "quick", **places})
    assert airflow.wait(DAG, run_id, timeout_s=900) == "success"
    report = airflow.xcom(DAG, run_id, "score")
    assert (report["status"], report["rows_in"], report["rows_ok"]) == ("completed", 500, 500)
    assert (report["shards_total"], report["shards_resumed"]) == (5, 0)
    assert report["rows_per_s"] > 0
    assert ids_in(bucket, "completed") == list(range(500))
    said = airflow.log_events(DAG, run_id, "score")
    assert sum("] Shard " in line and " rows ok, " in line for line in said) == 5, said
    assert any("The triggerer follows 5 shards" in line for line in said)
    assert any("completed: 500 rows in" in line for line in said)


def test_a_deferred_task_that_is_marked_as_failed_stops_its_shards_and_goes_on_when_cleared(airflow, bucket):
    places = put_texts(bucket, 24_000, "marked")
    options = {"columns": {"inputs": "text"}, "rows_per_shard": 8000}
    run_id = airflow.trigger(DAG, {"model": "slow", **places, **options})

    def is_followed():
        return airflow.task(DAG, run_id, "score")["state"] == "deferred" and is_running(bucket, "marked")

    airflow.wait_until("a shard runs while the task is deferred", is_followed, timeout_s=600)
    instance = f"dags/{DAG}/dagRuns/{run_id}/taskInstances/score"
    airflow.call("PATCH", instance, new_state="failed")
    marked_s = time.monotonic()
    airflow.wait_until("no shard runs", lambda: not is_running(bucket, "marked"), timeout_s=120)
    print(f"The shards were stopped {time.monotonic() - marked_s:.1f} s after the task was marked.")
    assert len(list(bucket.list_infos("marked/out/part-"))) < 3

    airflow.call(
        "POST",
        f"dags/{DAG}/clearTaskInstances",
        dry_run=False,
        task_ids=["score"],
        dag_run_id=run_id,
        only_failed=False,
    )
    assert airflow.wait(DAG, run_id, timeout_s=900) == "success"
    assert airflow.xcom(DAG, run_id, "score")["rows_ok"] == 24_000
    assert ids_in(bucket, "marked") == list(range(24_000))
