"""A writer's lease: there before it looks, renewed, dropped; and lapsed for good once it was silent for too long."""

import json
import threading
import time
from dataclasses import replace

import pytest

from airflow_provider_hfreg.errors import (
    LeaseLapsedError,
    PublishStateUnknownError,
    StorageDeniedError,
    StorageError,
    StorageUnavailableError,
)
from airflow_provider_hfreg.storage.local import LocalStore
from airflow_provider_hfreg.storage.s3 import S3Store
from airflow_provider_hfreg.testing.faults import Fault, Faults, FaultyStore, raising
from airflow_provider_hfreg.versions.format import ensure_format
from airflow_provider_hfreg.versions.garbage import collect
from airflow_provider_hfreg.versions.layout import Layout
from airflow_provider_hfreg.versions.leases import Lease
from airflow_provider_hfreg.versions.publish import find_manifest
from airflow_provider_hfreg.versions.terms import Terms

LOST = raising(StorageUnavailableError("the answer was lost"))
DENIED = raising(StorageDeniedError("no permission"))
DIGEST = "sha256:" + "ab" * 32


class Clock:
    """A clock that is set."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def lease(file_url, clock):
    with Lease(LocalStore(file_url), "writer", [DIGEST, DIGEST], 900, clock=clock) as lease:
        yield lease


def leases(store):
    return [json.loads(store.get(info.key)) for info in store.list_infos(Layout.LEASES)]


def test_a_lease_names_its_digests_while_it_is_held(store):
    with Lease(store, "writer", [DIGEST, DIGEST], 900):
        (document,) = leases(store)
        assert (document["digests"], document["length_s"]) == ([DIGEST], 900)
    assert leases(store) == []


def test_a_lease_that_was_not_renewed_in_half_its_length_has_lapsed(lease, clock):
    clock.now = 450
    lease.check()
    clock.now = 451
    with pytest.raises(LeaseLapsedError, match="Log again"):
        lease.check()


def test_a_renewal_counts_from_when_it_was_sent(lease, clock):
    clock.now = 400
    lease.renew()
    clock.now = 850
    lease.check()
    clock.now = 851
    with pytest.raises(LeaseLapsedError):
        lease.check()


def test_what_has_lapsed_is_not_renewed(lease, clock, file_url):
    """A collector may have disregarded it in between, and deleted."""
    clock.now = 451
    lease.renew()
    assert leases(LocalStore(file_url))[0]["renewals"] == 0
    clock.now = 0
    with pytest.raises(LeaseLapsedError):
        lease.check()


def test_a_renewal_that_took_too_long_is_none(file_url, clock):
    """It may have arrived as late as its answer did."""

    def slowly():
        clock.now += 500

    store = FaultyStore(LocalStore(file_url), Faults(Fault("put", slowly, call=2)))
    with Lease(store, "writer", [], 900, clock=clock) as lease:
        lease.renew()
        with pytest.raises(LeaseLapsedError):
            lease.check()


def test_a_lease_is_renewed_by_itself_and_survives_a_fault(file_url):
    renewed = threading.Event()
    faults = Faults(Fault("put", LOST, call=2), Fault("put", renewed.set, call=4, when="after"))
    with Lease(FaultyStore(LocalStore(file_url), faults), "writer", [], 20) as lease:
        assert renewed.wait(60)
        lease.check()


def test_who_may_not_delete_can_publish_and_leaves_a_lease_that_ages(store, model_folder, publish_folder):
    denied = FaultyStore(store, Faults(Fault("delete", DENIED, call=None)))
    assert publish_folder(denied, model_folder()).created
    assert len(leases(store)) == 1


def test_a_refused_lease_is_told_and_nothing_is_written(file_url, model_folder, publish_folder):
    store = LocalStore(file_url)
    denied = FaultyStore(store, Faults(Fault("put", DENIED, key="gc/leases/")))
    with pytest.raises(StorageDeniedError):
        publish_folder(denied, model_folder())
    assert list(store.list_infos()) == []


def test_nothing_is_published_under_a_lapsed_lease(file_url, model_folder, publish_folder):
    store = LocalStore(file_url)
    faulty = FaultyStore(store, Faults(Fault("upload", lambda: time.sleep(0.01), when="after")))
    with pytest.raises(LeaseLapsedError):
        publish_folder(faulty, model_folder(), terms=Terms(lease_s=0.001))
    assert find_manifest(store, "finbert", "v1") is None
    assert leases(store) == []
    assert publish_folder(store, model_folder()).created


def test_a_lease_outlives_a_commit_whose_end_is_unknown(file_url, model_folder, publish_folder):
    """The put may still be on its way."""
    store = LocalStore(file_url)
    faults = Faults(
        Fault("put_if_absent", LOST, call=None),
        *(Fault("get", LOST, call=call, key="versions/") for call in (2, 3, 4)),
    )
    with pytest.raises(PublishStateUnknownError):
        publish_folder(FaultyStore(store, faults), model_folder())
    assert len(leases(store)) == 1


def test_a_lease_is_dropped_where_an_upload_failed(file_url, model_folder, publish_folder):
    store = LocalStore(file_url)
    with pytest.raises(StorageError):
        publish_folder(FaultyStore(store, Faults(Fault("upload", LOST))), model_folder())
    assert leases(store) == []


def test_a_lease_and_a_marker_outlast_the_requests_of_a_patient_client(
    s3_url, s3_settings, model_folder, publish_folder
):
    """Else what was sent at the last moment would arrive when others disregard what allowed it."""
    patient = S3Store(s3_url, replace(s3_settings, read_timeout_s=1000, max_attempts=4))  # 4,100 s and more
    lengths = {}

    def look(prefix):
        (info,) = list(patient.list_infos(prefix))[:1]
        lengths[prefix] = json.loads(patient.get(info.key))["length_s"]

    faults = Faults(
        Fault("upload", lambda: look(Layout.LEASES)), Fault("delete", lambda: look(Layout.CONDEMNED), key="blobs/")
    )
    store = FaultyStore(patient, faults)
    ensure_format(store, created="2026-01-02T03:04:05.000006Z")
    publish_folder(store, model_folder())
    store.delete([Layout.manifest("finbert", "v1")])
    assert len(collect(store, dry_run=False).blobs) == 2
    assert lengths == {Layout.LEASES: patient.request_s, Layout.CONDEMNED: patient.request_s}
    assert patient.request_s > 4000
