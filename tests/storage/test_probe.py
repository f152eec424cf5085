"""A store that breaks conditional writes is refused by name. (Those that keep them pass, in the contract.)"""

from __future__ import annotations

import pytest

from airflow_provider_hfreg.errors import ConditionalWritesUnsupportedError, StorageDeniedError
from airflow_provider_hfreg.storage.local import LocalStore
from airflow_provider_hfreg.storage.probe import probe_conditional_writes
from airflow_provider_hfreg.storage.s3 import S3Store
from airflow_provider_hfreg.testing.faults import Fault, Faults, FaultyStore, raising
from airflow_provider_hfreg.testing.servers import objects_of_rclone, rclone_s3


class _IgnoresIfMatch(LocalStore):
    """A folder that replaces whatever the etag, as Ceph's rgw 16 does."""

    def replace_if_match(self, key, content, etag):
        self.put(key, content)


class _RefusesEveryIfMatch(LocalStore):
    def replace_if_match(self, key, content, etag):
        return super().replace_if_match(key, content, "another")


def test_a_server_that_ignores_if_none_match_is_refused_by_name(tmp_path):
    with rclone_s3(tmp_path) as server:
        store = S3Store(server.create_bucket("models") + "/prefix", server.settings())
        with pytest.raises(ConditionalWritesUnsupportedError, match=r"If-None-Match.*16 of 16"):
            probe_conditional_writes(store)
    assert objects_of_rclone(tmp_path, "models") == []


@pytest.mark.parametrize(
    ("kind", "seen"), [(_IgnoresIfMatch, "stale ETag was accepted"), (_RefusesEveryIfMatch, "current ETag was refused")]
)
def test_a_store_that_breaks_if_match_is_refused_by_name(file_url, kind, seen):
    store = kind(file_url)
    with pytest.raises(ConditionalWritesUnsupportedError, match=f"If-Match.*{seen}"):
        probe_conditional_writes(store)
    assert list(store.list_infos()) == []


def test_who_may_not_delete_may_still_prove_the_store(file_url):
    denied = Fault("delete", raising(StorageDeniedError("no permission")))
    result = probe_conditional_writes(FaultyStore(LocalStore(file_url), Faults(denied)), "gc/leases/")
    assert result.writers == 16
