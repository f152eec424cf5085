"""Both stores keep the contract, each on its real backend."""

from __future__ import annotations

import pytest

from airflow_provider_hfreg.storage.local import LocalStore
from airflow_provider_hfreg.storage.s3 import S3Store
from airflow_provider_hfreg.testing.faults import FaultyStore
from airflow_provider_hfreg.testing.store import StoreContract


class TestLocalStore(StoreContract):
    @pytest.fixture
    def store(self, file_url):
        return LocalStore(file_url)


class TestS3StoreBelowAPrefix(StoreContract):
    @pytest.fixture
    def store(self, s3_url, s3_settings):
        return S3Store(s3_url, s3_settings)


class TestFaultyStoreWithoutFaults(StoreContract):
    @pytest.fixture
    def store(self, file_url):
        return FaultyStore(LocalStore(file_url))
