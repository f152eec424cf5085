"""Folders that a version is made of."""

from __future__ import annotations

from airflow_provider_hfreg.storage.local import LocalStore
from airflow_provider_hfreg.versions.sources import LocalFolder


def test_a_folder_that_was_written_as_a_store_has_no_lock_among_its_files(tmp_path):
    store = LocalStore(tmp_path.as_uri())
    store.put("model/config.json", b"{}")
    assert (tmp_path / "model" / ".hfreg.lock").exists()
    assert LocalFolder(tmp_path / "model").sizes() == {"config.json": 2}
