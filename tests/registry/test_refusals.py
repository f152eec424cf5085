"""What a registry refuses: to be written to where it was opened to be read, what may not be stored, a damaged load."""

import pytest

from airflow_provider_hfreg.errors import DigestMismatchError, InvalidOptionError, StorageDeniedError, UnsafeModelError
from airflow_provider_hfreg.storage.urls import open_store

TASK = "text-classification"


@pytest.fixture
def logged(registry, classifier):
    """A version."""
    return registry.log_folder(classifier, model_name="finbert", version_name="v1", task=TASK, metrics={"f1": 0.5})


WRITES = {
    "log": lambda registry, folder: registry.log_folder(folder, model_name="finbert", task=TASK),
    "tags": lambda registry, _: registry.resolve("finbert").set_tags({"a": "b"}),
    "metrics": lambda registry, _: registry.resolve("finbert").set_metrics({"f1": 1}),
    "comment": lambda registry, _: registry.resolve("finbert").set_comment("x"),
    "the model's tags": lambda registry, _: registry.get_model("finbert").set_tags({"a": "b"}),
    "the model's metrics": lambda registry, _: registry.get_model("finbert").set_metrics({"f1": 1}),
    "alias": lambda registry, _: registry.get_model("finbert").set_alias("champion", "v1"),
    "default": lambda registry, _: registry.get_model("finbert").set_default("v1"),
    "delete": lambda registry, _: registry.get_model("finbert").delete_version("v1"),
    "copy": lambda registry, _: registry.copy_version("finbert/v1", version_name="v2"),
    "collect": lambda registry, _: registry.collect_garbage(dry_run=False),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_registry_opened_to_read_is_not_written_to(logged, open_registry, classifier, write):
    reader = open_registry(read_only=True)
    store = open_store(logged.registry_url, reader._s3)
    before = {info.key: info.etag for info in store.list_infos()}
    with pytest.raises(StorageDeniedError, match=r"read.only"):
        WRITES[write](reader, classifier)
    assert {info.key: info.etag for info in store.list_infos()} == before


def test_a_registry_opened_to_read_is_read_in_every_way(logged, open_registry, tmp_path):
    reader = open_registry(read_only=True)
    version = reader.resolve("finbert@LAST")
    assert (version.metrics, version.lineage().training_data) == ({"f1": 0.5}, None)
    assert reader.verify().damages == ()
    assert reader.collect_garbage().blobs == {}
    assert version.export(tmp_path / "exported").is_dir()
    assert len(reader.search()) == 1


def test_a_load_that_verifies_finds_what_a_disk_changed_and_fetches_it_anew(logged):
    weights = logged.local_folder() / "model.safetensors"
    blob = weights.resolve()
    content = blob.read_bytes()
    blob.chmod(0o644)
    blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert logged.load(verify=True)("good") is not None
    assert (logged.local_folder() / "model.safetensors").read_bytes() == content


def test_a_load_that_verifies_refuses_what_the_store_changed(logged, registry):
    weights = next(file for file in logged.manifest.files if file.path == "model.safetensors")
    blob = (logged.local_folder() / "model.safetensors").resolve()
    content = blob.read_bytes()
    damaged = content[:-1] + bytes([content[-1] ^ 1])
    blob.chmod(0o644)
    blob.write_bytes(damaged)
    registry._store.put(weights.key, damaged)
    with pytest.raises(DigestMismatchError):
        logged.load(verify=True)


@pytest.mark.parametrize(
    ("lineage", "error"),
    [
        ({"training_data": "hf_" + "a" * 34}, UnsafeModelError),
        ({"training_data": "s3://key:secret@bucket/x"}, UnsafeModelError),
        ({"copied_from": []}, InvalidOptionError),
        ({"training_data": object()}, InvalidOptionError),
        (["s3://lake"], InvalidOptionError),
    ],
)
def test_a_lineage_that_cannot_be_kept_is_refused_before_anything_is_stored(file_registry, classifier, lineage, error):
    with pytest.raises(error):
        file_registry.log_folder(classifier, model_name="finbert", task=TASK, lineage=lineage)
    assert file_registry.models() == []
