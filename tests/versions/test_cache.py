"""The host's cache: verified, shared, never partial."""

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from airflow_provider_hfreg.errors import BlobMissingError, DigestMismatchError, StorageError, StorageUnavailableError
from airflow_provider_hfreg.storage.local import LocalStore
from airflow_provider_hfreg.testing.faults import Fault, Faults, FaultyStore, raising
from airflow_provider_hfreg.versions.cache import HostCache
from airflow_provider_hfreg.versions.cache_settings import default_cache_folder


@pytest.fixture
def manifest(file_url, model_folder, publish_folder):
    return publish_folder(LocalStore(file_url), model_folder()).manifest


@pytest.fixture
def counted(file_url, manifest):
    """The store that holds the version, counting calls."""
    return FaultyStore(LocalStore(file_url))


def downloads(store):
    return store.faults.calls["download"]


def weights_of(folder):
    return (folder / "model.safetensors").resolve()


def overwrite(path, content):
    path.chmod(0o644)
    path.write_bytes(content)


def test_a_versions_folder_holds_its_files(counted, manifest, tmp_path, model_folder):
    folder = HostCache(tmp_path / "cache").folder_of(counted, manifest)
    original = model_folder()
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == (original / "model.safetensors").read_bytes()


def test_what_a_host_has_is_fetched_once_for_all_processes(counted, manifest, tmp_path):
    for _ in range(3):
        HostCache(tmp_path / "cache").folder_of(counted, manifest)  # each as a new process sees it
    assert downloads(counted) == 2


def test_cold_threads_download_each_file_once(counted, manifest, tmp_path):
    with ThreadPoolExecutor(8) as threads:
        folders = list(threads.map(lambda _: HostCache(tmp_path / "cache").folder_of(counted, manifest), range(8)))
    assert len(set(folders)) == 1
    assert downloads(counted) == 2


def test_two_versions_share_the_files_they_have_in_common(file_url, model_folder, publish_folder, tmp_path):
    store, cache, folder = FaultyStore(LocalStore(file_url)), HostCache(tmp_path / "cache"), model_folder()
    first = publish_folder(store, folder)
    second = publish_folder(store, folder, version_name="v2", parameters={"top_k": 2})
    one, other = cache.folder_of(store, first.manifest), cache.folder_of(store, second.manifest)
    assert one != other
    assert weights_of(one) == weights_of(other)


def test_a_damaged_entry_is_noticed_and_fetched_again(counted, manifest, tmp_path):
    weights = weights_of(HostCache(tmp_path / "cache").folder_of(counted, manifest))
    good = weights.read_bytes()
    overwrite(weights, good[:-1] + b"!")
    HostCache(tmp_path / "cache").folder_of(counted, manifest)
    assert weights.read_bytes() == good
    assert downloads(counted) == 3


def test_a_damaged_entry_with_its_old_date_is_noticed_too(counted, manifest, tmp_path):
    weights = weights_of(HostCache(tmp_path / "cache").folder_of(counted, manifest))
    good, before = weights.read_bytes(), weights.stat()
    overwrite(weights, good[:-1] + b"!")
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    HostCache(tmp_path / "cache").folder_of(counted, manifest)
    assert weights.read_bytes() == good


def test_a_cut_entry_is_noticed_even_later_in_a_process(counted, manifest, tmp_path):
    cache = HostCache(tmp_path / "cache")
    weights = weights_of(cache.folder_of(counted, manifest))
    overwrite(weights, b"cut")
    assert len(weights_of(cache.folder_of(counted, manifest)).read_bytes()) > 1000


@pytest.mark.parametrize("dated", ["now", "as before"])
def test_a_byte_flipped_between_two_uses_in_a_process_is_noticed(counted, manifest, tmp_path, dated):
    cache = HostCache(tmp_path / "cache")
    with cache.hold(counted, manifest) as folder:
        weights = weights_of(folder)
    good, before = weights.read_bytes(), weights.stat()
    time.sleep(0.02)  # the clock of a file system ticks every few milliseconds
    weights.chmod(0o644)
    with weights.open("r+b") as written:
        written.seek(len(good) // 2)
        written.write(bytes([good[len(good) // 2] ^ 1]))
    if dated == "as before":
        os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    with cache.hold(counted, manifest) as folder:
        assert weights_of(folder).read_bytes() == good
    assert downloads(counted) == 3


def test_a_file_that_nobody_touched_is_not_read_again_in_a_process(counted, manifest, tmp_path):
    """A load costs one look at each file, not the reading of gigabytes."""
    cache = HostCache(tmp_path / "cache")
    cache.hold(counted, manifest).release()
    for file in manifest.files:
        (tmp_path / "cache" / "records" / f"{file.digest[-64:]}.json").unlink()
    cache.hold(counted, manifest).release()
    assert not list((tmp_path / "cache" / "records").iterdir())  # whoever reads a file notes how it looked


def test_verifying_reads_every_byte_again(counted, manifest, tmp_path):
    cache = HostCache(tmp_path / "cache")
    weights = weights_of(cache.folder_of(counted, manifest))
    good = weights.read_bytes()
    overwrite(weights, good[:-1] + b"!")
    cache.folder_of(counted, manifest, verify=True)
    assert weights.read_bytes() == good


def test_a_touched_entry_is_read_and_kept(counted, manifest, tmp_path):
    weights = weights_of(HostCache(tmp_path / "cache").folder_of(counted, manifest))
    os.utime(weights)
    HostCache(tmp_path / "cache").folder_of(counted, manifest)
    assert downloads(counted) == 2


def test_a_blob_damaged_in_the_store_is_never_a_model(counted, manifest, tmp_path):
    blob = next(file for file in manifest.files if file.path == "model.safetensors")
    content = counted.store.get(blob.key)
    counted.store.put(blob.key, content[:-1] + b"!")
    with pytest.raises(DigestMismatchError) as caught:
        HostCache(tmp_path / "cache").folder_of(counted, manifest)
    assert blob.key in str(caught.value)
    assert blob.digest in str(caught.value)
    assert ("download", blob.key) in counted.faults.log
    assert not list((tmp_path / "cache" / "sha256").glob(blob.digest[-64:]))


def test_a_size_that_is_not_the_digests_is_refused_and_not_downloaded_for_ever(counted, manifest, tmp_path):
    wrong = replace(manifest, files=tuple(replace(file, size_bytes=7) for file in manifest.files))
    with pytest.raises(DigestMismatchError, match="and the version's manifest says 7"):
        HostCache(tmp_path / "cache").folder_of(counted, wrong)
    assert downloads(counted) == 1
    assert not list((tmp_path / "cache" / "sha256").iterdir())


def test_a_blob_damaged_in_the_store_is_healed_the_way_the_error_says(
    counted, manifest, tmp_path, model_folder, publish_folder
):
    blob = next(file for file in manifest.files if file.path == "model.safetensors")
    good = counted.store.get(blob.key)
    counted.store.put(blob.key, good[:-1] + b"!")
    cache = HostCache(tmp_path / "cache")
    with pytest.raises(DigestMismatchError, match="delete it from the store and then log the same model again under"):
        cache.folder_of(counted, manifest)
    counted.store.delete([blob.key])
    assert publish_folder(counted, model_folder()).manifest == manifest
    assert weights_of(cache.folder_of(counted, manifest)).read_bytes() == good


def test_an_answer_damaged_on_the_way_is_fetched_again(counted, manifest, tmp_path):
    blob = next(file for file in manifest.files if file.path == "model.safetensors")
    good = counted.store.get(blob.key)
    counted.store.put(blob.key, good[:-1] + b"!")
    repair = Fault("download", lambda: counted.store.put(blob.key, good), call=2, key=blob.key)
    folder = HostCache(tmp_path / "cache").folder_of(FaultyStore(counted, Faults(repair)), manifest)
    assert weights_of(folder).read_bytes() == good


def test_a_download_that_fails_leaves_nothing_and_the_next_one_succeeds(counted, manifest, tmp_path):
    gone = Fault("download", raising(StorageUnavailableError("gone")), when="after")
    cache = HostCache(tmp_path / "cache")
    with pytest.raises(StorageUnavailableError):
        cache.folder_of(FaultyStore(counted, Faults(gone)), manifest)
    assert not any((tmp_path / "cache" / "scratch").iterdir())
    assert cache.folder_of(counted, manifest).is_dir()


def test_a_blob_that_is_gone_is_told_with_its_version_and_logging_again_brings_it_back(
    counted, manifest, tmp_path, model_folder, publish_folder
):
    lost = manifest.files[0]
    counted.store.delete([lost.key])
    cache = HostCache(tmp_path / "cache")
    with pytest.raises(BlobMissingError, match=f"finbert/v1 .* {lost.path} .*under the same name") as caught:
        cache.folder_of(counted, manifest)
    assert lost.key in str(caught.value)
    publish_folder(counted, model_folder())
    assert (cache.folder_of(counted, manifest) / lost.path).exists()


def _links(folder):
    return {path: (path.lstat().st_ino, path.readlink()) for path in folder.rglob("*") if path.is_symlink()}


def test_a_cache_that_is_reached_by_another_path_is_the_same_to_both(counted, manifest, tmp_path):
    """As by a home that is a link: who comes by the other path finds the folder right, and touches nothing of it."""
    (tmp_path / "home").mkdir()
    (tmp_path / "other").symlink_to("home")
    one, other = (HostCache(tmp_path / name / "cache") for name in ("home", "other"))
    with one.hold(counted, manifest) as folder:
        before = folder.stat().st_ino, _links(folder)
        with other.hold(counted, manifest) as same:
            assert same != folder
            for file in manifest.files:
                assert (same / file.path).read_bytes() == (folder / file.path).read_bytes()
        assert (folder.stat().st_ino, _links(folder)) == before
    assert counted.faults.calls["download"] == len(manifest.files)


def test_a_cache_that_was_moved_is_still_right(counted, manifest, tmp_path):
    HostCache(tmp_path / "cache").hold(counted, manifest).release()
    (tmp_path / "cache").rename(tmp_path / "moved")
    with HostCache(tmp_path / "moved").hold(counted, manifest) as folder:
        assert weights_of(folder).stat().st_size > 1000
    assert counted.faults.calls["download"] == len(manifest.files)


def _lose(link):
    link.unlink()


def _lead_astray(link):
    link.unlink()
    link.symlink_to("nowhere")


def _overwrite(link):
    link.unlink()
    link.write_text("foreign")


def _bury(link):
    link.unlink()
    (link / "deeper").mkdir(parents=True)


@pytest.mark.parametrize("damage", [_lose, _lead_astray, _overwrite, _bury])
def test_a_damaged_folder_is_mended_in_place_while_it_is_read(counted, manifest, tmp_path, damage):
    cache = HostCache(tmp_path / "cache")
    with cache.hold(counted, manifest) as folder:
        (folder / "foreign").symlink_to("config.json")
        damage(folder / "config.json")
        weights, inode = _links(folder)[folder / "model.safetensors"], folder.stat().st_ino
        with cache.hold(counted, manifest):
            assert sorted(path.name for path in _links(folder)) == sorted(file.path for file in manifest.files)
            assert (folder / "config.json").read_bytes().startswith(b"{")
        assert folder.stat().st_ino == inode
        assert _links(folder)[folder / "model.safetensors"] == weights  # what was right was not touched


def test_a_folder_that_is_a_file_is_made_a_folder(counted, manifest, tmp_path):
    cache = HostCache(tmp_path / "cache")
    held = cache.hold(counted, manifest)
    shutil.rmtree(held.path)
    held.path.write_text("")
    with cache.hold(counted, manifest) as folder:
        assert weights_of(folder).exists()


def test_entries_are_read_only(counted, manifest, tmp_path):
    weights = weights_of(HostCache(tmp_path / "cache").folder_of(counted, manifest))
    assert weights.stat().st_mode & 0o222 == 0


def test_a_cache_that_cannot_be_written_says_what_to_do(counted, manifest, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"or point HFREG_CACHE .* to another folder"):
        HostCache(tmp_path / "file" / "cache").folder_of(counted, manifest)


KILLED_DOWNLOADER = """
import sys
from pathlib import Path
from airflow_provider_hfreg.storage.local import LocalStore
from airflow_provider_hfreg.testing.faults import Fault, Faults, FaultyStore, kill
from airflow_provider_hfreg.versions.cache import HostCache
from airflow_provider_hfreg.versions.publish import find_manifest
url, cache, when = sys.argv[1:]
store = LocalStore(url)
faulty = FaultyStore(store, Faults(Fault("download", kill, call=2, when=when)))
HostCache(Path(cache)).folder_of(faulty, find_manifest(store, "finbert", "v1"))
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_another_process_finishes_what_a_killed_one_began(counted, manifest, tmp_path, when):
    arguments = [sys.executable, "-c", KILLED_DOWNLOADER, counted.url, str(tmp_path / "cache"), when]
    assert subprocess.run(arguments, check=False).returncode == 137
    folder = HostCache(tmp_path / "cache").folder_of(counted, manifest)
    assert downloads(counted) == 1  # the other file was whole before the kill
    for file in manifest.files:
        assert (folder / file.path).stat().st_size == file.size_bytes


def test_the_folder_comes_from_the_environment_or_the_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HFREG_CACHE", str(tmp_path))
    assert default_cache_folder() == tmp_path
    monkeypatch.delenv("HFREG_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache_folder() == tmp_path / ".cache" / "hfreg"
