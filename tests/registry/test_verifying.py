"""Whether what is stored is what was stored: all that is ill is listed, and what is whole is still found."""

import logging
import os

import pytest

from airflow_provider_hfreg.errors import StorageUnavailableError, UnknownFormatError
from airflow_provider_hfreg.registry import Registry
from airflow_provider_hfreg.storage.local import LocalStore
from airflow_provider_hfreg.testing.faults import Fault, Faults, FaultyStore, raising
from airflow_provider_hfreg.versions.garbage import collect
from airflow_provider_hfreg.versions.layout import Layout

TASK = "text-classification"


@pytest.fixture
def stored(file_registry, classifier, other_classifier):
    """Three versions of one model, of two sets of weights, and another model."""
    for name, folder in (("v1", classifier), ("v2", other_classifier), ("v3", classifier)):
        file_registry.log_folder(folder, model_name="finbert", version_name=name, task=TASK, metrics={"f1": 0.5})
    file_registry.log_folder(classifier, model_name="other", version_name="v1", task=TASK)
    return file_registry


def cut(registry, key):
    """Cut an object where it lies, as a disk does: its age, by which versions are ordered, stays."""
    path = registry._store.root / key
    before = path.stat()
    os.truncate(path, before.st_size - 20)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def weights_of(registry, reference):
    return next(file for file in registry.resolve(reference).manifest.files if file.path == "model.safetensors")


def test_everything_that_is_ill_is_listed_and_not_the_first_alone(stored, file_url, tmp_path):
    """A lost blob, one that the store does not give, a cut manifest and a cut head, at once."""
    shared, own = weights_of(stored, "finbert/v1"), weights_of(stored, "finbert/v2")
    stored._store.delete([shared.key])
    cut(stored, Layout.manifest("finbert", "v3"))
    stored.get_model("other").set_tags({"a": "b"})
    cut(stored, Layout.head("other"))
    away = Fault("get", raising(StorageUnavailableError("the disk is unwell")), call=None, key=own.key)
    registry = Registry(FaultyStore(LocalStore(file_url), Faults(away)), cache_folder=tmp_path / "host")
    found = {damage.location.rpartition("/")[2]: damage for damage in registry.verify().damages}
    assert {name: damage.needed_by for name, damage in found.items()} == {
        shared.key.rpartition("/")[2]: ("finbert/v1",),
        own.key.rpartition("/")[2]: ("finbert/v2",),
        "v3.json": ("finbert/v3",),
        "head.json": ("other",),
    }
    assert found[shared.key.rpartition("/")[2]].problem == "is missing"
    assert found[own.key.rpartition("/")[2]].problem == "cannot be read: the disk is unwell"
    assert "no document of this package" in found["v3.json"].problem
    assert found["v3.json"].digest is None
    assert [damage.needed_by for damage in registry.verify(models=["other"]).damages] == [("other",)]


def test_a_version_that_is_deleted_while_it_is_read_is_not_told_as_missing(stored, file_url, tmp_path):
    """Its blob is freed at once here; a collection takes longer, and a verification of a large registry longer yet."""
    own, finbert = weights_of(stored, "finbert/v2"), stored.get_model("finbert")

    def free():
        finbert.delete_version("v2")
        collect(stored._store, dry_run=False)

    during = FaultyStore(LocalStore(file_url), Faults(Fault("find_info", free, key=own.key)))
    verification = Registry(during, cache_folder=tmp_path / "host").verify()
    assert stored._store.find_info(own.key) is None
    assert verification.damages == ()


def test_a_cut_manifest_is_named_and_the_other_versions_are_found(stored, caplog):
    cut(stored, Layout.manifest("finbert", "v1"))
    with caplog.at_level(logging.WARNING, logger="airflow_provider_hfreg"):
        found = stored.search(metrics="f1 == 0.5")
    assert [version.reference for version in found] == ["finbert/v2", "finbert/v3"]
    [told] = [record.getMessage() for record in caplog.records]
    assert told.startswith("Left out: ")
    assert "finbert/versions/v1.json is no document of this package" in told
    shown = {summary.manifest.version_name: summary.is_default for summary in stored.get_model("finbert").summaries()}
    assert shown == {"v2": False, "v3": False}  # the oldest is the default, and it is the one that nobody can read
    with pytest.raises(UnknownFormatError, match=r"v1\.json"):
        stored.get_model("finbert").versions()


def test_a_cut_head_or_state_is_named_and_the_others_are_shown(stored, caplog):
    stored.resolve("finbert/v2").set_tags({"a": "b"})
    cut(stored, Layout.state("finbert", "v2"))
    assert [version.reference for version in stored.search(models="finbert")] == ["finbert/v1", "finbert/v3"]
    stored.get_model("other").set_tags({"a": "b"})
    cut(stored, Layout.head("other"))
    assert [summary.name for summary in stored.model_summaries()] == ["finbert"]
    assert [message for message in caplog.messages if "head.json is no document" in message]


def test_what_the_store_did_not_give_is_not_left_out_of_a_search(stored, file_url, tmp_path):
    away = Fault("get", raising(StorageUnavailableError("away")), call=None, key="versions/v1.json")
    registry = Registry(FaultyStore(LocalStore(file_url), Faults(away)), cache_folder=tmp_path / "host")
    with pytest.raises(StorageUnavailableError):
        registry.search()
