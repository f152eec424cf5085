"""Claims: one holder among any number, a lost answer told from a lost claim, on both stores."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_provider_hfreg.errors import StorageUnavailableError, UnknownFormatError
from airflow_provider_hfreg.runs.report import RowCounts
from airflow_provider_hfreg.storage.local import LocalStore
from airflow_provider_hfreg.storage.urls import open_store
from airflow_provider_hfreg.testing.faults import Fault, Faults, FaultyStore, raising
from airflow_provider_hfreg.workers.claims import Claim, ClaimError, ClaimState, read_claim, take_claim

KEY = "_hfreg/r/claims/00000.json"
LOST = raising(StorageUnavailableError("the answer was lost"))


@pytest.fixture
def store(request, store_url):
    settings = request.getfixturevalue("s3_settings") if store_url.startswith("s3") else None
    return open_store(store_url, settings)


def claim(worker="w1", delivery=1):
    return Claim(worker=worker, sender="s", delivery=delivery)


def test_a_claim_is_written_and_read(store):
    held = take_claim(store, KEY, claim(), takes_over=None)
    held.write(counts=RowCounts(3, 2, 1), log=(4, ["INFO é", "WARNING two"]))
    held.write(state=ClaimState.FAILED, error=ClaimError("ModelLoadError", "no weights"))
    read, _ = read_claim(store, KEY)
    assert read == held.claim
    assert (read.counts, read.log, read.log_first, read.renewals) == (
        RowCounts(3, 2, 1),
        ("INFO é", "WARNING two"),
        4,
        2,
    )
    assert read.error == ClaimError("ModelLoadError", "no weights")


def test_one_of_many_takes_an_absent_claim(store):
    def take(number):
        return take_claim(store, KEY, claim(f"w{number}"), takes_over=None)

    with ThreadPoolExecutor(8) as threads:
        taken = [held for held in threads.map(take, range(8)) if held]
    assert len(taken) == 1
    assert read_claim(store, KEY)[0] == taken[0].claim


def test_a_claim_is_taken_over_only_as_it_was_seen(store):
    first = take_claim(store, KEY, claim("w1"), takes_over=None)
    _, seen = read_claim(store, KEY)
    first.write(counts=RowCounts(1, 1))  # it was only slow
    assert take_claim(store, KEY, claim("w2", 2), takes_over=seen) is None
    _, seen = read_claim(store, KEY)
    second = take_claim(store, KEY, claim("w2", 2), takes_over=seen)
    assert read_claim(store, KEY)[0].worker == "w2"
    first.write(counts=RowCounts(2, 2))
    assert first.is_lost
    assert not second.is_lost
    assert read_claim(store, KEY)[0] == second.claim


def test_an_ended_claim_is_written_no_more(store):
    held = take_claim(store, KEY, claim(), takes_over=None)
    held.write(state=ClaimState.DONE)
    held.write(counts=RowCounts(9, 9))  # the thread beside it is one beat late
    assert read_claim(store, KEY)[0].state is ClaimState.DONE


def test_a_claim_whose_object_is_gone_is_lost(store):
    held = take_claim(store, KEY, claim(), takes_over=None)
    store.delete([KEY])
    held.write()
    assert held.is_lost


@pytest.mark.parametrize("takes_over", [False, True])
def test_a_take_whose_answer_was_lost_and_was_repeated_holds(file_url, takes_over):
    """As the client library does on a timeout: the second request meets the first one's success."""
    local = LocalStore(file_url)
    seen = None
    if takes_over:
        take_claim(local, KEY, claim("w0"), takes_over=None)
        _, seen = read_claim(local, KEY)

    class Repeating(FaultyStore):
        def put_if_absent(self, key, content):
            self.store.put_if_absent(key, content)
            return self.store.put_if_absent(key, content)

        def replace_if_match(self, key, content, etag):
            self.store.replace_if_match(key, content, etag)
            return self.store.replace_if_match(key, content, etag)

    held = take_claim(Repeating(local), KEY, claim("w1"), takes_over=seen)
    assert held is not None
    held.write(counts=RowCounts(1, 1))
    assert not held.is_lost
    assert read_claim(local, KEY)[0].counts == RowCounts(1, 1)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_write_that_failed_is_no_lost_claim(file_url, when):
    local = LocalStore(file_url)
    faults = Faults(Fault("replace_if_match", LOST, call=1, when=when))
    held = take_claim(FaultyStore(local, faults), KEY, claim(), takes_over=None)
    with pytest.raises(StorageUnavailableError):
        held.write(counts=RowCounts(1, 1))
    held.write(counts=RowCounts(2, 2), state=ClaimState.DONE)
    assert not held.is_lost
    assert read_claim(local, KEY)[0] == held.claim
    assert (held.claim.state, held.claim.counts) == (ClaimState.DONE, RowCounts(2, 2))


def test_a_claim_taken_over_while_an_answer_was_lost_is_lost(file_url):
    local = LocalStore(file_url)

    def taken_over():
        take_claim(local, KEY, claim("w2", 2), takes_over=read_claim(local, KEY)[1])
        raise StorageUnavailableError("the answer was lost")

    faults = Faults(Fault("replace_if_match", taken_over, call=1, when="after"))
    held = take_claim(FaultyStore(local, faults), KEY, claim("w1"), takes_over=None)
    with pytest.raises(StorageUnavailableError):
        held.write(counts=RowCounts(1, 1))
    held.write(counts=RowCounts(2, 2))
    assert held.is_lost
    assert read_claim(local, KEY)[0].worker == "w2"


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"state": "asleep"}', b"\xff"])
def test_what_is_no_claim_is_told(file_url, content):
    store = LocalStore(file_url)
    store.put(KEY, content)
    with pytest.raises(UnknownFormatError, match=r"00000\.json is no claim"):
        read_claim(store, KEY)
    assert take_claim(store, KEY, claim(), takes_over=None) is None


def test_a_claim_of_a_version_that_knew_less_is_read():
    """A run goes on after an upgrade: who had its shards, and how often each was begun, still counts."""
    plain = json.loads(Claim("w", "s", 3).to_bytes())
    del plain["lapse_s"]
    assert Claim.from_bytes(json.dumps(plain).encode(), where="x").delivery == 3
    del plain["delivery"]
    with pytest.raises(UnknownFormatError):
        Claim.from_bytes(json.dumps(plain).encode(), where="x")
