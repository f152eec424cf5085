"""A Redis and a resident worker for the session, and tables for them: real processes throughout."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from airflow_provider_hfreg.registry import Registry
from airflow_provider_hfreg.runs import layout
from airflow_provider_hfreg.runs.batch import run_batch
from airflow_provider_hfreg.runs.execution import InProcess
from airflow_provider_hfreg.runs.spec import BatchRequest
from airflow_provider_hfreg.storage.urls import open_store
from airflow_provider_hfreg.testing.workers import WorkerProcess, redis_server, workers_settings
from airflow_provider_hfreg.workers.client import OnPool
from airflow_provider_hfreg.workers.settings import parse_settings


@pytest.fixture(scope="session")
def redis(tmp_path_factory):
    """A running Redis: has ``url``, ``kill()``, ``restart()``."""
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def version(tmp_path_factory):
    """A tiny text classifier in a registry on a folder."""
    from airflow_provider_hfreg.testing.models import text_classifier

    folder = tmp_path_factory.mktemp("registry")
    registry = Registry((folder / "store").as_uri(), cache_folder=folder / "cache")
    model = text_classifier(folder / "model")
    return registry.log_folder(model, model_name="tiny", version_name="v1", task="text-classification")


@pytest.fixture(scope="session")
def coded(version, tmp_path_factory):
    """A tiny text classifier whose network is a Python file of its own."""
    from airflow_provider_hfreg.testing.models import text_classifier_with_code

    folder = tmp_path_factory.mktemp("coded")
    registry = Registry(version.registry_url, cache_folder=folder / "cache")
    model = text_classifier_with_code(folder / "model")
    return registry.log_folder(
        model, model_name="coded", version_name="v1", task="text-classification", trust_remote_code=True
    )


@pytest.fixture(scope="session")
def storages(tmp_path_factory, seaweedfs, _shared_bucket_url):
    """What workers may touch: all of the session's folders, and its bucket."""
    s3 = seaweedfs.settings()
    keys = {name: getattr(s3, name) for name in ("endpoint_url", "region_name", "access_key_id", "secret_access_key")}
    return [{"url": tmp_path_factory.getbasetemp().as_uri()}, {"url": _shared_bucket_url, **keys}]


@pytest.fixture(scope="session")
def plain_settings(redis, storages, tmp_path_factory):
    """Settings of the session's workers, as plain values; called with what is to differ."""
    cache = tmp_path_factory.mktemp("worker-cache")
    return lambda **changes: workers_settings(redis.url, storages, cache_folder=str(cache), **changes)


@pytest.fixture(scope="session")
def worker(plain_settings, tmp_path_factory):
    """A worker of the pool ``cpu`` that no test ends."""
    with WorkerProcess(plain_settings(), tmp_path_factory.mktemp("worker")) as process:
        yield process


@dataclass
class Desk:
    """Where a test's tables lie, and how it runs them on a pool."""

    url: str
    s3: Any
    version: Any
    settings: Any
    pool_name: str = "cpu"
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("desk"))

    @property
    def output(self):
        return open_store(f"{self.url}/out", self.s3)

    def put_texts(self, texts):
        table = pa.table({"id": pa.array(range(len(texts))), "text": pa.array(texts, pa.string())})
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, row_group_size=10)
        open_store(f"{self.url}/in", self.s3).put("a.parquet", sink.getvalue().to_pybytes())

    def run(
        self,
        *,
        execution=None,
        identity="me",
        output="out",
        rows_per_shard=10,
        cancelled=lambda: False,
        source=None,
        **options,
    ):
        pool = self.settings.pool(self.pool_name)
        request = {"input": f"{self.url}/in", "output": f"{self.url}/{output}", "rows_per_shard": rows_per_shard}
        return run_batch(
            BatchRequest(**request | options),
            version=self.version,
            identity=identity,
            registry_url=self.version.registry_url,
            s3=self.s3,
            execution=execution or OnPool(self.settings, pool, cancelled=cancelled),
            source=source,
            log=self.log,
            progress_interval_s=0.0,
        )

    def run_here(self, **options):
        """Run the same in this process: what a run on a pool is compared with."""
        self.run(execution=InProcess(), output="here", **options)
        return self.rows("here")

    def rows(self, output="out"):
        """The output's rows, by their ids."""
        store = open_store(f"{self.url}/{output}", self.s3)
        keys = [info.key for info in store.list_infos("part-") if layout.find_part(info.key)]
        tables = [pq.read_table(pa.BufferReader(store.get(key))) for key in keys]
        return pa.concat_tables(tables).sort_by("id").to_pylist()


@pytest.fixture
def make_desk(file_url, version):
    """Make a desk in a folder; called with settings."""
    return lambda settings: Desk(file_url, None, version, settings)


@pytest.fixture
def desk(file_url, version, worker):
    """A desk in a folder, with the session's worker."""
    return Desk(file_url, None, version, worker.settings)


@pytest.fixture
def s3_desk(s3_url, s3_settings, version, worker):
    """A desk on S3, with the session's worker."""
    return Desk(s3_url, s3_settings, version, worker.settings)


@pytest.fixture
def texts():
    """So many texts; called with how many."""
    return lambda count: [f"the film number {number} was good" for number in range(count)]


@pytest.fixture(scope="session")
def sampler(version, tmp_path_factory):
    """A tiny generator that draws its tokens: slow enough to be killed, and equal only if the seeds are."""
    from airflow_provider_hfreg.registry import Registry
    from airflow_provider_hfreg.testing.models import text_generator

    folder = tmp_path_factory.mktemp("sampler")
    kwargs = {"do_sample": True, "max_new_tokens": 4, "return_full_text": False}
    registry = Registry(version.registry_url, cache_folder=folder / "cache")
    model = text_generator(folder / "model")
    return registry.log_folder(model, model_name="sampler", task="text-generation", pipeline_kwargs=kwargs)


@pytest.fixture
def own_worker(plain_settings, tmp_path):
    """Start a worker that the test may end; called with a number. Its pool is its own."""
    with contextlib.ExitStack() as started:
        plain = plain_settings(pools={f"own-{tmp_path.name}"[:60].rstrip("-_"): {}}, lapse_s=3)

        def start(number=0):
            return started.enter_context(WorkerProcess(plain, tmp_path / f"worker-{number}"))

        start.settings = parse_settings(plain)
        yield start


@pytest.fixture
def slow_desk(desk, sampler, own_worker):
    """A desk whose shards take a while, on a pool of its own without workers so far."""
    desk.version = sampler
    desk.settings = own_worker.settings
    (desk.pool_name,) = own_worker.settings.pools
    return desk
