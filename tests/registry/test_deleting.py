"""Deleting versions and models: final for whoever looks, refused where a pointer holds one, never half done."""

import os
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
from airflow_provider_hfreg.registry import Model, Registry
from airflow_provider_hfreg.storage.local import LocalStore
from airflow_provider_hfreg.storage.urls import local_path
from airflow_provider_hfreg.testing.faults import Fault, Faults, FaultyStore, raising
from airflow_provider_hfreg.versions.cache import HostCache
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


def cut_off(registry, version_name):
    """Damage a version's document; on a folder it keeps its date, and on S3 becomes the newest."""
    key = Layout.manifest("finbert", version_name)
    if registry.url.startswith("s3"):
        registry._store.put(key, registry._store.get(key)[:100])
    else:
        path = local_path(registry.url) / key
        status = path.stat()
        path.write_bytes(path.read_bytes()[:100])
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_damaged_version_is_deleted_like_any_other_and_hinders_nobody(registry, classifier):
    finbert = log(registry, classifier, "v1", "v2", "v3")
    cut_off(registry, "v1")
    finbert.delete_version("v3")
    finbert.set_default("v2")
    finbert.delete_version("v1")
    assert [version.version_name for version in finbert.versions()] == ["v2"]
    with pytest.raises(VersionNotFoundError, match="was deleted at 20"):
        finbert.version("v1")
    assert Layout.manifest("finbert", "v1") in collect(registry._store, dry_run=False).deleted_versions


def test_a_damaged_version_is_deleted_as_the_last_one(registry, classifier):
    finbert = log(registry, classifier, "v1")
    finbert.set_tags({"team": "risk"})
    cut_off(registry, "v1")
    finbert.delete_version("v1")
    assert finbert.tags == {}
    with pytest.raises(ModelNotFoundError):
        registry.get_model("finbert")


def test_the_oldest_is_held_though_it_is_damaged_and_so_is_what_may_be_the_oldest(file_registry, classifier):
    """Else a bare name that is an error now would silently mean another model."""
    finbert = log(file_registry, classifier, "v1", "v2", "v3", "v4")
    cut_off(file_registry, "v1")
    with pytest.raises(VersionInUseError, match="the oldest, as none was set"):
        finbert.delete_version("v1")
    for name in ("v1", "v2", "v3"):  # as on S3, where these would be of one second
        os.utime(local_path(file_registry.url) / Layout.manifest("finbert", name), (0, 0))
    for name in ("v1", "v2"):
        with pytest.raises(VersionInUseError, match="the oldest, as none was set"):
            finbert.delete_version(name)
    finbert.delete_version("v3")
    finbert.set_default("v4")
    finbert.delete_version("v1")
    finbert.delete_version("v2")
    assert finbert.version_names() == ["v4"]


def test_a_store_that_does_not_answer_is_not_taken_for_a_damaged_version(file_url, classifier, tmp_path):
    log(Registry(file_url, cache_folder=tmp_path / "host"), classifier, "v1", "v2", "v3")
    for name in ("v1", "v2"):
        os.utime(local_path(file_url) / Layout.manifest("finbert", name), (0, 0))
    busy = Fault("get", raising(StorageUnavailableError("busy")), key="versions/v1.json", call=None)
    registry = Registry(FaultyStore(LocalStore(file_url), Faults(busy)), cache_folder=tmp_path / "other")
    with pytest.raises(StorageUnavailableError, match="busy"):
        registry.get_model("finbert").delete_version("v3")
    assert registry.get_model("finbert").version_names() == ["v1", "v2", "v3"]


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


def about(model):
    return model.tags, model.metrics, model.comment


@pytest.fixture
def finbert(file_url, classifier, tmp_path):
    """A model of one version, of which things are said."""
    model = log(Registry(file_url, cache_folder=tmp_path / "host"), classifier, "v1")
    model.set_tags({"team": "risk"})
    model.set_metrics({"least": 0.9})
    model.set_comment("in use")
    return model


@pytest.mark.parametrize(
    ("operation", "key", "when"), [("list_infos", "versions/", "after"), ("replace_if_match", "head.json", "before")]
)
def test_what_is_said_of_a_model_stays_if_a_version_comes_while_the_last_is_deleted(
    finbert, file_url, classifier, tmp_path, operation, key, when
):
    """A version that is published changes no head, so the edit of the head is not lost against it."""
    said = about(finbert)
    late = Fault(
        operation, lambda: log(Registry(file_url, cache_folder=tmp_path), classifier, "v2"), key=key, when=when
    )
    slow = FaultyStore(LocalStore(file_url), Faults(late))
    Model(slow, HostCache(tmp_path / "other"), "finbert").delete_version("v1")  # unasked whether it is there
    assert finbert.version_names() == ["v2"]
    assert about(finbert) == said


def test_who_lost_the_race_for_the_head_looks_for_other_versions_again(finbert, file_url, classifier, tmp_path):
    def meanwhile():
        log(Registry(file_url, cache_folder=tmp_path), classifier, "v2")
        finbert.set_tags({"stage": "live"})

    late = Fault("replace_if_match", meanwhile, key="head.json")
    slow = Registry(FaultyStore(LocalStore(file_url), Faults(late)), cache_folder=tmp_path / "other")
    with pytest.raises(VersionInUseError, match="the oldest, as none was set"):
        slow.get_model("finbert").delete_version("v1")
    assert finbert.version_names() == ["v1", "v2"]
    assert about(finbert) == ({"team": "risk", "stage": "live"}, {"least": 0.9}, "in use")


def test_a_dry_run_of_the_last_version_leaves_what_is_said(finbert):
    said = about(finbert)
    finbert.delete_version("v1", dry_run=True)
    assert about(finbert) == said
    finbert.delete_version("v1")
    assert about(finbert) == ({}, {}, None)
