"""Stores that cannot hold a registry are told at the first call, and left as they were."""

import pytest

from airflow_provider_hfreg.errors import (
    BucketNotFoundError,
    ConditionalWritesUnsupportedError,
    StorageDeniedError,
)
from airflow_provider_hfreg.registry import Registry
from airflow_provider_hfreg.storage.urls import open_store
from airflow_provider_hfreg.testing.servers import objects_of_rclone, rclone_s3

TASK = "text-classification"


def test_a_store_that_ignores_conditions_is_refused_before_anything_is_uploaded(classifier, tmp_path):
    with rclone_s3(tmp_path / "rclone") as server:
        url = server.create_bucket("models")
        registry = Registry(url, s3=server.settings(), cache_folder=tmp_path / "host")
        with pytest.raises(ConditionalWritesUnsupportedError, match="If-None-Match"):
            registry.log_folder(classifier, model_name="finbert", version_name="v1", task=TASK)
    assert objects_of_rclone(tmp_path / "rclone", "models") == []


def test_wrong_credentials_fail_the_first_call(seaweedfs, s3_url, classifier, tmp_path):
    wrong = seaweedfs.settings(secret_access_key="wrong")
    registry = Registry(s3_url, s3=wrong, cache_folder=tmp_path / "host")
    with pytest.raises(StorageDeniedError):
        registry.log_folder(classifier, model_name="finbert", version_name="v1", task=TASK)
    with pytest.raises(StorageDeniedError):
        registry.models()
    assert list(open_store(s3_url, seaweedfs.settings()).list_infos()) == []


def test_a_bucket_that_does_not_exist_is_told_by_its_name(s3_settings, classifier, tmp_path):
    registry = Registry("s3://no-such-bucket/prefix", s3=s3_settings, cache_folder=tmp_path / "host")
    with pytest.raises(BucketNotFoundError, match="no-such-bucket"):
        registry.log_folder(classifier, model_name="finbert", version_name="v1", task=TASK)
    with pytest.raises(BucketNotFoundError, match="no-such-bucket"):
        registry.get_model("finbert")


def test_the_store_is_tried_once_per_registry(file_registry, classifier, tmp_path):
    for name in ("v1", "v2"):
        file_registry.log_folder(classifier, model_name="finbert", version_name=name, task=TASK)
    store = open_store(file_registry.url)
    first = store.get("format.json")
    file_registry.log_folder(classifier, model_name="other", task=TASK)
    assert store.get("format.json") == first
    assert not [info.key for info in store.list_infos("probe-")]
