"""One worker and one message at a time, without a broker: what it obeys, what it refuses, and what it leaves behind."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace

import pytest

from airflow_provider_hfreg.errors import DeviceLostError, RunCancelledError
from airflow_provider_hfreg.registry.residency import release_residents, resident_keys
from airflow_provider_hfreg.runs import layout
from airflow_provider_hfreg.runs.commit import read_marker
from airflow_provider_hfreg.storage.urls import open_store
from airflow_provider_hfreg.workers.claims import Claim, ClaimState, read_claim, take_claim
from airflow_provider_hfreg.workers.messages import ShardMessage, message_id, plan_digest, signed
from airflow_provider_hfreg.workers.pools import ExecutorPool
from airflow_provider_hfreg.workers.settings import parse_settings
from airflow_provider_hfreg.workers.worker import ShardWorker

KEY = "a key for tests that protects nothing"


class Nowhere:
    """An execution that executes nothing: the run is begun, and its shards are the test's."""

    def check(self, document, ask):
        pass

    def execute(self, begun, ask, observe):
        raise RunCancelledError("not here")
        yield


@pytest.fixture
def settings(tmp_path, tmp_path_factory):
    return parse_settings(
        {
            "broker_url": "redis://127.0.0.1:9/1",
            "message_keys": [KEY],
            "pools": {"cpu": {}},
            "storages": [{"url": tmp_path_factory.getbasetemp().as_uri()}],
            "cache_folder": str(tmp_path / "cache"),
        }
    )


@pytest.fixture
def desk(make_desk, settings):
    return make_desk(settings)


@pytest.fixture
def worker(settings):
    return ShardWorker(settings, settings.pool("cpu"), name="w")


@pytest.fixture
def begun(desk, texts):
    """A run of 25 rows in three shards that is begun; called with other texts. Returns a message for its shard 0."""

    def begin(rows=None, **options):
        desk.put_texts(rows or texts(25))
        with pytest.raises(RunCancelledError):
            desk.run(execution=Nowhere(), **options)
        (key,) = [info.key for info in desk.output.list_infos(layout.RUNS_FOLDER) if info.key.endswith("run.json")]
        run_id = key.split("/")[1]
        return ShardMessage(desk.output.url, run_id, plan_digest(desk.output.get(key)), 0, "sender", lapse_s=3.0)

    return begin


def claim_of(desk, message):
    return read_claim(desk.output, layout.claim_key(message.shard, message.batch_run_id))


def parts(desk):
    return [info.key for info in desk.output.list_infos("part-")]


def refused(worker):
    return [reason for _, reason in worker.status()["refused"]]


def test_a_shard_is_executed_and_its_claim_tells_of_it(desk, worker, begun, caplog):
    caplog.set_level(logging.INFO)
    message = begun()
    assert worker.handle(signed(message, [KEY]))
    claim, _ = claim_of(desk, message)
    assert (claim.state, claim.counts.rows_ok, claim.worker) == (ClaimState.DONE, 10, "w")
    assert parts(desk) == [layout.part_key(0, message.batch_run_id)]
    assert any("10 rows ok, 0 quarantined" in line for line in claim.log)
    assert worker.status()["running"] is None


def test_a_plan_that_is_not_the_signed_one_is_refused(desk, worker, begun):
    """A worker that knew an earlier plan of the same run must not cut by it; nor may somebody point it elsewhere."""
    message = begun()
    worker.handle(signed(message, [KEY]))
    desk.output.delete([info.key for info in desk.output.list_infos()])
    again = begun(rows_per_shard=7)
    assert again.batch_run_id == message.batch_run_id
    fresh = ShardWorker(desk.settings, desk.settings.pool("cpu"), name="w2")
    text = signed(replace(again, plan=message.plan, shard=2), [KEY])
    fresh.handle(text)
    ((told, reason),) = fresh.status()["refused"]
    assert told == message_id(text)
    assert "is not the one that was there when the message was signed" in reason
    fresh.handle(signed(again, [KEY]))
    assert claim_of(desk, again)[0].counts.rows_ok == 7


def test_a_retry_with_another_policy_is_obeyed(desk, worker, begun, texts):
    message = begun([None, None, *texts(23)], max_row_errors=1)
    worker.handle(signed(replace(message, max_row_errors=1), [KEY]))
    claim, etag = claim_of(desk, message)
    assert (claim.state, claim.error.kind) == (ClaimState.FAILED, "TooManyRowErrorsError")
    worker.handle(signed(replace(message, max_row_errors=5, takes_over=etag), [KEY]))
    claim, etag = claim_of(desk, message)
    assert (claim.state, claim.counts.rows_quarantined) == (ClaimState.DONE, 2)


def test_a_late_message_of_a_run_that_is_past_it_does_nothing(desk, worker, begun):
    message = begun()
    worker.handle(signed(message, [KEY]))
    key = layout.claim_key(0, message.batch_run_id)
    desk.output.delete([key])
    worker.handle(signed(message, [KEY]))
    assert desk.output.find_info(key) is None


def test_a_repeated_message_keeps_no_place_while_the_shard_is_under_way(desk, worker, begun):
    message = begun()
    held = take_claim(
        desk.output, layout.claim_key(0, message.batch_run_id), Claim("other", "sender", 1), takes_over=None
    )
    worker._device.acquire()
    try:
        worker.handle(signed(replace(message, is_repeated=True), [KEY]))  # would wait for the device otherwise
    finally:
        worker._device.release()
    assert claim_of(desk, message)[0] == held.claim


def test_what_its_sender_stopped_is_not_begun(desk, worker, begun):
    message = begun()
    desk.output.put(layout.stopped_key("sender", message.batch_run_id), b"{}")
    worker.handle(signed(message, [KEY]))
    assert desk.output.find_info(layout.claim_key(0, message.batch_run_id)) is None
    worker.handle(signed(replace(message, sender="another"), [KEY]))
    assert claim_of(desk, message)[0].state is ClaimState.DONE


def test_a_stopping_worker_gives_the_message_back(desk, worker, begun):
    message = begun()
    worker.stop()
    assert not worker.handle(signed(message, [KEY]))
    assert desk.output.find_info(layout.claim_key(0, message.batch_run_id)) is None


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"output": "file:///etc"}, "is in none of the storages"),
        ({"batch_run_id": "0123456789-0123456789"}, "There is no object"),
        ({"shard": 3}, "has 3 shards and the message names 3"),
        ({"shard": -1}, "has 3 shards and the message names -1"),
    ],
)
def test_what_cannot_be_done_is_refused_and_kept_for_the_sender(desk, worker, begun, changes, told, caplog):
    caplog.set_level(logging.INFO)
    assert worker.handle(signed(replace(begun(), **changes), [KEY]))
    (reason,) = refused(worker)
    assert told in reason
    assert f"A message was refused: {reason}" in caplog.messages


def test_a_storage_that_denies_the_claim_is_told(desk, worker, begun, monkeypatch):
    from airflow_provider_hfreg.errors import StorageDeniedError
    from airflow_provider_hfreg.storage.local import LocalStore

    message = begun()

    def deny(*_):
        raise StorageDeniedError("no permission to write")

    monkeypatch.setattr(LocalStore, "put_if_absent", deny)
    worker.handle(signed(message, [KEY]))
    assert refused(worker) == ["no permission to write"]


def test_a_lost_device_ends_the_process_in_order(desk, worker, begun, monkeypatch):
    from airflow_provider_hfreg.inference.engine import Engine

    ended = threading.Event()
    monkeypatch.setattr(ShardWorker, "_end_process", lambda _: ended.set())

    def lose(*_, **__):
        raise DeviceLostError("The device failed")

    monkeypatch.setattr(Engine, "_run", lose)
    message = begun()
    worker.handle(signed(message, [KEY]))
    claim, _ = claim_of(desk, message)
    assert (claim.state, claim.error.kind) == (ClaimState.FAILED, "DeviceLostError")
    assert ended.is_set()


def test_code_that_this_workers_own_settings_do_not_allow_is_not_run_whatever_the_sender_says(
    desk, settings, coded, begun
):
    desk.version = coded
    message = replace(begun(trust_remote_code=True), trust_remote_code=True)
    release_residents()
    refusing, other = (ExecutorPool("cpu", trust_remote_code=trusted) for trusted in (False, ["sha256:" + "0" * 64]))
    for delivery, pool in enumerate((refusing, other), start=1):
        etag = claim_of(desk, message)[1] if delivery > 1 else None
        text = signed(replace(message, delivery=delivery, takes_over=etag), [KEY])
        assert ShardWorker(settings, pool, name="w").handle(text)
        claim, etag = claim_of(desk, message)
        assert (claim.state, claim.error.kind) == (ClaimState.FAILED, "PoolMismatchError")
        assert f'["{coded.manifest.code_digest}"]' in claim.error.message
    assert (parts(desk), resident_keys()) == ([], frozenset())

    trusting = ExecutorPool("cpu", trust_remote_code=[coded.manifest.code_digest])
    ShardWorker(settings, trusting, name="w").handle(signed(replace(message, delivery=3, takes_over=etag), [KEY]))
    assert claim_of(desk, message)[0].state is ClaimState.DONE


def test_a_plan_that_does_not_ask_for_a_versions_code_does_not_run_it(desk, settings, coded, begun):
    """As a sender without our checks might sign one: the worker's own leave is half of what is needed."""
    desk.version = coded
    message = begun()
    trusting = ExecutorPool("cpu", trust_remote_code=True)
    ShardWorker(settings, trusting, name="w").handle(signed(message, [KEY]))
    assert claim_of(desk, message)[0].error.kind == "UnsafeModelError"


def test_a_pools_threads_hold_for_its_shards_and_are_told(desk, settings, begun):
    import torch

    before = torch.get_num_threads()
    message = begun()
    pool = ExecutorPool("cpu", threads=before + 1)
    ShardWorker(settings, pool, name="w").handle(signed(message, [KEY]))
    marker = read_marker(desk.output, layout.part_key(0, message.batch_run_id))
    assert (marker.numerics.threads, torch.get_num_threads()) == (before + 1, before)


def test_the_model_is_loaded_on_the_pools_device(desk, settings, begun, caplog):
    """A pool of GPUs on a machine without one says so, and never computes on the CPU instead."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    gpu = parse_settings(
        {
            "broker_url": settings.broker_url,
            "message_keys": [KEY],
            "pools": {"gpu": {"device": "cuda"}},
            "storages": [{"url": storage.url} for storage in settings.storages],
        }
    )
    message = begun()
    ShardWorker(gpu, gpu.pool("gpu"), name="w").handle(signed(message, [KEY]))
    claim, _ = claim_of(desk, message)
    assert (claim.state, claim.error.kind) == (ClaimState.FAILED, "InvalidOptionError")
    assert "There is no device 'cuda' here" in claim.error.message
    assert open_store(desk.output.url).find_info(layout.part_key(0, message.batch_run_id)) is None
