"""A Redis and a resident worker for the session, and runs on them that are begun, as a task leaves them."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_provider_hfreg.hooks.pools import on_pool
from airflow_provider_hfreg.registry import Registry
from airflow_provider_hfreg.runs import layout
from airflow_provider_hfreg.runs.asking import prepare
from airflow_provider_hfreg.runs.batch import begin_run
from airflow_provider_hfreg.runs.execution import InProcess
from airflow_provider_hfreg.runs.spec import BatchRequest
from airflow_provider_hfreg.storage.base import ObjectStore
from airflow_provider_hfreg.testing.models import text_classifier, text_generator
from airflow_provider_hfreg.testing.workers import WorkerProcess, redis_server, workers_settings
from airflow_provider_hfreg.triggers.deferral import Deferral
from airflow_provider_hfreg.workers.claims import read_claim


@pytest.fixture(scope="session")
def redis(tmp_path_factory):
    """A running Redis."""
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def versions(tmp_path_factory):
    """A classifier, and a generator that draws its tokens: slow enough to be stopped in the middle."""
    folder = tmp_path_factory.mktemp("registry")
    registry = Registry((folder / "store").as_uri(), cache_folder=folder / "cache")
    kwargs = {"do_sample": True, "max_new_tokens": 24, "return_full_text": False}
    return SimpleNamespace(
        classifier=registry.log_folder(
            text_classifier(folder / "classifier"), model_name="classifier", task="text-classification"
        ),
        sampler=registry.log_folder(
            text_generator(folder / "sampler"), model_name="sampler", task="text-generation", pipeline_kwargs=kwargs
        ),
    )


@pytest.fixture(scope="session")
def plain_settings(redis, tmp_path_factory, seaweedfs, _shared_bucket_url):
    """Settings of the session's worker, as plain values."""
    s3 = seaweedfs.settings()
    keys = {name: getattr(s3, name) for name in ("endpoint_url", "region_name", "access_key_id", "secret_access_key")}
    storages = [{"url": tmp_path_factory.getbasetemp().as_uri()}, {"url": _shared_bucket_url, **keys}]
    cache = str(tmp_path_factory.mktemp("worker-cache"))
    return workers_settings(redis.url, storages, cache_folder=cache, lapse_s=6)


@pytest.fixture(scope="session")
def worker(plain_settings, tmp_path_factory):
    """A worker of the pool ``cpu`` that no test ends."""
    with WorkerProcess(plain_settings, tmp_path_factory.mktemp("worker")) as process:
        yield process


@pytest.fixture
def configured(plain_settings, seaweedfs, monkeypatch):
    """Airflow's configuration of that pool and of another one that nobody serves; the connection ``lake``."""
    pools = plain_settings["pools"] | {"nobody": {}}
    monkeypatch.setenv("AIRFLOW__HFREG__BROKER_URL", plain_settings["broker_url"])
    monkeypatch.setenv("AIRFLOW__HFREG__MESSAGE_KEYS", ",".join(plain_settings["message_keys"]))
    monkeypatch.setenv("AIRFLOW__HFREG__EXECUTOR_POOLS", json.dumps(pools))
    monkeypatch.setenv("AIRFLOW__HFREG__CLAIM_LAPSE_S", str(plain_settings["lapse_s"]))
    lake = {"conn_type": "hfreg", "login": seaweedfs.access_key, "password": seaweedfs.secret_key}
    lake["extra"] = {"endpoint_url": seaweedfs.endpoint_url}
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", json.dumps(lake))


@dataclass
class LeftRun:
    """A run that a task began and left behind."""

    deferral: Deferral
    output: ObjectStore
    ask: Any

    @property
    def names(self):
        """What lies in the run's folder of claims."""
        return [info.key for info in self.output.list_infos(layout.claims_folder(self.deferral.batch_run_id))]

    def claims(self):
        """The claims, by shard."""
        run_id = self.deferral.batch_run_id
        shards = [shard for key in self.names if (shard := layout.find_claim(key, run_id)) is not None]
        return {shard: read_claim(self.output, layout.claim_key(shard, run_id))[0] for shard in shards}

    def parts(self):
        """The committed shards."""
        found = (layout.find_part(info.key) for info in self.output.list_infos("part-"))
        return sorted(part[0] for part in found if part)

    def rows(self):
        """The output's rows, by their ids."""
        keys = [info.key for info in self.output.list_infos("part-")]
        tables = [pq.read_table(pa.BufferReader(self.output.get(key))) for key in keys]
        return pa.concat_tables(tables).sort_by("id").to_pylist()


@pytest.fixture
def leave_run(configured, versions, file_url, s3_settings):
    """Begin a run as a task does; called with its texts, where it is to lie, and what the request is to be."""

    def leave(texts, *, url=file_url, executor_pool="cpu", version=versions.classifier, limit=None, **options):
        from airflow_provider_hfreg.storage.urls import open_store

        sink = pa.BufferOutputStream()
        pq.write_table(
            pa.table({"id": range(len(texts)), "text": pa.array(texts, pa.string())}), sink, row_group_size=5
        )
        open_store(f"{url}/in", s3_settings).put("a.parquet", sink.getvalue().to_pybytes())
        began_at = time.time()
        ask = prepare(
            BatchRequest(f"{url}/in", f"{url}/out", **{"rows_per_shard": 5} | options),
            version=version,
            identity="me",
            registry_url=version.registry_url,
            s3=s3_settings,
            rerun=False,
            log=logging.getLogger("task"),
        )
        is_there = executor_pool == "cpu"
        begun = begin_run(ask, on_pool(executor_pool, cancelled=lambda: False) if is_there else InProcess())
        deferral = Deferral.of(begun, executor_pool=executor_pool, conn_id="lake", began_at=began_at, limit=limit)
        return LeftRun(deferral, ask.output, ask)

    return leave


@pytest.fixture
def leave_slow_run(leave_run, versions):
    """Begin a run of three shards that take a while."""
    texts = [f"the film number {number} was good" for number in range(6000)]
    return lambda **options: leave_run(
        texts, version=versions.sampler, columns={"inputs": "text"}, **{"rows_per_shard": 2000} | options
    )
