"""The store with faults: the fault comes at the call that was chosen, and only then."""

from __future__ import annotations

import multiprocessing

import pytest

from airflow_provider_hfreg.errors import StorageUnavailableError
from airflow_provider_hfreg.storage.local import LocalStore
from airflow_provider_hfreg.testing.faults import ANY, Fault, Faults, FaultyStore, kill, raising

_LOST = raising(StorageUnavailableError("lost"))


@pytest.fixture
def local(file_url):
    return LocalStore(file_url)


def test_a_fault_before_the_call_leaves_the_store_untouched(local):
    store = FaultyStore(local, Faults(Fault("put", _LOST)))
    with pytest.raises(StorageUnavailableError):
        store.put("key", b"1")
    assert local.find_info("key") is None
    store.put("key", b"2")
    assert local.get("key") == b"2"


def test_a_fault_after_the_call_only_loses_the_answer(local):
    store = FaultyStore(local, Faults(Fault("put_if_absent", _LOST, when="after")))
    with pytest.raises(StorageUnavailableError):
        store.put_if_absent("key", b"1")
    assert local.get("key") == b"1"


def test_calls_are_counted_by_operation_and_key_through_stores_below(local):
    store = FaultyStore(local, Faults(Fault("put", _LOST, call=2, key="commit")))
    store.put("a", b"")
    store.put("commit-1", b"")
    with pytest.raises(StorageUnavailableError):
        store.below("folder").put("commit-2", b"")
    assert store.faults.calls == {"put": 3}
    assert store.faults.log[-1] == ("put", "commit-2")


def test_a_fault_may_concern_every_operation_and_every_call(local):
    store = FaultyStore(local, Faults(Fault(ANY, _LOST, call=None)))
    for call in (lambda: store.put("a", b""), lambda: store.get("a"), lambda: list(store.list_infos())):
        with pytest.raises(StorageUnavailableError):
            call()


def _put_three(url):
    store = FaultyStore(LocalStore(url), Faults(Fault(ANY, kill, call=2, when="after")))
    for name in "abc":
        store.put(name, b"")


def test_a_kill_ends_the_process_at_the_call(file_url, local):
    process = multiprocessing.get_context("spawn").Process(target=_put_three, args=(file_url,))
    process.start()
    process.join()
    assert process.exitcode == 137
    assert [info.key for info in local.list_infos()] == ["a", "b"]
