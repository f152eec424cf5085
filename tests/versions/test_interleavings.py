"""
The real ``publish`` and ``collect``, one inside the other at each request that the outer one makes.

The model of ``protocol.py`` interleaves freely; this interleaves the code itself, as far as one or two pauses go.
"""

import itertools

import pytest

from airflow_provider_hfreg.storage.local import LocalStore
from airflow_provider_hfreg.testing.faults import ANY, Fault, Faults, FaultyStore
from airflow_provider_hfreg.versions.format import ensure_format
from airflow_provider_hfreg.versions.garbage import collect
from airflow_provider_hfreg.versions.layout import Layout
from airflow_provider_hfreg.versions.publish import find_manifest
from airflow_provider_hfreg.versions.refs import Head
from airflow_provider_hfreg.versions.swap import edit


class Place:
    """A store in which all blobs of a model are garbage that a logger may reuse, and the two who work there."""

    def __init__(self, url, folder, publish_folder):
        self.store = LocalStore(url)
        self._folder, self._publish = folder, publish_folder
        self.published = []
        ensure_format(self.store, created="")
        publish_folder(self.store, folder, version_name="deleted")
        edit(
            self.store,
            Layout.head("finbert"),
            Head.from_plain,
            Head(),
            lambda head: head.with_tombstone("deleted", "2026-01-01"),
        )

    def log(self, store):
        name = f"v{len(self.published)}"
        self.published.append(name)
        self._publish(store, self._folder, version_name=name)

    def collect(self, store):
        collect(store, dry_run=False)

    def during(self, call, pause):
        """Return the store as one sees it who is paused at a call; and whether it came to that."""
        reached = []

        def act():
            reached.append(call)
            pause()

        return FaultyStore(self.store, Faults(Fault(ANY, act, call=call))), reached

    def check(self):
        for name in self.published:
            for file in find_manifest(self.store, "finbert", name).files:
                info = self.store.find_info(file.key)
                assert info is not None, (name, file.key)
                assert info.size_bytes == file.size_bytes


@pytest.fixture
def places(tmp_path, model_folder, publish_folder):
    """A function that makes a new place at each call."""
    numbers, folder = itertools.count(), model_folder()
    return lambda: Place((tmp_path / f"place-{next(numbers)}").as_uri(), folder, publish_folder)


PAIRS = [("log", "collect"), ("collect", "log"), ("collect", "collect"), ("log", "log")]


@pytest.mark.parametrize(("outer", "inner"), PAIRS)
def test_one_inside_the_other_at_every_request_loses_no_version(places, outer, inner):
    for call in itertools.count(1):
        place = places()
        store, reached = place.during(call, lambda place=place: getattr(place, inner)(place.store))
        getattr(place, outer)(store)
        place.check()
        if not reached:
            break
    assert call > 8


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("outer", "middle", "inner"), [("log", "collect", "log"), ("collect", "log", "collect")])
def test_a_third_inside_the_second_at_every_pair_of_requests_loses_no_version(places, outer, middle, inner):
    for call in itertools.count(1):
        for inner_call in itertools.count(1):
            place, inner_reached = places(), []

            def pause(place=place, inner_call=inner_call, inner_reached=inner_reached):
                store, reached = place.during(inner_call, lambda: getattr(place, inner)(place.store))
                getattr(place, middle)(store)
                inner_reached += reached

            store, reached = place.during(call, pause)
            getattr(place, outer)(store)
            place.check()
            if not inner_reached:
                break
        if not reached:
            break
    assert call > 8
