"""The order of versions: by the store's clock; and what it costs to list a thousand."""

import datetime as dt
import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_provider_hfreg.registry import Registry
from airflow_provider_hfreg.storage.base import ObjectInfo
from airflow_provider_hfreg.storage.local import LocalStore
from airflow_provider_hfreg.storage.urls import open_store
from airflow_provider_hfreg.testing.faults import FaultyStore
from airflow_provider_hfreg.versions.layout import Layout

TASK = "text-classification"


class CoarseStore(FaultyStore):
    """Tells times to the second, as S3 does."""

    def list_infos(self, prefix=""):
        for info in super().list_infos(prefix):
            yield ObjectInfo(info.key, info.size_bytes, info.etag, info.modified.replace(microsecond=0))


@pytest.fixture
def coarse(file_url, tmp_path):
    """A registry that tells times to the second, and its store."""
    store = CoarseStore(LocalStore(file_url))
    return Registry(store, cache_folder=tmp_path / "cache"), store


def date(store, version_name, second):
    """Give a manifest's file a time."""
    path = store.unwrapped.root / Layout.manifest("finbert", version_name)
    moment = dt.datetime(2026, 1, 1, 0, 0, second, tzinfo=dt.UTC).timestamp()
    os.utime(path, (moment, moment))


def log(registry, classifier, *names):
    for name in names:
        registry.log_folder(classifier, model_name="finbert", version_name=name, task=TASK)
    return registry.get_model("finbert")


def test_versions_of_one_second_are_told_apart_by_their_writers_clocks(coarse, classifier):
    registry, store = coarse
    model = log(registry, classifier, "c", "a", "b", "later")
    for name in ("c", "a", "b"):
        date(store, name, 1)
    date(store, "later", 2)
    assert model.version_names() == ["a", "b", "c", "later"]  # of one second: by name, and no manifest is read
    assert [version.version_name for version in model.versions()] == ["c", "a", "b", "later"]
    assert [summary.manifest.version_name for summary in model.summaries()] == ["c", "a", "b", "later"]
    assert (model.first().version_name, model.last().version_name) == ("c", "later")
    assert model.default.version_name == "c"


def test_a_writer_whose_clock_is_wrong_does_not_become_the_newest_for_years(coarse, classifier):
    registry, store = coarse
    model = log(registry, classifier, "of-the-future", "today")
    path = store.unwrapped.root / Layout.manifest("finbert", "of-the-future")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"created": "2039-01-01T00:00:00.000000Z"}))
    date(store, "of-the-future", 1)
    date(store, "today", 2)
    assert model.last().version_name == "today"
    assert [version.version_name for version in model.versions()] == ["of-the-future", "today"]


def test_a_thousand_versions_are_listed_by_two_requests_though_they_came_within_a_second(coarse, classifier):
    registry, store = coarse
    version = log(registry, classifier, "v0").version("v0")
    content = version.manifest.to_bytes()
    for number in range(1, 1000):
        copied = content.replace(b'"version_name":"v0"', f'"version_name":"v{number}"'.encode())
        store.unwrapped.put(Layout.manifest("finbert", f"v{number}"), copied)
    store.faults.calls.clear()
    assert len(registry.get_model("finbert").version_names()) == 1000
    # get_model looks whether there is one, by the same two requests.
    assert store.faults.calls == {"list_infos": 2, "get_with_etag": 2}
    store.faults.calls.clear()
    assert registry.resolve("finbert/v700").version_name == "v700"
    assert store.faults.calls == {"get_with_etag": 1, "get": 1}


def test_a_thousand_versions_are_one_listing_on_s3(registry, classifier, s3_settings):
    if not registry.url.startswith("s3"):
        pytest.skip("counted on the client of S3")
    content = log(registry, classifier, "v0").version("v0").manifest.to_bytes()
    store = open_store(registry.url, s3_settings)

    def put(number):
        copied = content.replace(b'"version_name":"v0"', f'"version_name":"v{number}"'.encode())
        store.put(Layout.manifest("finbert", f"v{number}"), copied)

    with ThreadPoolExecutor(16) as writers:
        list(writers.map(put, range(1, 1000)))
    sent = []
    client = registry._store._bucket.client
    client.meta.events.register("before-send.s3", lambda request, **_: sent.append(request.method + request.url))
    model = registry.get_model("finbert")
    sent.clear()
    assert len(model.version_names()) == 1000
    assert len(sent) <= 2, sent
