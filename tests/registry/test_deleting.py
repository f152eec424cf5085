"""Deleting versions and models: final for whoever looks, refused where a pointer holds one, never half done."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_provider_hfreg.errors import (
    AliasNotFoundError,
    ModelNotFoundError,
    StorageUnavailableError,
    VersionExistsError,
    VersionInUseError,
    VersionNotFoundError,
)
from airflow_provider_hfreg.registry import Registry
from airflow_provider_hfreg.storage.local import LocalStore
from airflow_provider_hfreg.testing.faults import Fault, Faults, FaultyStore, raising
from airflow_provider_hfreg.versions.garbage import collect
from airflow_provider_hfreg.versions.layout import Layout

TASK = "text-classification"


def log(registry, folder, *names):
    for name in names:
        registry.log_folder(
            folder, model_name="finbert", version_name=name, task=TASK, pipeline_kwargs={"top_k": len(name)}
        )
    return registry.get_model("finbert")


def test_a_deleted_version_is_gone_for_whoever_looks(registry, open_registry, classifier):
    finbert = log(registry, classifier, "v1", "v2", "v3")
    finbert.set_default("v2")
    finbert.delete_version("v1")
    finbert.delete_version("v3")
    seen = open_registry().get_model("finbert")
    assert seen.version_names() == ["v2"]
    assert [version.version_name for version in seen.versions()] == ["v2"]
    assert (seen.first().version_name, seen.last().version_name, seen.default.version_name) == ("v2", "v2", "v2")
    for look in (lambda: registry.resolve("finbert/v1"), lambda: seen.version("v1"), lambda: seen.delete_version("v1")):
        with pytest.raises(VersionNotFoundError, match="'v1' of model 'finbert' was deleted at 20"):
            look()
    for point in (seen.set_default, lambda name: seen.set_alias("champion", name)):
        with pytest.raises(VersionNotFoundError, match="was deleted"):
            point("v1")
    with pytest.raises(VersionExistsError, match="its name is not used again"):
        log(registry, classifier, "v1")


def test_what_a_pointer_holds_is_not_deleted(file_registry, classifier):
    finbert = log(file_registry, classifier, "v1", "v2", "v3")
    finbert.set_default("v2")
    finbert.set_alias("champion", "v2")
    finbert.set_alias("candidate", "v2")
    with pytest.raises(VersionInUseError, match="'v2' is the default and alias 'candidate' and alias 'champion'"):
        finbert.delete_version("v2")
    finbert.delete_alias("champion")
    finbert.delete_alias("candidate")
    finbert.set_default("v3")
    finbert.delete_version("v2")
    assert finbert.version_names() == ["v1", "v3"]


def test_the_oldest_is_the_default_where_none_was_set_and_so_held_while_there_are_others(file_registry, classifier):
    """Else the bare model name would silently mean another model."""
    finbert = log(file_registry, classifier, "v1", "v2")
    with pytest.raises(VersionInUseError, match=r"the default \(the oldest, as none was set\)"):
        finbert.delete_version("v1")
    finbert.delete_version("v2")
    finbert.delete_version("v1")
    with pytest.raises(ModelNotFoundError):
        file_registry.get_model("finbert")


def test_what_is_said_of_a_version_that_was_deleted_meanwhile_is_refused_and_not_kept(registry, classifier):
    version = log(registry, classifier, "v1", "v2").version("v2")
    registry.get_model("finbert").delete_version("v2")
    for say in (
        lambda: version.set_tags({"a": "b"}),
        lambda: version.set_metrics({"f1": 1}),
        lambda: version.delete_metric("f1"),
        lambda: version.set_comment("x"),
    ):
        with pytest.raises(VersionNotFoundError, match="'v2' of model 'finbert' was deleted at 20"):
            say()
    assert registry._store.find_info(Layout.state("finbert", "v2")) is None


def test_a_version_that_is_deleted_while_it_is_edited_is_told(file_url, classifier, tmp_path):
    store = LocalStore(file_url)
    other = log(Registry(store, cache_folder=tmp_path / "other"), classifier, "v1", "v2")
    state = Layout.state("finbert", "v2")
    deletes = Fault("put_if_absent", key=state, when="before", act=lambda: other.delete_version("v2"))
    edited = Registry(FaultyStore(store, Faults(deletes)), cache_folder=tmp_path / "edited").resolve("finbert/v2")
    with pytest.raises(VersionNotFoundError, match="was deleted"):
        edited.set_tags({"a": "b"})
    assert store.find_info(state) is not None  # written before it was known; a collection removes it
    assert state in collect(store, dry_run=True).deleted_versions


def test_a_dry_run_raises_what_deleting_would_and_changes_nothing(file_registry, classifier):
    finbert = log(file_registry, classifier, "v1", "v2")
    finbert.set_alias("champion", "v2")
    for held in ("v1", "v2"):
        with pytest.raises(VersionInUseError, match=f"Version '{held}' is "):
            finbert.delete_version(held, dry_run=True)
    with pytest.raises(VersionInUseError, match="alias 'champion' → v2"):
        finbert.delete(dry_run=True)
    finbert.delete_alias("champion")
    finbert.delete_version("v2", dry_run=True)
    assert finbert.delete(dry_run=True) == ["v1", "v2"]
    assert finbert.version_names() == ["v1", "v2"]


def test_a_name_that_was_never_there_cannot_be_deleted(file_registry, classifier):
    finbert = log(file_registry, classifier, "v1")
    with pytest.raises(VersionNotFoundError, match="no version 'v9'"):
        finbert.delete_version("v9")


def test_a_model_is_deleted_at_once_and_can_begin_anew_under_other_version_names(registry, classifier):
    finbert = log(registry, classifier, "v1", "v2")
    finbert.set_tags({"team": "risk"})
    finbert.set_metrics({"least": 0.9})
    finbert.set_alias("champion", "v2")
    with pytest.raises(VersionInUseError, match="alias 'champion' → v2"):
        finbert.delete()
    assert finbert.version_names() == ["v1", "v2"]
    finbert.delete_alias("champion")
    assert finbert.delete() == ["v1", "v2"]
    with pytest.raises(ModelNotFoundError):
        finbert.delete()
    with pytest.raises(ModelNotFoundError):
        registry.resolve("finbert")
    with pytest.raises(VersionExistsError):
        log(registry, classifier, "v1")
    again = log(registry, classifier, "v3")
    assert (again.version_names(), again.tags, again.metrics) == (["v3"], {}, {})
    with pytest.raises(AliasNotFoundError):
        registry.resolve("finbert@champion")


def test_a_deleted_version_frees_what_no_other_holds(registry, open_registry, classifier, other_classifier):
    log(registry, classifier, "keep")
    finbert = log(registry, other_classifier, "gone")
    gone, kept = registry.resolve("finbert/gone"), registry.resolve("finbert/keep")
    own = {file.key for file in gone.manifest.files} - {file.key for file in kept.manifest.files}
    finbert.delete_version("gone")
    report = collect(registry._store, dry_run=False)
    assert report.blobs.keys() == own
    assert open_registry().resolve("finbert").local_folder(verify=True).is_dir()
    with pytest.raises(VersionNotFoundError, match="was deleted"):
        registry.resolve("finbert/gone")


def test_of_many_who_delete_one_version_one_does(registry, open_registry, classifier):
    log(registry, classifier, "v1", "v2")

    def delete(_):
        try:
            open_registry().get_model("finbert").delete_version("v2")
        except VersionNotFoundError:
            return False
        return True

    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(delete, range(6))).count(True) == 1


def test_a_deletion_whose_answer_was_lost_is_told_as_done(file_url, classifier, tmp_path):
    lost = raising(StorageUnavailableError("answer lost"))
    store = FaultyStore(LocalStore(file_url), Faults(Fault("put_if_absent", lost, key="head.json", when="after")))
    finbert = log(Registry(store, cache_folder=tmp_path / "host"), classifier, "v1", "v2")
    finbert.delete_version("v2")
    assert finbert.version_names() == ["v1"]


def test_a_version_that_is_logged_while_the_model_is_deleted_stays(file_url, classifier, tmp_path):
    registry = Registry(file_url, cache_folder=tmp_path / "host")
    log(registry, classifier, "v1")
    late = Fault("put_if_absent", lambda: log(registry, classifier, "v2"), key="head.json")
    slow = Registry(FaultyStore(LocalStore(file_url), Faults(late)), cache_folder=tmp_path / "other")
    assert slow.get_model("finbert").delete() == ["v1"]
    assert registry.get_model("finbert").version_names() == ["v2"]
