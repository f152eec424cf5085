"""A registry behind the default connection, a tiny model, a small table, and a task's context."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_provider_hfreg.hooks.hfreg import HFRegistryHook
from airflow_provider_hfreg.operators.run_model import RunHFModelOperator
from airflow_provider_hfreg.testing.models import text_classifier
from airflow_provider_hfreg.testing.workers import WorkerProcess, redis_server, workers_settings

TEXTS = ["a good film", "a dull plot", None, "Das Essen war köstlich", "neither good nor bad", "10/10"]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """A text classifier as a Hugging Face folder."""
    return text_classifier(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def other_model_folder(tmp_path_factory):
    """Another one of the same kind."""
    return text_classifier(tmp_path_factory.mktemp("models") / "other", seed=1)


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """The registry of the connection ``hfreg_default``, empty, in a folder."""
    connection = {"conn_type": "hfreg", "host": (tmp_path / "registry").as_uri()}
    monkeypatch.setenv("AIRFLOW_CONN_HFREG_DEFAULT", json.dumps(connection))
    monkeypatch.setenv("AIRFLOW__HFREG__CACHE_FOLDER", str(tmp_path / "cache"))
    return HFRegistryHook().registry


@pytest.fixture
def table(tmp_path):
    """Six rows, one of them without text."""
    path = tmp_path / "texts.parquet"
    pq.write_table(pa.table({"id": list(range(len(TEXTS))), "body": TEXTS}), path)
    return path


@pytest.fixture
def context():
    """What Airflow gives to ``execute``; called with a run id, of the same task in another run."""

    def of(run_id="manual__1", map_index=-1):
        ti = SimpleNamespace(dag_id="nightly", task_id="task", run_id=run_id, map_index=map_index)
        return {"ti": ti, "dag_run": SimpleNamespace(run_after=datetime(2026, 7, 29, tzinfo=UTC))}

    return of


@pytest.fixture
def logged(registry, model_folder, other_model_folder):
    """Two versions of a model, the first its champion."""
    model = {"model_name": "tiny", "task": "text-classification"}
    first = registry.log_folder(model_folder, version_name="v1", **model)
    registry.log_folder(other_model_folder, version_name="v2", **model)
    registry.get_model("tiny").set_alias("champion", "v1")
    return first


@pytest.fixture
def run_task(logged, table, tmp_path):
    def make(**kwargs):
        fields = {"model": "tiny@champion", "input_url": str(table), "output_url": str(tmp_path / "out")}
        fields["columns"] = {"text": "body"}
        return RunHFModelOperator(task_id="task", **(fields | kwargs))

    return make


@pytest.fixture(scope="session")
def resident(tmp_path_factory):
    """A worker of a pool ``cpu`` that no test ends, and its settings as plain values."""
    folder = tmp_path_factory.mktemp("resident")
    storages = [{"url": tmp_path_factory.getbasetemp().as_uri()}]
    with redis_server(folder / "redis") as redis:
        plain = workers_settings(redis.url, storages, cache_folder=str(folder / "cache"))
        with WorkerProcess(plain, folder / "worker") as worker:
            yield worker, plain


@pytest.fixture
def pool(resident, monkeypatch):
    """The pool ``cpu`` with its worker, and a pool ``nobody`` with none, as the configuration has them."""
    worker, plain = resident
    monkeypatch.setenv("AIRFLOW__HFREG__BROKER_URL", plain["broker_url"])
    monkeypatch.setenv("AIRFLOW__HFREG__MESSAGE_KEYS", ",".join(plain["message_keys"]))
    monkeypatch.setenv("AIRFLOW__HFREG__EXECUTOR_POOLS", json.dumps(plain["pools"] | {"nobody": {}}))
    return worker


@pytest.fixture
def lite(tmp_path, monkeypatch):
    """A SQLite with five texts, behind the connection ``lite``."""
    path = tmp_path / "lite.db"
    monkeypatch.setenv("AIRFLOW_CONN_LITE", json.dumps({"conn_type": "sqlite", "host": str(path)}))
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("create table texts (id integer, body text, day text)")
    rows = [(number, f"film {number}", "2026-01-01") for number in range(5)]
    connection.executemany("insert into texts values (?, ?, ?)", rows)
    yield connection
    connection.close()
