"""What is loaded keeps its files in the host's cache, however small that is, until it is let go."""

import gc
import threading
from contextlib import contextmanager

import pandas as pd
import pytest

from airflow_provider_hfreg.registry import Registry
from airflow_provider_hfreg.registry.residency import release_residents
from airflow_provider_hfreg.versions.cache.eviction import make_room
from airflow_provider_hfreg.versions.cache.places import Places

TASK = "text-classification"
_NOTHING_GIB = 1e-9


@pytest.fixture
def version(store_url, request, tmp_path, classifier):
    """A version in a registry whose cache has room for nothing."""
    settings = request.getfixturevalue("s3_settings") if store_url.startswith("s3") else None
    registry = Registry(store_url, s3=settings, cache_folder=tmp_path / "host", cache_size_gib=_NOTHING_GIB)
    yield registry.log_folder(classifier, model_name="finbert", version_name="v1", task=TASK)
    release_residents()


@pytest.fixture
def places(tmp_path):
    return Places(tmp_path / "host")


def files(places):
    return list(places.blobs.iterdir()) if places.blobs.exists() else []


@contextmanager
def evicting(places):
    """Evict all that may go, again and again, while something else is done."""
    done, rounds = threading.Event(), []

    def evict():
        while not done.is_set():
            make_room(places, _NOTHING_GIB)
            rounds.append(1)

    thread = threading.Thread(target=evict)
    thread.start()
    try:
        yield rounds
    finally:
        done.set()
        thread.join()


def test_a_load_survives_eviction_and_the_bytes_end_under_the_bound(version, places):
    with evicting(places) as rounds:
        frame = version.run(pd.DataFrame({"text": ["good", "bad"]}))
    assert len(frame) == 2
    assert len(rounds) > 1
    assert len(files(places)) == len({file.digest for file in version.manifest.files})  # resident: its files stay
    release_residents()
    assert files(places) == []


def test_a_pipeline_object_keeps_its_files_while_it_lives(version, places):
    pipe = version.load()
    make_room(places, _NOTHING_GIB)
    assert files(places)
    del pipe
    gc.collect()
    assert files(places)  # the collector of objects gives the lock back, and no more
    release_residents()
    assert files(places) == []


def test_a_folder_that_was_asked_for_stays_and_one_that_was_held_goes(version, places):
    with version.hold_folder() as folder:
        assert (folder / "config.json").read_bytes()
    assert files(places) == []
    folder = version.local_folder()
    make_room(places, _NOTHING_GIB)
    assert (folder / "config.json").read_bytes()
