"""What only a folder has: processes that meet on it, permissions, leftovers of a kill, a full name."""

from __future__ import annotations

import multiprocessing
import os
import time

import pytest

from airflow_provider_hfreg.errors import (
    CompareAndSwapLostError,
    KeyExistsError,
    StorageDeniedError,
    StorageUrlError,
)
from airflow_provider_hfreg.storage import files
from airflow_provider_hfreg.storage.local import LocalStore

_PROCESSES = multiprocessing.get_context("spawn")


@pytest.fixture
def store(file_url):
    return LocalStore(file_url)


def _put_if_absent(url, writer, start, results):
    start.wait()
    try:
        LocalStore(url).put_if_absent("commit", str(writer).encode())
    except KeyExistsError:
        return
    results.put(writer)


def _count(url, start, times):
    store = LocalStore(url).below("deep")
    start.wait()
    for _ in range(times):
        _increment(store)


def _increment(store):
    while True:
        content, etag = store.get_with_etag("counter")
        try:
            return store.replace_if_match("counter", str(int(content) + 1).encode(), etag)
        except CompareAndSwapLostError:
            continue


def _hold_the_lock(folder, ready):
    with files.folder_lock(folder):
        ready.set()
        time.sleep(600)


def _put_as_nobody(url):
    if os.geteuid() == 0:  # root may write anywhere
        os.setuid(65534)
    for write in (LocalStore(url).put, LocalStore(url).put_if_absent):
        with pytest.raises(StorageDeniedError, match="permission"):
            write("key", b"")


def _run_all(processes):
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * len(processes)


def test_one_of_many_processes_wins_a_put_if_absent(file_url, store):
    start, results = _PROCESSES.Barrier(6), _PROCESSES.Queue()
    _run_all(
        [_PROCESSES.Process(target=_put_if_absent, args=(file_url, writer, start, results)) for writer in range(6)]
    )
    winner = results.get()
    assert results.empty()
    assert store.get("commit") == str(winner).encode()


def test_processes_on_different_roots_lose_no_compare_and_swap(file_url, store):
    store.put("deep/counter", b"0")
    start = _PROCESSES.Barrier(4)
    _run_all([_PROCESSES.Process(target=_count, args=(file_url, start, 25)) for _ in range(4)])
    assert store.get("deep/counter") == b"100"


def test_the_lock_of_a_killed_process_is_free(store):
    store.put("key", b"first")
    ready = _PROCESSES.Event()
    holder = _PROCESSES.Process(target=_hold_the_lock, args=(store.root, ready))
    holder.start()
    ready.wait()
    holder.kill()
    store.put("key", b"second")
    holder.join()
    assert store.get("key") == b"second"


def test_what_a_kill_leaves_is_never_listed_and_goes_after_a_day(store):
    store.put("folder/key", b"")
    leftovers = [store.root / "folder" / f".hfreg.tmp-{name}" for name in ("young", "old")]
    for path in leftovers:
        path.write_bytes(b"half of someth")
    yesterday = time.time() - 25 * 3600
    os.utime(leftovers[1], (yesterday, yesterday))
    assert [info.key for info in store.list_infos()] == ["folder/key"]
    assert [path.exists() for path in leftovers] == [True, False]


def test_a_failed_write_leaves_nothing(store, tmp_path):
    def broken(_):
        raise RuntimeError("the caller's own fault")

    source = tmp_path / "source"
    source.write_bytes(b"content")
    with pytest.raises(RuntimeError):
        store.upload("folder/key", source, on_bytes=broken)
    assert list((store.root / "folder").iterdir()) == []


def test_a_missing_root_is_empty_and_made_by_the_first_write(store):
    assert list(store.list_infos()) == list(store.list_names()) == []
    assert store.find_info("key") is None
    assert not store.root.exists()
    store.put_if_absent("key", b"")
    assert store.root.is_dir()


def test_an_emptied_folder_is_not_listed(store):
    store.put("a/b/c", b"")
    store.delete(["a/b/c"])
    assert list(store.list_names()) == []


def test_equal_sizes_in_one_tick_have_different_etags(store):
    """Above the size whose content is digested, an etag is made of the file's state."""
    etags = []
    for letter in b"abcdefgh":
        store.put("key", bytes([letter]) * (files._DIGEST_LIMIT_BYTES + 1))
        etags.append(store.find_info("key").etag)
    assert len(set(etags)) == len(etags)


def test_one_name_is_an_object_or_a_folder(store):
    store.put("a/b", b"")
    with pytest.raises(StorageUrlError, match="another name"):
        store.put("a", b"")
    with pytest.raises(StorageUrlError, match="another name"):
        store.put("a/b/c", b"")


def test_a_name_too_long_for_the_disk_is_told(store):
    with pytest.raises(StorageUrlError, match="shorter"):
        store.put("n" * 300, b"")


def test_a_folder_without_permission_is_told(file_url, store):
    store.root.mkdir()
    store.root.chmod(0o500)
    process = _PROCESSES.Process(target=_put_as_nobody, args=(file_url,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert list(store.list_infos()) == []


def test_an_object_is_readable_by_whom_the_umask_allows(store):
    before = os.umask(0o022)
    try:
        store.put("key", b"")
    finally:
        os.umask(before)
    assert (store.root / "key").stat().st_mode & 0o777 == 0o644
