"""A run spread over real workers gives what a run in one process gives, whatever dies meanwhile."""

from __future__ import annotations

import contextlib
import json
import logging
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pyarrow as pa
import pytest

from airflow_provider_hfreg.errors import (
    BrokerUnavailableError,
    InputChangedError,
    MessageRefusedError,
    ModelNotFoundError,
    NoWorkerError,
    PoolMismatchError,
    RunCancelledError,
    TooManyRowErrorsError,
    UnsafeModelError,
)
from airflow_provider_hfreg.runs import layout
from airflow_provider_hfreg.runs.row_sources import ArrowRows
from airflow_provider_hfreg.testing.workers import WorkerProcess
from airflow_provider_hfreg.workers import client
from airflow_provider_hfreg.workers.app import TASK, Broker, make_app
from airflow_provider_hfreg.workers.claims import ClaimState, read_claim
from airflow_provider_hfreg.workers.client import OnPool
from airflow_provider_hfreg.workers.pools import ExecutorPool
from airflow_provider_hfreg.workers.roll_call import ROLL_CALLS_S
from airflow_provider_hfreg.workers.settings import parse_settings

pytestmark = pytest.mark.timeout(600)

SLOW = {"columns": {"inputs": "text"}, "params": {"max_new_tokens": 24}, "rows_per_shard": 40}
"""Options of a run of the sampler whose shards take some tenths of a second each."""


def claims(desk):
    """The claims that lie in the output, by shard."""
    store = desk.output
    found = {}
    for info in store.list_infos(layout.RUNS_FOLDER):
        if "/claims/" in info.key and info.key.endswith(".json"):
            with contextlib.suppress(Exception):
                found[int(info.key[-10:-5])] = read_claim(store, info.key)[0]
    return found


@contextlib.contextmanager
def in_a_thread(act):
    """Run ``act`` beside; its result and error are in ``.result`` and ``.error`` after the block."""

    class Beside(threading.Thread):
        result = error = None

        def run(self):
            try:
                self.result = act()
            except Exception as error:  # noqa: BLE001  told by the test
                self.error = error

    thread = Beside(daemon=True)
    thread.start()
    yield thread
    thread.join(240)
    assert not thread.is_alive()


def wait_for(condition, timeout_s=240.0):  # a worker that loads torch on a busy machine takes its time
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def assert_alike(rows, others):
    """Two processes may run a network's linear layers in two ways, each as it found faster: the last bits differ."""
    assert [row | {"score": None} for row in rows] == [row | {"score": None} for row in others]
    assert [row["score"] for row in rows] == pytest.approx([row["score"] for row in others], abs=1e-5)


@pytest.mark.parametrize("where", ["desk", "s3_desk"])
def test_a_run_on_a_pool_gives_the_rows_of_a_run_here(where, request, texts, caplog):
    caplog.set_level(logging.INFO)
    desk = request.getfixturevalue(where)
    desk.put_texts([*texts(45), None, "", "größtenteils köstlich"])

    report = desk.run()

    assert_alike(desk.rows(), desk.run_here())
    assert (report.rows_in, report.rows_ok, report.rows_quarantined, report.shards_total) == (48, 47, 1, 5)
    assert claims(desk) == {}
    told = [message for message in caplog.messages if message.startswith("[cpu-0-")]
    assert sum(" rows ok, " in message for message in told) == 5
    assert "5 of 5 shards, 48 of 48 rows (100 %)" in "\n".join(caplog.messages)


def test_a_model_is_loaded_once_for_all_runs(desk, worker, texts):
    desk.put_texts(texts(30))
    desk.run()
    loads = worker.log_text().count("Loaded tiny/v1")
    desk.run(output="again")
    assert worker.log_text().count("Loaded tiny/v1") == loads == 1
    with contextlib.closing(Broker(worker.settings, worker.settings.pool("cpu"))) as broker:
        (status,) = broker.statuses(timeout_s=2)
    assert status["models"] == [desk.version.content_digest]


def test_two_precisions_of_a_version_are_two_residents_of_a_worker_that_do_not_mix(desk, own_worker, texts):
    desk.settings = own_worker.settings
    (desk.pool_name,) = own_worker.settings.pools
    worker = own_worker()
    desk.put_texts(texts(60))
    with in_a_thread(lambda: desk.run(precision="bf16", output="short", identity="short")) as short:
        own = desk.run()  # their shards take turns on the one device
    assert short.error is None
    again = desk.run(precision="bfloat16", output="again", identity="again")

    whole, half = desk.run_here(), desk.run_here(precision="bf16", identity="half", if_output_exists="replace")
    assert_alike(desk.rows(), whole)
    assert_alike(desk.rows("short"), half)
    assert desk.rows("again") == desk.rows("short")
    assert max(abs(one["score"] - other["score"]) for one, other in zip(whole, half, strict=True)) > 1e-4
    assert (own.precision, short.result.precision, again.precision) == ("float32", "bfloat16", "bfloat16")
    log = worker.log_text()
    assert (log.count("Loaded tiny/v1 in bfloat16 in "), log.count("Loaded tiny/v1 in ")) == (1, 2)


def test_a_run_is_not_gone_on_with_in_another_precision_on_a_pool(desk, texts):
    desk.put_texts([*texts(25), None])
    with pytest.raises(TooManyRowErrorsError):
        desk.run(precision="bf16", on_row_error="fail")
    with pytest.raises(InputChangedError, match="the request changed since it began"):
        desk.run()
    assert desk.run(precision="bf16").precision == "bfloat16"


def test_a_pools_threads_are_told_and_a_runs_are_refused_before_anything_is_written(
    desk, plain_settings, texts, tmp_path
):
    desk.put_texts(texts(25))
    with pytest.raises(PoolMismatchError, match=r"threads is 2, and .*executor pool 'cpu'"):
        desk.run(threads=2)
    assert list(desk.output.list_infos()) == []
    plain = plain_settings(pools={"threaded": {"threads": 2}})
    with WorkerProcess(plain, tmp_path / "worker") as worker:
        desk.settings, desk.pool_name = worker.settings, "threaded"
        assert desk.run().threads == (2,)


def test_code_of_a_version_runs_where_run_and_pool_consent(desk, coded, plain_settings, texts, tmp_path):
    desk.version = coded
    desk.put_texts(texts(25))
    plain = plain_settings(pools={"trusting": {"trust_remote_code": [coded.manifest.code_digest]}})
    with WorkerProcess(plain, tmp_path / "worker") as worker:
        desk.settings, desk.pool_name = worker.settings, "trusting"
        with pytest.raises(UnsafeModelError, match=r"coded/v1 runs Python files .*trust_remote_code=True in the run"):
            desk.run()
        assert list(desk.output.list_infos()) == []
        assert desk.run(trust_remote_code=True).rows_ok == 25
    assert_alike(desk.rows(), desk.run_here(trust_remote_code=True))


def test_code_that_the_pool_does_not_trust_is_refused_before_anything_is_sent_or_written(desk, coded, texts):
    desk.version, table = coded, Table()
    desk.put_texts(texts(5))
    pool, nobody = desk.settings.pool("cpu"), parse_settings({**_BROKERLESS})
    for more in ({}, {"input": "", "source": table.source}):
        with pytest.raises(
            PoolMismatchError, match=r"executor pool 'cpu' run none but .*trust_remote_code of the pool"
        ):
            desk.run(execution=OnPool(nobody, pool), trust_remote_code=True, **more)
    assert (table.is_asked, list(desk.output.list_infos())) == (False, [])


def test_a_workers_own_settings_decide_whose_code_it_runs(desk, coded, worker, texts):
    """The sender's allow it, the worker's do not: the run ends by that, and says which worker."""
    desk.version = coded
    desk.put_texts(texts(5))
    trusting = replace(worker.settings.pool("cpu"), trust_remote_code=True)
    with pytest.raises(PoolMismatchError, match=r"Shard 0 on cpu-.*coded/v1 runs Python files of its own"):
        desk.run(execution=OnPool(worker.settings, trusting), trust_remote_code=True)


def test_the_same_run_again_is_returned_without_a_worker(desk, texts, plain_settings):
    desk.put_texts(texts(5))
    desk.run()
    nobody = parse_settings(plain_settings(pools={"nobody": {}}))
    assert desk.run(execution=OnPool(nobody, nobody.pool("nobody"))).status == "already_completed"


def test_a_worker_that_is_killed_costs_no_row(slow_desk, own_worker, texts):
    slow_desk.put_texts(texts(400))
    first = own_worker(1)
    with in_a_thread(lambda: slow_desk.run(**SLOW)) as run:
        wait_for(lambda: any(claim.state is ClaimState.RUNNING for claim in claims(slow_desk).values()))
        first.kill()
        own_worker(2)
    assert run.error is None
    assert (run.result.rows_in, run.result.rows_ok) == (400, 400)
    assert slow_desk.rows() == slow_desk.run_here(**SLOW)


def test_a_worker_that_is_stopped_hands_its_shard_back(slow_desk, own_worker, texts):
    slow_desk.put_texts(texts(400))
    first, _ = own_worker(1), own_worker(2)
    with in_a_thread(lambda: slow_desk.run(**SLOW)) as run:
        wait_for(lambda: any(_is_done_by(first, claim) for claim in claims(slow_desk).values()))
        first.stop()
    assert run.error is None
    assert run.result.rows_ok == 400
    assert slow_desk.rows() == slow_desk.run_here(**SLOW)


def _is_done_by(worker, claim):
    return claim.state is ClaimState.DONE and f"-{worker.pid}@" in claim.worker


def test_a_broker_that_restarts_empty_costs_no_row(slow_desk, own_worker, redis, texts):
    slow_desk.put_texts(texts(400))
    own_worker(1)
    with in_a_thread(lambda: slow_desk.run(**SLOW)) as run:
        wait_for(lambda: len(list(slow_desk.output.list_infos("part-"))) >= 1)
        redis.restart()
    assert run.error is None
    assert run.result.rows_ok == 400
    assert slow_desk.rows() == slow_desk.run_here(**SLOW)


def test_a_cancelled_run_stops_its_workers_and_the_next_try_goes_on(slow_desk, own_worker, texts):
    slow_desk.put_texts(texts(6000))
    process = own_worker(1)
    is_cancelled = threading.Event()
    options = SLOW | {"rows_per_shard": 2000}
    with in_a_thread(lambda: slow_desk.run(cancelled=is_cancelled.is_set, **options)) as run:
        wait_for(lambda: len(list(slow_desk.output.list_infos("part-"))) >= 1)
        wait_for(lambda: any(claim.state is ClaimState.RUNNING for claim in claims(slow_desk).values()))
        is_cancelled.set()
        wait_for(lambda: not run.is_alive())
        wait_for(lambda: all(claim.state is not ClaimState.RUNNING for claim in claims(slow_desk).values()))
    assert isinstance(run.error, RunCancelledError)
    before = len(list(slow_desk.output.list_infos("part-")))
    assert before < 3
    assert "was stopped and is handed back" in process.log_text()
    report = slow_desk.run(**options)
    assert report.shards_resumed == before
    assert slow_desk.rows() == slow_desk.run_here(**options)


def test_a_pool_without_workers_is_told_in_seconds_and_nothing_is_written(desk, plain_settings, texts):
    desk.put_texts(texts(5))
    desk.settings, desk.pool_name = parse_settings(plain_settings(pools={"nobody": {}})), "nobody"
    with pytest.raises(NoWorkerError, match=r"No worker of the executor pool 'nobody' answers.*--pool nobody"):
        desk.run()
    assert sum(ROLL_CALLS_S) < 10  # all that is waited for
    assert list(desk.output.list_infos()) == []


def test_a_broker_that_is_not_there_is_told_and_nothing_is_written(desk, plain_settings, texts):
    desk.put_texts(texts(5))
    desk.settings = parse_settings(plain_settings() | {"broker_url": "redis://127.0.0.1:9/1"})
    with pytest.raises(BrokerUnavailableError, match=r"executor pool 'cpu' does not answer .*broker_url"):
        desk.run()
    assert list(desk.output.list_infos()) == []


def test_a_version_that_never_runs_on_a_gpu_is_refused_before_anybody_is_asked(desk, tmp_path, texts):
    from airflow_provider_hfreg.registry import Registry
    from airflow_provider_hfreg.testing.models import text_classifier

    registry = Registry((tmp_path / "registry").as_uri(), cache_folder=tmp_path / "cache")
    model = text_classifier(tmp_path / "model")
    options = {"cuda_version": None}
    desk.version = registry.log_folder(model, model_name="t", task="text-classification", options=options)
    desk.put_texts(texts(5))
    pool = ExecutorPool("gpu", device="cuda")
    with pytest.raises(PoolMismatchError, match="never runs on a GPU"):
        desk.run(execution=OnPool(parse_settings({**_BROKERLESS}), pool))
    assert list(desk.output.list_infos()) == []


class Table:
    """A table that remembers whether it was asked."""

    def __init__(self):
        self.is_asked = False

    def read(self):
        self.is_asked = True
        yield pa.record_batch({"id": range(25), "text": [f"film {number}" for number in range(25)]})

    @property
    def source(self):
        return ArrowRows("the table", "0123456789abcdef", self.read)


def test_rows_are_not_staged_for_a_version_that_cannot_run_on_the_pool(desk, tmp_path):
    from airflow_provider_hfreg.registry import Registry
    from airflow_provider_hfreg.testing.models import text_classifier

    registry = Registry((tmp_path / "registry").as_uri(), cache_folder=tmp_path / "cache")
    model = text_classifier(tmp_path / "model")
    options = {"cuda_version": None}
    desk.version = registry.log_folder(model, model_name="t", task="text-classification", options=options)
    execution, table = OnPool(parse_settings({**_BROKERLESS}), ExecutorPool("gpu", device="cuda")), Table()
    with pytest.raises(PoolMismatchError, match="never runs on a GPU"):
        desk.run(execution=execution, input="", source=table.source)
    assert (table.is_asked, list(desk.output.list_infos())) == (False, [])


class Counted(OnPool):
    """Counts how often it asks for workers."""

    calls = 0

    def _call(self):
        self.calls += 1
        super()._call()


def test_a_worker_that_answered_before_the_rows_were_staged_is_not_asked_again_at_once(desk, monkeypatch):
    execution = Counted(desk.settings, desk.settings.pool("cpu"))
    assert desk.run(execution=execution, input="", source=Table().source).rows_ok == 25
    assert execution.calls == 1
    monkeypatch.setattr(client, "_ANSWER_HOLDS_S", -1.0)  # as where staging takes long
    desk.run(execution=execution, input="", source=Table().source, output="again")
    assert execution.calls == 3


def test_rows_are_not_staged_where_no_worker_answers(desk, plain_settings):
    nobody, table = parse_settings(plain_settings(pools={"nobody": {}})), Table()
    with pytest.raises(NoWorkerError, match="No worker of the executor pool 'nobody'"):
        desk.run(execution=OnPool(nobody, nobody.pool("nobody")), input="", source=table.source)
    assert (table.is_asked, list(desk.output.list_infos())) == (False, [])
    assert desk.run(input="", source=table.source).rows_ok == 25  # and a pool with a worker stages and runs them
    again = desk.run(execution=OnPool(nobody, nobody.pool("nobody")), input="", source=table.source)
    assert again.status == "already_completed"


_BROKERLESS = {"broker_url": "redis://127.0.0.1:9/1", "message_keys": ["a key that is long enough"]}


def test_a_run_outside_of_the_workers_storages_is_refused_and_the_sender_is_told(
    slow_desk, own_worker, texts, tmp_path
):
    slow_desk.put_texts(texts(5))
    (pool,) = slow_desk.settings.pools
    elsewhere = WorkerProcess(
        {
            "broker_url": slow_desk.settings.broker_url,
            "message_keys": list(slow_desk.settings.message_keys),
            "pools": {pool: {}},
            "storages": [{"url": (tmp_path / "elsewhere").as_uri()}],
        },
        tmp_path / "elsewhere",
    )
    with elsewhere, pytest.raises(MessageRefusedError, match=r"refused a shard: .* is in none of the storages"):
        slow_desk.run(**SLOW)
    assert "A message was refused" in elsewhere.log_text()


@pytest.mark.parametrize("arguments", [["no signature"], [{"shard": 1}], [""]])
def test_an_unsigned_message_is_refused_and_logged(worker, arguments):
    refused = worker.log_text().count("A message was refused: The message is not signed")
    app = make_app(worker.settings)
    app.send_task(TASK, args=arguments, queue="hfreg.cpu")
    wait_for(lambda: worker.log_text().count("A message was refused: The message is not signed") > refused)
    app.close()


def test_a_workers_own_error_ends_the_run_by_its_class(slow_desk, own_worker, texts, tmp_path):
    """The version is gone before its first shard: the worker sees it, the sender tells it."""
    from airflow_provider_hfreg.registry import Registry
    from airflow_provider_hfreg.storage.urls import open_store
    from airflow_provider_hfreg.testing.models import text_classifier

    registry = Registry((tmp_path / "registry").as_uri(), cache_folder=tmp_path / "cache")
    model = text_classifier(tmp_path / "model")
    slow_desk.version = registry.log_folder(model, model_name="t", version_name="v1", task="text-classification")
    slow_desk.put_texts(texts(5))
    own_worker(1)
    store = open_store(registry.url)
    store.delete([info.key for info in store.list_infos("models/") if "v1" in info.key])
    with pytest.raises(ModelNotFoundError, match=r"Shard 0 on own-.*There is no model 't'"):
        slow_desk.run()


def test_a_row_that_may_not_fail_ends_the_run_with_that_row(desk, texts):
    desk.put_texts([*texts(12), None])
    with pytest.raises(TooManyRowErrorsError, match=r"Row 12 of .*a\.parquet, column 'text'"):
        desk.run(on_row_error="fail")


def test_more_bad_rows_than_may_be_are_counted_over_all_shards(desk, texts):
    desk.put_texts([*texts(8), None, None, *texts(8), None, None])
    with pytest.raises(TooManyRowErrorsError, match="4 of 20 rows cannot be run, and max_row_errors=3 allows 3"):
        desk.run(max_row_errors=3)
    assert desk.run(max_row_errors=4).rows_quarantined == 4


def test_two_workers_share_a_run(slow_desk, own_worker, texts, caplog):
    caplog.set_level(logging.INFO)
    slow_desk.put_texts(texts(480))
    own_worker(1), own_worker(2)
    slow_desk.run(**SLOW)
    names = {message[1 : message.index("]")] for message in caplog.messages if message.startswith("[own-")}
    assert len(names) == 2
    assert slow_desk.rows() == slow_desk.run_here(**SLOW)


SEND = """
import json, sys
from airflow_provider_hfreg.registry import Registry
from airflow_provider_hfreg.runs.batch import run_batch
from airflow_provider_hfreg.runs.spec import BatchRequest
from airflow_provider_hfreg.workers.client import OnPool
from airflow_provider_hfreg.workers.settings import parse_settings

registry, plain, url = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
version, settings = Registry(registry).resolve("tiny/v1"), parse_settings(plain)
report = run_batch(
    BatchRequest(f"{url}/in", f"{url}/out", rows_per_shard=10),
    version=version,
    identity="me",
    registry_url=registry,
    execution=OnPool(settings, settings.pool("cpu")),
)
heavy = [name for name in ("boto3", "pandas", "torch", "transformers") if name in sys.modules]
print(json.dumps([report.rows_ok, heavy]))
"""


def test_a_process_that_sends_loads_no_model_library(desk, worker, texts):
    """It plans and follows: what costs a task seconds is there already, on the worker."""
    desk.put_texts(texts(40))
    arguments = [desk.version.registry_url, json.dumps(worker.plain), desk.url]
    ended = subprocess.run([sys.executable, "-c", SEND, *arguments], capture_output=True, text=True, check=True)
    assert json.loads(ended.stdout.splitlines()[-1]) == [40, []]
