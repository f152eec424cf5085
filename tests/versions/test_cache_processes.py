"""
The host's cache among real processes: one download, a downloader that is killed, a full disk, eviction, two users.

Each child is a process of its own that opens the store anew; what it was told comes back as a line of JSON.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from airflow_provider_hfreg.errors import DigestMismatchError
from airflow_provider_hfreg.testing.faults import FaultyStore
from airflow_provider_hfreg.versions.cache import HostCache, trim_after_readers
from airflow_provider_hfreg.versions.cache import places as places_module

_WEIGHTS_BYTES = 20_000_000  # three ranges on S3

CHILD = """
import json, os, resource, sys, time
from pathlib import Path
from airflow_provider_hfreg.errors import HfregError
from airflow_provider_hfreg.storage.settings import S3Settings
from airflow_provider_hfreg.storage.urls import open_store
from airflow_provider_hfreg.testing.faults import FaultyStore
from airflow_provider_hfreg.versions.cache import HostCache, trim_after_readers
from airflow_provider_hfreg.versions.publish import find_manifest

url, s3, cache, given = json.loads(sys.argv[1])
if "file_bytes" in given:
    resource.setrlimit(resource.RLIMIT_FSIZE, (given["file_bytes"],) * 2)
store = FaultyStore(open_store(url, S3Settings(**s3) if s3 else None))
manifest = find_manifest(store, "finbert", given.get("version", "v1"))
if "user" in given:  # after whatever Python loads late, for it may lie in somebody else's home
    os.setgroups([]), os.setgid(given["group"]), os.umask(0o077), os.setuid(given["user"])
moved = 0

def progress(file):
    def on_bytes(count):
        global moved
        moved += count
        if moved > given.get("die_after", 10**15):
            print("dying", flush=True)
            os.kill(os.getpid(), 9)
    return on_bytes

host = HostCache(Path(cache), size_gib=given.get("size_gib"))
told = {}
try:
    held = host.hold(store, manifest, progress=progress)
    if "hold_s" in given:
        print("held", flush=True)
        time.sleep(given["hold_s"])
    told["bytes"] = sum(len((held.path / path.name).read_bytes()) for path in held.path.iterdir())
    held.release()
except HfregError as error:
    told["error"] = [type(error).__name__, str(error)]
print(json.dumps({**told, "downloads": store.faults.calls["download"]}))
"""


@pytest.fixture
def places(store_url, request):
    """The URL of the store, and the settings to reach it as JSON."""
    if store_url.startswith("file"):
        return store_url, None
    settings = request.getfixturevalue("s3_settings")
    names = ("endpoint_url", "region_name", "access_key_id", "secret_access_key")
    return store_url, {name: getattr(settings, name) for name in names}


@pytest.fixture
def start(places, tmp_path):
    """A function that starts a child; every child that is left at the end is killed."""
    children = []

    def act(cache=None, **given):
        argument = json.dumps([*places, str(cache or tmp_path / "cache"), given])
        child = subprocess.Popen([sys.executable, "-c", CHILD, argument], stdout=subprocess.PIPE, text=True)
        children.append(child)
        return child

    yield act
    for child in children:
        child.kill()
        child.wait()
        child.stdout.close()


def told(child):
    out, _ = child.communicate(timeout=240)
    return json.loads(out.splitlines()[-1])


@pytest.fixture
def versions(store, model_folder, publish_folder):
    """A function that publishes versions of 20 MB each, all different, and returns their manifests."""

    def act(*names):
        return [
            publish_folder(
                store, model_folder(name, seed=number, weight_bytes=_WEIGHTS_BYTES), version_name=name
            ).manifest
            for number, name in enumerate(names, start=1)
        ]

    return act


@pytest.fixture
def manifest(versions):
    return versions("v1")[0]


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def cached_bytes(cache):
    return sum(path.stat().st_size for path in (cache / "sha256").iterdir())


def assert_whole(cache, *manifests):
    """Every entry is a whole, right one; and nothing is under way."""
    sizes = {file.digest.split(":")[1]: file.size_bytes for manifest in manifests for file in manifest.files}
    for path in (cache / "sha256").iterdir():
        assert path.stat().st_size == sizes[path.name]
    assert not any((cache / "scratch").iterdir())


# --- one download


def test_eight_cold_processes_download_each_file_once(start, manifest, cache):
    children = [start() for _ in range(8)]
    results = [told(child) for child in children]
    assert [result["bytes"] for result in results] == [manifest.size_bytes] * 8
    assert sum(result["downloads"] for result in results) == len(manifest.files)
    assert_whole(cache, manifest)


def test_when_the_downloader_is_killed_another_finishes_and_nothing_partial_is_left(start, manifest, cache):
    dying = start(die_after=_WEIGHTS_BYTES // 2)
    others = [start() for _ in range(3)]
    assert "dying" in dying.communicate(timeout=240)[0] or cached_bytes(cache) == manifest.size_bytes
    results = [told(child) for child in others]
    assert [result["bytes"] for result in results] == [manifest.size_bytes] * 3
    assert told(start())["downloads"] == 0
    assert_whole(cache, manifest)


def test_what_a_killed_downloader_left_is_removed_by_the_next_download(start, manifest, cache):
    dying = start(die_after=_WEIGHTS_BYTES // 2)
    dying.communicate(timeout=240)
    assert dying.returncode == -signal.SIGKILL
    assert any((cache / "scratch").iterdir())
    assert told(start())["bytes"] == manifest.size_bytes
    assert_whole(cache, manifest)


# --- a full disk


@contextlib.contextmanager
def small_disk(folder, size_bytes):
    """A file system of its own with little room."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small disk takes root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_told_before_anything_is_moved_and_leaves_nothing(start, manifest, tmp_path):
    with small_disk(tmp_path / "disk", _WEIGHTS_BYTES // 2) as disk:
        result = told(start(cache=disk))
        assert result["error"][0] == "StorageUnavailableError"
        assert f"{disk} cannot hold 20,000,082 bytes more" in result["error"][1]
        assert "No space left on device" in result["error"][1]
        assert_whole(disk, manifest)


def test_a_disk_full_of_other_versions_makes_room(start, versions, tmp_path):
    manifests = versions("v1", "v2")
    with small_disk(tmp_path / "disk", _WEIGHTS_BYTES * 3 // 2) as disk:
        for version in ("v1", "v2", "v1"):
            assert told(start(cache=disk, version=version, size_gib="inf"))["bytes"] == manifests[0].size_bytes
            assert_whole(disk, *manifests)


def test_a_file_larger_than_this_user_may_write_is_told_and_leaves_nothing(start, manifest, cache):
    result = told(start(file_bytes=1_000_000))
    assert result["error"][0] == "StorageUnavailableError"
    assert "cannot hold 20,000,082 bytes more: File too large" in result["error"][1]
    assert_whole(cache, manifest)
    assert told(start())["bytes"] == manifest.size_bytes


# --- eviction

_ROOM_FOR_ONE_GIB = 1.5 * _WEIGHTS_BYTES / (1 << 30)


def weights_of(cache, manifest):
    (file,) = [file for file in manifest.files if file.path == "model.safetensors"]
    return cache / "sha256" / file.digest.split(":")[1]


def test_the_least_recently_used_goes_first(store, versions, cache):
    first, second, third = versions("v1", "v2", "v3")
    host = HostCache(cache, size_gib=2.5 * _WEIGHTS_BYTES / (1 << 30))
    for manifest in (first, second):
        host.hold(store, manifest).release()
        time.sleep(0.01)
    host.hold(store, first).release()  # used again: no more the least recent
    host.hold(store, third).release()
    there = [weights_of(cache, manifest).exists() for manifest in (first, second, third)]
    assert there == [True, False, True]
    assert not (cache / "folders" / second.content_digest.split(":")[1]).exists()
    assert cached_bytes(cache) <= 2.5 * _WEIGHTS_BYTES


def test_what_another_process_reads_survives_and_the_bytes_end_under_the_bound(start, store, versions, cache):
    first, second = versions("v1", "v2")
    reader = start(version="v1", hold_s=3600, size_gib=_ROOM_FOR_ONE_GIB)
    assert reader.stdout.readline().strip() == "held"
    counted = FaultyStore(store)
    host = HostCache(cache, size_gib=_ROOM_FOR_ONE_GIB)
    host.hold(counted, second).release()
    assert weights_of(cache, first).exists()  # the other's, although it is the older one
    assert not weights_of(cache, second).exists()
    reader.kill()  # a hold dies with its process
    reader.wait()
    with host.hold(counted, second):
        assert weights_of(cache, second).exists()
    assert not weights_of(cache, first).exists()
    assert cached_bytes(cache) <= 1.5 * _WEIGHTS_BYTES


def test_readers_in_a_cache_that_is_too_small_always_get_whole_versions(start, versions, cache):
    """Four processes, four versions, room for one: each evicts what the others do not hold at that moment."""
    manifests = versions("v1", "v2", "v3", "v4")
    for _ in range(2):
        children = [start(version=f"v{1 + number % 4}", size_gib=_ROOM_FOR_ONE_GIB) for number in range(6)]
        assert [told(child).get("bytes") for child in children] == [manifests[0].size_bytes] * 6
    assert cached_bytes(cache) <= 1.5 * _WEIGHTS_BYTES
    assert_whole(cache, *manifests)


def test_a_version_larger_than_the_bound_is_read_and_then_goes(store, manifest, cache, caplog):
    host = HostCache(cache, size_gib=0.001)
    with host.hold(store, manifest) as folder:
        assert len((folder / "model.safetensors").read_bytes()) > _WEIGHTS_BYTES
    assert "Set cache_size_gib higher" in caplog.text
    assert cached_bytes(cache) < 2_000_000


def test_a_folder_is_held_as_long_as_what_was_loaded_from_it(store, manifest, cache):
    class Model:
        pass

    host = HostCache(cache, size_gib=0.001)
    model = host.hold(store, manifest).while_lives(Model())
    trim_after_readers()
    host._trim()
    assert weights_of(cache, manifest).exists()
    del model
    assert weights_of(cache, manifest).exists()  # a finalizer only gives the lock back
    trim_after_readers()
    assert not weights_of(cache, manifest).exists()


def test_what_a_reader_that_went_has_held_goes_at_the_next_load(store, versions, cache):
    """Although nothing is fetched by it: the next version is in the cache, and held."""

    class Model:
        pass

    first, second = versions("v1", "v2")
    host = HostCache(cache, size_gib=_ROOM_FOR_ONE_GIB)
    kept = host.hold(store, second)
    model = host.hold(store, first).while_lives(Model())
    del model
    assert weights_of(cache, first).exists()
    counted = FaultyStore(store)
    again = host.hold(counted, second)
    assert counted.faults.calls["download"] == 0
    assert not weights_of(cache, first).exists()
    assert weights_of(cache, second).exists()
    again.release()
    kept.release()


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_forked_child_holds_nothing_of_its_parents(store, manifest, cache):
    host = HostCache(cache, size_gib=0.001)
    held = host.hold(store, manifest)
    awake, end = os.pipe()
    child = os.fork()
    if not child:
        held.release()  # nothing of the parent's is given back
        os.close(end)
        os.read(awake, 1)
        os._exit(0)
    time.sleep(0.2)
    host._trim()
    assert weights_of(cache, manifest).exists()
    held.release()
    assert not weights_of(cache, manifest).exists()  # although the child lives
    os.close(end)
    assert os.waitpid(child, 0)[1] == 0
    os.close(awake)


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("ask", ["is_locked", "sweep_scratch", "scratch"])
def test_a_child_that_is_forked_while_a_lock_is_tried_keeps_none(cache, monkeypatch, ask):
    """The real locks; only the moment of the fork is chosen: right after one was taken."""
    host_places = places_module.Places(cache)
    (host_places.made("scratch") / "left").mkdir()
    lock = host_places.made("scratch") / "left.lock"
    lock.touch()
    awake, end = os.pipe()
    children = []

    def fork(taken):
        children.append(os.fork())
        if not children[-1]:
            os.close(end)
            os.read(awake, 1)
            os._exit(0)
        return taken

    watched = os.open(lock, os.O_RDWR)
    try:
        if ask == "scratch":
            with host_places.scratch() as folder:
                os.close(watched)
                watched = os.open(f"{folder}.lock", os.O_RDWR)
                fork(None)
        else:
            monkeypatch.setattr(places_module, "try_lock", lambda taken, real=places_module.try_lock: fork(real(taken)))
            if ask == "is_locked":
                os.close(watched)
                watched = host_places.open_lock("held-0")
                assert not host_places.is_locked("held-0")
            else:
                host_places.sweep_scratch()
            monkeypatch.undo()
        assert len(children) == 1
        assert places_module.try_lock(watched)  # although the child lives, with the descriptor
    finally:
        os.close(watched)
        os.close(end)
        for child in children:
            os.waitpid(child, 0)
        os.close(awake)


# --- damage, on both stores


def flip(path, place=1_000_000):
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_one_flipped_byte_in_the_cache_is_fetched_again(store, manifest, cache, start):
    HostCache(cache).hold(store, manifest).release()
    good = weights_of(cache, manifest).read_bytes()
    flip(weights_of(cache, manifest))
    assert told(start())["downloads"] == 1
    assert weights_of(cache, manifest).read_bytes() == good


def test_one_flipped_byte_in_the_store_is_never_a_model(store, manifest, cache):
    (file,) = [file for file in manifest.files if file.path == "model.safetensors"]
    content = bytearray(store.get(file.key))
    content[1_000_000] ^= 1
    store.put(file.key, bytes(content))
    counted = FaultyStore(store)
    with pytest.raises(DigestMismatchError, match="damaged, twice") as caught:
        HostCache(cache).hold(counted, manifest)
    message = str(caught.value)
    assert store.location(file.key) in message
    assert f"expected {file.digest}, got sha256:" in message
    assert counted.faults.calls["download"] == 1 + 2  # the configuration's, and the weights' twice
    assert not weights_of(cache, manifest).exists()
    assert not any((cache / "scratch").iterdir())


# --- two users

_GROUP = 54321


@pytest.fixture
def shared():
    """A cache folder of a group, open to its members alone; not below pytest's own, which only this user enters."""
    if os.geteuid():
        pytest.skip("becoming two other users takes root")
    folder = Path(tempfile.mkdtemp(prefix="hfreg-shared-"))
    os.chown(folder, 0, _GROUP)
    folder.chmod(0o2770)
    yield folder
    shutil.rmtree(folder)


on_s3_alone = pytest.mark.parametrize("store_url", ["s3"], indirect=True)  # who may read a folder is another matter


@on_s3_alone
def test_two_users_of_a_group_share_a_cache_whatever_their_umask(start, versions, shared):
    manifests = versions("v1", "v2")
    ours = {"cache": shared, "group": _GROUP, "size_gib": _ROOM_FOR_ONE_GIB}
    assert told(start(user=54301, **ours)) == {"bytes": manifests[0].size_bytes, "downloads": 2}
    assert told(start(user=54302, **ours)) == {"bytes": manifests[0].size_bytes, "downloads": 0}
    third = told(start(user=54302, version="v2", **ours))
    assert third == {"bytes": manifests[1].size_bytes, "downloads": 1}  # evicts the other's
    assert not weights_of(shared, manifests[0]).exists()
    assert told(start(user=54301, **ours)) == {"bytes": manifests[0].size_bytes, "downloads": 1}
    assert {path.stat().st_mode & 0o777 for path in (shared / "sha256").iterdir()} == {0o440}


@on_s3_alone
def test_a_user_who_may_not_write_the_cache_is_told_so(start, manifest, shared):
    result = told(start(user=54301, cache=shared, group=54322))
    assert result["error"][0] == "StorageError"
    assert "let this user write there" in result["error"][1]
