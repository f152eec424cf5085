"""Folders that look like models, and publishing them without describing them: the version layer alone."""

import json
import struct
import uuid

import pytest

from airflow_provider_hfreg.pipelines.spec import PipelineSpec
from airflow_provider_hfreg.storage.urls import open_store
from airflow_provider_hfreg.versions.intake import look_into, select, upload_missing
from airflow_provider_hfreg.versions.manifest import Annotations, Manifest
from airflow_provider_hfreg.versions.publish import publish
from airflow_provider_hfreg.versions.sources import LocalFolder


def write_model(folder, *, seed=0, weight_bytes=1000):
    """Write a folder with a configuration and one tensor of bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    header = json.dumps({"w": {"dtype": "U8", "shape": [weight_bytes], "data_offsets": [0, weight_bytes]}}).encode()
    content = struct.pack("<Q", len(header)) + header + bytes([seed]) * weight_bytes
    (folder / "model.safetensors").write_bytes(content)
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    return folder


def publish_source(store, source, *, version_name="v1", nonce=None, metrics=None, parameters=None, terms=None):
    """Publish a source's files as ``finbert/<version_name>``."""
    paths = select(source, remote_code=False)
    files = look_into(source, paths, remote_code=False)
    manifest = Manifest(
        model_name="finbert",
        version_name=version_name,
        spec=PipelineSpec("text-classification", parameters or {}),
        functions=(),
        options={},
        environment={},
        files=files,
        logged=Annotations(metrics=metrics or {}),
        logged_by={"user": "ana"},
        nonce=nonce or uuid.uuid4().hex,
        created="2026-01-02T03:04:05.000006Z",
    )
    return publish(store, manifest, lambda missing: upload_missing(store, source, missing), terms=terms)


@pytest.fixture
def model_folder(tmp_path):
    """A function that writes such a folder."""
    return lambda name="model", **changes: write_model(tmp_path / name, **changes)


@pytest.fixture
def publish_folder():
    """A function that publishes a local folder."""
    return lambda store, folder, **changes: publish_source(store, LocalFolder(folder), **changes)


@pytest.fixture
def publish_from():
    """A function that publishes any source."""
    return publish_source


@pytest.fixture
def store(store_url, request):
    """An empty store, a folder and S3 in turn."""
    settings = request.getfixturevalue("s3_settings") if store_url.startswith("s3") else None
    return open_store(store_url, settings)
