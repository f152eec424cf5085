"""Folders that a version is made of."""

from __future__ import annotations

import pytest

from airflow_provider_hfreg.errors import LocalFileError
from airflow_provider_hfreg.storage.local import LocalStore
from airflow_provider_hfreg.versions.sources import LocalFolder


def test_a_folder_that_was_written_as_a_store_has_no_lock_among_its_files(tmp_path):
    store = LocalStore(tmp_path.as_uri())
    store.put("model/config.json", b"{}")
    assert (tmp_path / "model" / ".hfreg.lock").exists()
    assert LocalFolder(tmp_path / "model").sizes() == {"config.json": 2}


def snapshot(folder):
    """A folder as the hub's client caches it, one file of it by a folder that is a link."""
    blobs, found = folder / "blobs", folder / "snapshots" / "c0ffee"
    (blobs / "pooling").mkdir(parents=True)
    found.mkdir(parents=True)
    (blobs / "ab12").write_text("{}")
    (blobs / "pooling" / "config.json").write_text('{"a": 1}')
    (found / "config.json").symlink_to("../../blobs/ab12")
    (found / "1_Pooling").symlink_to("../../blobs/pooling")
    return found


def test_links_to_files_and_to_folders_are_followed(tmp_path):
    source = LocalFolder(snapshot(tmp_path))
    assert source.sizes() == {"config.json": 2, "1_Pooling/config.json": 8}
    with source.opened("1_Pooling/config.json") as local:
        assert local.read_text() == '{"a": 1}'


def test_a_folder_that_is_a_link_and_one_that_two_links_lead_to_are_read(tmp_path):
    found = snapshot(tmp_path)
    (found / "2_Pooling").symlink_to("1_Pooling")
    (tmp_path / "main").symlink_to(found)
    sizes = LocalFolder(tmp_path / "main").sizes()
    assert sizes == {"config.json": 2, "1_Pooling/config.json": 8, "2_Pooling/config.json": 8}


@pytest.mark.parametrize("back_to", [".", "..", "../..", "/", "../../blobs/pooling/back"])
def test_links_in_a_circle_end(tmp_path, back_to):
    """To the folder itself, to those it lies in, and from a folder elsewhere to what it was reached by."""
    found = snapshot(tmp_path)
    (tmp_path / "blobs" / "pooling" / "back").symlink_to(found)
    (found / "circle").symlink_to(back_to)
    assert LocalFolder(found).sizes() == {"config.json": 2, "1_Pooling/config.json": 8}


@pytest.mark.parametrize(("name", "target"), [("tokenizer.json", "../../blobs/cd34"), ("2_Dense", "itself/2_Dense")])
def test_a_link_that_leads_nowhere_is_told_and_not_left_out(tmp_path, name, target):
    found = snapshot(tmp_path)
    (found / "itself").symlink_to(found)
    (found / name).symlink_to(target)
    with pytest.raises(LocalFileError, match=rf"{name} is a link to {target}, which is not there.* download it again"):
        LocalFolder(found).sizes()
