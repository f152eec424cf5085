"""A logged tiny classifier, places for input and output on both stores, and what to look at afterwards."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_provider_hfreg.runs import layout
from airflow_provider_hfreg.runs.asking import prepare
from airflow_provider_hfreg.runs.batch import run_batch
from airflow_provider_hfreg.runs.execution import InProcess
from airflow_provider_hfreg.runs.spec import BatchRequest
from airflow_provider_hfreg.storage.base import ObjectStore
from airflow_provider_hfreg.storage.urls import open_store


@pytest.fixture(scope="session")
def registry(tmp_path_factory):
    """A registry on a folder, for the session: what is logged here is only read."""
    from airflow_provider_hfreg.registry import Registry

    folder = tmp_path_factory.mktemp("registry")
    return Registry((folder / "store").as_uri(), cache_folder=folder / "cache")


@pytest.fixture(scope="session")
def version(registry, tmp_path_factory):
    """A tiny text classifier."""
    from airflow_provider_hfreg.testing.models import text_classifier

    folder = text_classifier(tmp_path_factory.mktemp("classifier") / "model")
    return registry.log_folder(folder, model_name="tiny", version_name="v1", task="text-classification")


@pytest.fixture(scope="session")
def other_version(registry, tmp_path_factory):
    """Another one, of other weights."""
    from airflow_provider_hfreg.testing.models import text_classifier

    folder = text_classifier(tmp_path_factory.mktemp("other") / "model", seed=1)
    return registry.log_folder(folder, model_name="tiny", version_name="v2", task="text-classification")


@pytest.fixture(scope="session")
def sampler(registry, tmp_path_factory):
    """A tiny generator that draws its tokens."""
    from airflow_provider_hfreg.testing.models import text_generator

    folder = text_generator(tmp_path_factory.mktemp("generator") / "model")
    kwargs = {"do_sample": True, "max_new_tokens": 4, "return_full_text": False}
    return registry.log_folder(folder, model_name="gen", task="text-generation", pipeline_kwargs=kwargs)


@dataclass
class Place:
    """Where a test's tables lie, on one store."""

    url: str
    s3: Any
    version: Any
    store: ObjectStore

    def request(self, **options: Any) -> BatchRequest:
        given = {"input": f"{self.url}/in", "output": f"{self.url}/out", "rows_per_shard": 10}
        return BatchRequest(**{**given, **options})

    def run(
        self, *, version: Any = None, identity: str = "me", rerun: bool = False, log=None, cancelled=None, **options
    ):
        return run_batch(
            self.request(**options),
            version=version or self.version,
            identity=identity,
            registry_url=self.version.registry_url,
            s3=self.s3,
            rerun=rerun,
            log=log,
            execution=InProcess(cancelled) if cancelled else None,
        )

    def ask(self, *, version: Any = None, identity: str = "me", rerun: bool = False, log: Any = None, **options: Any):
        import logging

        return prepare(
            self.request(**options),
            version=version or self.version,
            identity=identity,
            registry_url=self.version.registry_url,
            s3=self.s3,
            rerun=rerun,
            log=log or logging.getLogger(__name__),
        )

    @property
    def output(self) -> ObjectStore:
        return self.store.below("out")

    def put(self, key: str, content: bytes | pa.Table, **options: Any) -> None:
        if isinstance(content, pa.Table):
            sink = pa.BufferOutputStream()
            pq.write_table(content, sink, **options)
            content = sink.getvalue().to_pybytes()
        self.store.put(key, content)

    def put_csv(self, key: str, rows: list[tuple[Any, ...]], header: str = "id,text") -> None:
        lines = [header, *(",".join("" if cell is None else f'"{cell}"' for cell in row) for row in rows)]
        self.store.put(key, "\n".join(lines).encode())

    def names(self) -> list[str]:
        return list(self.output.list_names())

    def parts(self) -> list[str]:
        return [name for name in self.names() if layout.find_part(name)]

    def result(self) -> pa.Table:
        """All parts, in the order of their shards."""
        tables = [self.read(self.output, key) for key in sorted(self.parts())]
        return pa.concat_tables(tables)

    def ids(self) -> list[int]:
        """The rows of the result by the numbers in their ``id``, which a CSV file has as text."""
        return [int(number) for number in self.result()["id"].to_pylist()]

    def errors(self, report: Any) -> list[dict[str, Any]]:
        """All quarantined rows, in the order of the input."""
        keys = self.output.list_infos(layout.errors_folder(report.batch_run_id))
        rows = [row for info in keys for row in self.read(self.output, info.key).to_pylist()]
        return sorted(rows, key=lambda row: row["row"])

    def read(self, store: ObjectStore, key: str) -> pa.Table:
        return pq.read_table(pa.BufferReader(store.get(key)))

    def success(self) -> dict[str, Any]:
        return json.loads(self.output.get(layout.SUCCESS))


@pytest.fixture
def place(request, store_url, version):
    """A place on a folder, then one on S3."""
    settings = request.getfixturevalue("s3_settings") if store_url.startswith("s3") else None
    return Place(store_url, settings, version, open_store(store_url, settings))


@pytest.fixture
def file_place(file_url, version):
    """A place on a folder, for what no store makes a difference to."""
    return Place(file_url, None, version, open_store(file_url))


def texts(count: int, start: int = 0) -> list[tuple[int, str]]:
    """Return rows of an id and a text."""
    return [(number, f"the film number {number} was good") for number in range(start, start + count)]


@pytest.fixture(name="texts")
def _texts():
    return texts
