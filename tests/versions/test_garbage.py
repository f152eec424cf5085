"""What is collected, what is spared, and what is refused."""

import itertools
import json
from datetime import timedelta

import pytest

from airflow_provider_hfreg.errors import (
    StorageDeniedError,
    StorageUnavailableError,
    UnknownFormatError,
    VersionExistsError,
)
from airflow_provider_hfreg.storage.local import LocalStore
from airflow_provider_hfreg.testing.faults import Fault, Faults, FaultyStore, raising
from airflow_provider_hfreg.versions import garbage
from airflow_provider_hfreg.versions.documents import document_json
from airflow_provider_hfreg.versions.format import ensure_format
from airflow_provider_hfreg.versions.garbage import collect
from airflow_provider_hfreg.versions.layout import Layout
from airflow_provider_hfreg.versions.leases import Lease
from airflow_provider_hfreg.versions.publish import find_manifest
from airflow_provider_hfreg.versions.refs import Head
from airflow_provider_hfreg.versions.swap import edit
from airflow_provider_hfreg.versions.terms import Terms

LOST = raising(StorageUnavailableError("the answer was lost"))

ESCAPING = (
    b'{"format_version": 1, "pipeline": {"task": "x"}, "functions": [], "options": {}, "environment": {}, '
    b'"model_name": "finbert", "version_name": "v1", "files": [{"path": "/etc", "key": "", "digest": "", '
    b'"size_bytes": 1}], "logged_by": {}, "nonce": "", "created": ""}'
)
"""A manifest whose path leaves the version's folder."""


@pytest.fixture
def store(store):
    ensure_format(store, created="2026-01-02T03:04:05.000006Z")
    return store


def delete_version(store, version_name):
    edit(
        store,
        Layout.head("finbert"),
        Head.from_plain,
        Head(),
        lambda head: head.with_tombstone(version_name, "2026-01-01"),
    )


def keys(store, prefix=""):
    return {info.key for info in store.list_infos(prefix)}


def blobs_of(published):
    return {file.key for file in published.manifest.files}


def weights_of(published):
    return next(file.key for file in published.manifest.files if file.path == "model.safetensors")


def test_a_deleted_versions_own_files_go_and_shared_ones_stay(store, model_folder, publish_folder):
    kept = publish_folder(store, model_folder("a", seed=1))
    gone = publish_folder(store, model_folder("b", seed=2), version_name="v2")
    delete_version(store, "v2")
    foreseen = collect(store, dry_run=True)
    before = keys(store)
    report = collect(store, dry_run=False)
    assert report.blobs == foreseen.blobs == {weights_of(gone): gone.manifest.files[1].size_bytes}
    assert report.size_bytes == gone.manifest.files[1].size_bytes
    assert report.is_complete
    assert set(report.deleted_versions) == {Layout.manifest("finbert", "v2")}
    assert before - keys(store) == {weights_of(gone), Layout.manifest("finbert", "v2")}
    assert blobs_of(kept) <= keys(store)
    assert keys(store, "gc/") == set()


def test_a_dry_run_changes_nothing(store, model_folder, publish_folder):
    publish_folder(store, model_folder())
    delete_version(store, "v1")
    counted = FaultyStore(store)
    report = collect(counted, dry_run=True)
    assert len(report.blobs) == 2
    assert not set(counted.faults.calls) & {"put", "put_if_absent", "upload", "delete", "copy", "replace_if_match"}
    assert json.dumps(report.to_json())


def test_where_nothing_was_ever_logged_there_is_no_garbage_and_nothing_is_written(file_url):
    store = FaultyStore(LocalStore(file_url))
    assert collect(store, dry_run=False).blobs == {}
    assert set(store.faults.calls) == {"get"}


def test_the_states_of_deleted_versions_go_with_them(store, model_folder, publish_folder):
    publish_folder(store, model_folder())
    store.put(Layout.state("finbert", "v1"), document_json({"tags": {}}))
    delete_version(store, "v1")
    collect(store, dry_run=False)
    assert keys(store) == {Layout.FORMAT, Layout.head("finbert")}


def test_a_killed_loggers_blobs_go_when_its_lease_is_past(store, model_folder, publish_folder):
    def kill():
        raise KeyboardInterrupt

    class Killed(FaultyStore):
        def delete(self, keys):
            """A killed process drops no lease."""

    with pytest.raises(KeyboardInterrupt):
        publish_folder(Killed(store, Faults(Fault("put_if_absent", kill))), model_folder())
    assert collect(store, dry_run=False).blobs == {}
    assert collect(store, dry_run=False).leased == 2
    (lease,) = keys(store, "gc/leases/")
    old = json.loads(store.get(lease)) | {"length_s": -1}  # twice that is before it was put
    store.put(lease, json.dumps(old).encode())
    report = collect(store, dry_run=False)
    assert len(report.blobs) == 2
    assert report.leases == (lease,)
    assert keys(store) == {Layout.FORMAT}


def test_who_comes_after_the_marker_makes_a_new_generation_and_keeps_it(store, model_folder, publish_folder):
    first = publish_folder(store, model_folder())
    delete_version(store, "v1")
    published = []

    def log():
        published.append(publish_folder(store, model_folder(), version_name="v2"))

    # The collector has put its markers and is about to list the leases.
    paused = FaultyStore(store, Faults(Fault("list_infos", log, call=2, key="gc/leases/")))
    report = collect(paused, dry_run=False)
    assert set(report.blobs) == blobs_of(first)
    assert blobs_of(published[0]).isdisjoint(blobs_of(first))
    assert blobs_of(published[0]) <= keys(store)


def test_who_looked_before_the_marker_is_spared_by_its_lease(store, model_folder, publish_folder):
    first = publish_folder(store, model_folder())
    delete_version(store, "v1")
    reports = []
    paused = FaultyStore(
        store, Faults(Fault("put_if_absent", lambda: reports.append(collect(store, dry_run=False)), key="versions/v2"))
    )
    again = publish_folder(paused, model_folder(), version_name="v2")
    assert reports[0].blobs == {}
    assert reports[0].leased == 2
    assert blobs_of(again) == blobs_of(first) <= keys(store)


def test_a_new_generation_is_reused_when_the_first_is_gone(store, model_folder, publish_folder):
    first = publish_folder(store, model_folder())
    delete_version(store, "v1")
    for file in first.manifest.files:
        store.put(Layout.condemned(file.digest, "killed"), document_json({"length_s": 3600}))
    second = publish_folder(store, model_folder(), version_name="v2")
    assert blobs_of(second).isdisjoint(blobs_of(first))
    store.delete([info.key for info in store.list_infos(Layout.CONDEMNED)])
    assert set(collect(store, dry_run=False).blobs) == blobs_of(first)
    counted = FaultyStore(store)
    third = publish_folder(counted, model_folder(), version_name="v3")
    assert blobs_of(third) == blobs_of(second)
    assert "upload" not in counted.faults.calls


def test_a_collector_that_was_killed_leaves_markers_which_a_later_one_removes(store, model_folder, publish_folder):
    published = publish_folder(store, model_folder())
    delete_version(store, "v1")
    faulty = FaultyStore(store, Faults(Fault("delete", LOST, key="blobs/", when="after")))
    with pytest.raises(StorageUnavailableError):
        collect(faulty, dry_run=False)
    markers = keys(store, Layout.CONDEMNED)
    assert len(markers) == 2
    assert collect(store, dry_run=False).markers == ()  # it may be alive: see the table of docs/format.md
    assert publish_folder(store, model_folder(), version_name="v2").created
    for marker in markers:
        store.put(marker, document_json({"length_s": -1}))
    report = collect(store, dry_run=False)
    assert set(report.markers) == markers
    assert keys(store, "gc/") == set()
    assert blobs_of(published).isdisjoint(keys(store))


@pytest.mark.parametrize(
    ("operation", "key", "error"),
    [
        ("delete", "blobs/", StorageDeniedError("no permission")),
        ("put", Layout.CONDEMNED, StorageDeniedError("no permission")),
        ("list_infos", "models/", UnknownFormatError("something new")),
        ("put", Layout.CONDEMNED, StorageUnavailableError("no answer")),  # no delete was sent: none can be on its way
        ("list_infos", "models/", StorageUnavailableError("no answer")),
    ],
)
def test_a_collector_that_was_refused_takes_its_markers_back(
    file_url, model_folder, publish_folder, operation, key, error
):
    """Else every logger of these blobs would upload them anew until the markers are past."""
    store = LocalStore(file_url)
    ensure_format(store, created="")
    publish_folder(store, model_folder())
    delete_version(store, "v1")
    before = keys(store, "blobs/")
    call = 2 if operation in ("put", "list_infos") else 1  # a second marker, and the look after the markers
    faulty = FaultyStore(store, Faults(Fault(operation, raising(error), key=key, call=call)))
    with pytest.raises(type(error), match=str(error)):
        collect(faulty, dry_run=False)
    assert keys(store, "gc/") == set()
    assert keys(store, "blobs/") == before
    assert len(collect(store, dry_run=False).blobs) == 2


def test_nothing_is_deleted_once_half_the_markers_life_is_over(file_url, model_folder, publish_folder):
    store = LocalStore(file_url)
    ensure_format(store, created="")
    publish_folder(store, model_folder())
    delete_version(store, "v1")
    clock = itertools.count(step=61.0)
    report = collect(store, dry_run=False, terms=Terms(marker_s=120), clock=lambda: next(clock))
    assert (report.blobs, report.is_complete) == ({}, False)
    assert keys(store, "gc/") == set()
    report = collect(store, dry_run=False, terms=Terms(marker_s=122), clock=lambda: next(clock))
    assert (len(report.blobs), report.is_complete) == (2, True)


def test_many_digests_are_collected_in_batches(file_url, model_folder, publish_folder, monkeypatch):
    monkeypatch.setattr(garbage, "_BATCH_DIGESTS", 2)
    store = LocalStore(file_url)
    ensure_format(store, created="")
    for seed in range(5):
        publish_folder(store, model_folder(str(seed), seed=seed), version_name=f"v{seed}")
        delete_version(store, f"v{seed}")
    publish_folder(store, model_folder("kept", seed=9), version_name="kept")
    counted = FaultyStore(store)
    assert len(collect(counted, dry_run=False).blobs) == 5
    read = [key for operation, key in counted.faults.log if operation == "get" and "versions/" in key]
    assert read == [Layout.manifest("finbert", "kept")]  # once, not once for each batch


@pytest.mark.parametrize(
    ("key", "content"),
    [
        ("models/finbert/adapters/v1.json", b"{}"),
        ("models/finbert/versions/v1.json", b"no manifest"),
        ("models/finbert/versions/v1.json", b'{"format_version": 2}'),
        ("models/finbert/versions/v1.json", ESCAPING),
        ("models/finbert/versions/.hidden", b""),
        ("models/finbert/head.json", b"[]"),
        ("gc/leases/1.json", b'{"format_version": 1, "digests": ["sha256:short"], "length_s": 900}'),
        ("gc/leases/1.json", b'{"format_version": 1, "digests": []}'),
        ("gc/leases/1.json", b'{"format_version": 1, "digests": [7], "length_s": 900}'),
        ("gc/leases/1.json", b'{"format_version": 9, "digests": [], "length_s": 900}'),
        ("gc/leases/notes.txt", b""),
        ("gc/condemned/" + "0" * 64 + ".1", b"{}"),
        ("gc/condemned/notes", b""),
        ("gc/pins/1.json", b"{}"),
        ("gc/notes.txt", b""),
        ("format.json", b'{"format_version": 2}'),
    ],
)
@pytest.mark.parametrize("dry_run", [True, False])
def test_what_is_not_understood_is_named_and_nothing_is_collected(
    file_url, model_folder, publish_folder, key, content, dry_run
):
    store = LocalStore(file_url)
    ensure_format(store, created="")
    publish_folder(store, model_folder(), version_name="v0")
    delete_version(store, "v0")
    store.put(key, content)
    before = keys(store, "blobs/")
    with pytest.raises(UnknownFormatError, match="gc/pins" if "pins" in key else key):
        collect(store, dry_run=dry_run)
    assert keys(store, "blobs/") == before


def test_a_strange_key_among_the_blobs_is_left_alone_and_told(store, model_folder, publish_folder):
    publish_folder(store, model_folder())
    delete_version(store, "v1")
    store.put("blobs/notes.txt", b"mine")
    report = collect(store, dry_run=False)
    assert report.strange == ("blobs/notes.txt",)
    assert keys(store, "blobs/") == {"blobs/notes.txt"}


def test_an_unreadable_manifest_of_a_deleted_version_stands_in_nobodys_way(store, model_folder, publish_folder):
    publish_folder(store, model_folder())
    store.put(Layout.manifest("finbert", "v1"), b"damaged")
    delete_version(store, "v1")
    assert len(collect(store, dry_run=False).blobs) == 2


def test_a_version_published_and_deleted_and_collected_under_a_slow_logger_is_told_to_it(
    store, model_folder, publish_folder
):
    """Its first look found no tombstone, and its own put finds no manifest."""

    def others():
        publish_folder(store, model_folder("other", seed=5))
        delete_version(store, "v1")
        collect(store, dry_run=False)

    slow = FaultyStore(store, Faults(Fault("put_if_absent", others, key="versions/v1")))
    with pytest.raises(VersionExistsError, match="was deleted at 2026-01-01"):
        publish_folder(slow, model_folder())
    collect(store, dry_run=False)
    assert find_manifest(store, "finbert", "v1") is None
    assert keys(store, "blobs/") == set()


def test_a_leases_age_is_that_of_the_stores_dates(store):
    with Lease(store, "writer", [], 900):
        (info,) = store.list_infos(Layout.LEASES)
        (lease,) = garbage.find_leases(store)
        assert not lease.is_past(info.modified + timedelta(seconds=1800))
        assert lease.is_past(info.modified + timedelta(seconds=1801))
