"""
Where the sentiment example keeps what it prepared: the table and the trained models, in a folder or a bucket.

Everything is looked for before it is made, so that a task that runs again, on this machine or another, finds it. What
makes a training the same one is in the name of its folder: the table's bytes, the settings, the code that trains, the
versions of torch and transformers. The metrics are written last: where they are, the model beside them is whole.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import sentiment_data

from airflow_provider_hfreg.storage.urls import open_store

if TYPE_CHECKING:
    from airflow_provider_hfreg.storage.base import ObjectStore
    from airflow_provider_hfreg.storage.settings import S3Settings

log = logging.getLogger(__name__)

TABLE = "sentiment.parquet"


@dataclass(frozen=True)
class Settings:
    """What a training is told. Equal settings and equal rows give the same model."""

    epochs: int = 2
    train_rows: int | None = None  # None: all of them
    width: int = 64
    layers: int = 2
    vocabulary_size: int = 8_000
    batch_rows: int = 96
    learning_rate: float = 3e-3
    seed: int = 0


def ensure_table(workspace_url: str, s3: S3Settings | None) -> str:
    """Return the URL of the prepared table, which is downloaded and written unless it is there."""
    store = open_store(workspace_url, s3)
    if store.find_info(TABLE) is not None:
        log.info("The table is there already: %s", store.location(TABLE))
        return store.location(TABLE)
    log.info("Downloading the source distribution of %s", sentiment_data.RELEASE)
    with tempfile.TemporaryDirectory() as folder:
        table = sentiment_data.read_release(sentiment_data.download_release(Path(folder)))
    write_table(store, table)
    log.info("Wrote %s rows to %s", f"{table.num_rows:,}", store.location(TABLE))
    return store.location(TABLE)


def write_table(store: ObjectStore, table: pa.Table) -> None:
    """Write the prepared table."""
    content = pa.BufferOutputStream()
    pq.write_table(table, content)
    store.put(TABLE, content.getvalue().to_pybytes())


def ensure_model(workspace_url: str, settings: Settings, s3: S3Settings | None) -> dict[str, Any]:
    """
    Return the folder of a trained model and its metrics; it is trained unless it is there.

    :returns: ``{"folder_url": …, "metrics": {"accuracy": …, …}}``.
    """
    store = open_store(workspace_url, s3)
    content = store.get(TABLE)
    model = f"models/{_training_id(content, settings)}"
    if store.find_info(f"{model}.json") is not None:
        log.info("The same training was done already: %s", store.location(model))
    else:
        _train(store, model, pq.read_table(pa.BufferReader(content)), settings)
    return {"folder_url": store.location(model), "metrics": json.loads(store.get(f"{model}.json"))}


def read_results(output_url: str, s3: S3Settings | None) -> pa.Table:
    """Return the whole output of a batch run; it is small here."""
    store = open_store(output_url, s3)
    parts = [info.key for info in store.list_infos("part-")]
    return pa.concat_tables(pq.read_table(store.open_reader(part)) for part in parts)


def _training_id(table: bytes, settings: Settings) -> str:
    code = (Path(__file__).parent / "sentiment_model.py").read_bytes()
    told: dict[str, Any] = {"table": _digest(table), "code": _digest(code), "settings": asdict(settings)}
    told |= {package: version(package) for package in ("torch", "transformers")}
    return _digest(json.dumps(told, sort_keys=True).encode())[:12]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _train(store: ObjectStore, model: str, table: pa.Table, settings: Settings) -> None:
    from sentiment_model import train  # loads torch, which a training that was done already does not need

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        metrics = train(table, folder, settings)
        for file in sorted(folder.iterdir()):
            store.upload(f"{model}/{file.name}", file)
    store.put(f"{model}.json", json.dumps(metrics).encode())
    log.info("The model is in %s", store.location(model))
