"""A collector that was written from ``docs/format.md`` alone, with Python alone: the page says all that it takes."""

import json
import pathlib
import re
import time
import uuid

import pytest

from airflow_provider_hfreg.storage.local import LocalStore
from airflow_provider_hfreg.testing.faults import Fault, Faults, FaultyStore
from airflow_provider_hfreg.versions.format import ensure_format
from airflow_provider_hfreg.versions.garbage import collect
from airflow_provider_hfreg.versions.layout import Layout
from airflow_provider_hfreg.versions.leases import Lease
from airflow_provider_hfreg.versions.publish import find_manifest
from airflow_provider_hfreg.versions.refs import Head
from airflow_provider_hfreg.versions.swap import edit

MARKER_S = 3600.0


def strangers_collect(root, pause=lambda: None):
    """Follow the page, step by step; ``pause`` is where a test lets others work: after the markers."""
    root, run = pathlib.Path(root), uuid.uuid4().hex

    def keys(folder):
        found = (path for path in (root / folder).rglob("*") if path.is_file() and not path.name.startswith(".hfreg."))
        return {path.relative_to(root).as_posix(): path for path in found}

    def document(path):
        plain = json.loads(path.read_bytes())
        assert plain["format_version"] == 1, path
        return plain

    def named_and_deleted():
        found, named, deleted = keys("models"), set(), set()
        for key, path in found.items():
            match = re.fullmatch(r"models/([^/]+)/(?:head\.json|(versions|state)/([^/]+)\.json|signatures/.+)", key)
            assert match, f"not understood: {key}"
            head = found.get(f"models/{match[1]}/head.json")
            if match[3] in (document(head)["tombstones"] if head else {}):
                deleted.add(path)
            elif match[2] == "versions":
                named |= {file["key"] for file in document(path)["files"]}
        return named, deleted

    def put(key, **content):
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"format_version": 1, **content}))
        return path

    def leased():
        clock = put(f"gc/leases/{run}.json", digests=[], length_s=900.0)
        now = clock.stat().st_mtime
        clock.unlink()
        fresh = set()
        for path in keys("gc/leases").values():
            lease = document(path)
            if now - path.stat().st_mtime <= 2 * lease["length_s"]:
                fresh |= set(lease["digests"])
        return fresh

    assert {key.split("/")[1] for key in keys("gc")} <= {"leases", "condemned"}
    named, deleted = named_and_deleted()
    for path in deleted:
        path.unlink()
    is_blob = re.compile(r"blobs/sha256/../([0-9a-f]{64})(\.[A-Za-z0-9]+)?").fullmatch
    seen = {key: match[1] for key in keys("blobs") if (match := is_blob(key)) and key not in named}
    began = time.monotonic()
    markers = [put(f"gc/condemned/{digest}.{run}", length_s=MARKER_S) for digest in set(seen.values())]
    pause()
    spared = leased()
    named, _ = named_and_deleted()
    doomed = {key for key, digest in seen.items() if key not in named and f"sha256:{digest}" not in spared}
    for key in doomed:
        assert time.monotonic() - began <= MARKER_S / 2
        (root / key).unlink()
    for marker in markers:
        marker.unlink()
    return doomed


@pytest.fixture
def store(file_url):
    store = LocalStore(file_url)
    ensure_format(store, created="")
    return store


@pytest.fixture
def garbage(store, model_folder, publish_folder):
    """The keys of two blobs that a deleted version alone names, beside a version that stays."""
    publish_folder(store, model_folder("kept", seed=1), version_name="kept")
    gone = publish_folder(store, model_folder("gone", seed=2), version_name="gone")
    edit(store, Layout.head("finbert"), Head.from_plain, Head(), lambda head: head.with_tombstone("gone", "2026-01-01"))
    kept = {file.key for file in find_manifest(store, "finbert", "kept").files}
    return {file.key for file in gone.manifest.files} - kept


def test_it_deletes_what_ours_would(store, garbage):
    assert collect(store, dry_run=True).blobs.keys() == garbage
    assert strangers_collect(store.root) == garbage
    report = collect(store, dry_run=False)
    assert (report.blobs, report.deleted_versions, report.markers) == ({}, (), ())


def test_it_heeds_our_leases_and_we_heed_its_markers(store, garbage, model_folder, publish_folder):
    with Lease(store, "writer", [f"sha256:{key.rsplit('/', 1)[1]}" for key in garbage], 900):
        assert strangers_collect(store.root) == set()
    published = []

    def log():
        published.append(publish_folder(store, model_folder("again", seed=2), version_name="again"))

    assert strangers_collect(store.root, pause=log) == garbage
    for file in published[0].manifest.files:
        assert store.find_info(file.key) is not None


def test_our_loggers_are_safe_from_it_at_every_request(store, garbage, model_folder, publish_folder):
    folder = model_folder("again", seed=2)
    for call in range(1, 12):
        faulty = FaultyStore(store, Faults(Fault("*", lambda: strangers_collect(store.root), call=call)))
        published = publish_folder(faulty, folder, version_name=f"v{call}")
        for file in published.manifest.files:
            assert store.find_info(file.key) is not None, (call, file.key)
        name = f"v{call}"
        edit(
            store,
            Layout.head("finbert"),
            Head.from_plain,
            Head(),
            lambda head, name=name: head.with_tombstone(name, "2026-01-01"),
        )
