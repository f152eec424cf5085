"""A deferred task comes to what a task that waits comes to; and what it makes of each event."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowTaskTimeout, TaskDeferred

from airflow_provider_hfreg.errors import (
    BrokerUnavailableError,
    NoWorkerError,
    RunCancelledError,
    ShardFailedError,
)
from airflow_provider_hfreg.operators.run_model import RunHFModelOperator
from airflow_provider_hfreg.runs import layout
from airflow_provider_hfreg.storage.urls import open_store
from airflow_provider_hfreg.triggers.batch_run import BatchRunTrigger

pytestmark = pytest.mark.timeout(600)


def deferred_by(act):
    """Return what a task deferred with, as another process makes it of what Airflow kept."""
    with pytest.raises(TaskDeferred) as raised:
        act()
    _, kwargs = raised.value.trigger.serialize()
    kept = json.loads(json.dumps({"trigger": kwargs, "next": raised.value.kwargs}))
    assert raised.value.method_name == "execute_complete"
    return BatchRunTrigger(**kept["trigger"]), kept["next"], raised.value.timeout


def followed(trigger):
    """Follow a run as a triggerer does, and return the event."""

    async def follow():
        try:
            return [event.payload async for event in trigger.run()]
        finally:
            await trigger.cleanup()

    (event,) = asyncio.run(asyncio.wait_for(follow(), 240))
    return event


@pytest.fixture
def rows_of():
    return lambda report: pq.read_table(report["output"].removeprefix("file://")).sort_by("id")


def test_a_deferred_task_comes_to_what_a_task_that_waits_comes_to(run_task, context, pool, tmp_path, rows_of):
    fields = {"executor_pool": "cpu", "rows_per_shard": 2, "max_row_errors": 1.0, "precision": "bf16"}
    waited = run_task(output_url=str(tmp_path / "waited"), **fields).execute(context("waited"))

    task = run_task(deferrable=True, **fields)
    trigger, left, timeout = deferred_by(lambda: task.execute(context()))
    event = followed(trigger)
    report = run_task(deferrable=True, **fields).execute_complete(context(), event, **left)

    assert event == {"status": "done"}
    assert timeout is None
    their_own = {"batch_run_id", "output", "report_url", "errors_url", "elapsed_s", "rows_per_s", "seed"}
    assert {name: report[name] for name in report.keys() - their_own} == {
        name: waited[name] for name in report.keys() - their_own
    }
    assert report == json.loads(json.dumps(report))
    assert report["rows_per_s"] > 0
    assert (report["precision"], len(report["threads"])) == ("bfloat16", 1)
    assert rows_of(report).equals(rows_of(waited))

    again = run_task(deferrable=True, **fields).execute(context())  # a retry after the end, cleared by somebody
    assert (again["status"], again["batch_run_id"]) == ("already_completed", report["batch_run_id"])


def test_a_run_whose_part_is_gone_is_deferred_anew(run_task, context, pool):
    fields = {"executor_pool": "cpu", "rows_per_shard": 2, "deferrable": True}
    trigger, left, _ = deferred_by(lambda: run_task(**fields).execute(context()))
    event = followed(trigger)
    output = open_store(left["deferral"]["output_url"])
    output.delete([layout.part_key(1, left["deferral"]["batch_run_id"])])

    task = run_task(**fields)
    second, left_again, _ = deferred_by(lambda: task.execute_complete(context(), event, **left))
    assert second.deferral.sender != trigger.deferral.sender
    event = followed(second)
    report = task.execute_complete(context(), event, **left_again)
    assert (report["rows_in"], report["rows_ok"], report["shards_resumed"]) == (6, 5, 0)


def test_a_retry_of_a_deferred_task_goes_on_with_its_run(run_task, context, pool):
    """The first try is killed when all is committed and nothing finished: the second needs no triggerer."""
    fields = {"executor_pool": "cpu", "rows_per_shard": 2, "deferrable": True}
    trigger, left, _ = deferred_by(lambda: run_task(**fields).execute(context()))
    followed(trigger)
    report = run_task(**fields).execute(context())
    assert (report["status"], report["batch_run_id"]) == ("completed", left["deferral"]["batch_run_id"])
    assert (report["shards_total"], report["shards_resumed"]) == (3, 3)


def test_a_task_without_a_pool_has_nothing_to_defer_for(run_task, context, monkeypatch):
    monkeypatch.setenv("AIRFLOW__HFREG__EXECUTOR_POOLS", '{"cpu": {}}')
    assert run_task(deferrable=True).execute(context())["rows_ok"] == 5
    routed = run_task(deferrable=True, executor_pool="cpu", run_in="task")
    assert routed.execute(context())["status"] == "already_completed"


def test_the_time_of_the_whole_try_goes_with_it(run_task, context, pool):
    task = run_task(executor_pool="cpu", deferrable=True, execution_timeout=timedelta(hours=1))
    trigger, left, timeout = deferred_by(lambda: task.execute(context()))
    deferral = trigger.deferral
    assert deferral.ends_at == pytest.approx(deferral.began_at + 3600)
    assert timedelta(minutes=50) < timeout <= timedelta(minutes=61)
    with pytest.raises(AirflowTaskTimeout, match=r"longer than the task's execution_timeout.* shards are stopped"):
        task.execute_complete(context(), {"status": "timed_out"}, **left)


def test_a_task_that_is_killed_before_it_defers_sends_nothing(run_task, context, pool):
    task = run_task(executor_pool="cpu", deferrable=True)
    task.on_kill()
    with pytest.raises(RunCancelledError):
        task.execute(context())


@pytest.fixture
def completed_with(run_task, context):
    """What a task makes of an event; called with it."""
    left = {
        "executor_pool": "cpu",
        "conn_id": "hfreg_default",
        "output_url": "file:///nowhere",
        "batch_run_id": "6d0629b7eb-0123456789",
        "sender": "s",
        "options": {"on_row_error": "quarantine", "max_row_errors": None, "token_budget": None},
        "began_at": 0.0,
        "ends_at": None,
        "resumed_shards": 0,
        "resumed_rows": 0,
    }
    return lambda event: run_task(deferrable=True).execute_complete(context(), event, deferral=left)


def test_an_error_that_may_pass_leaves_the_task_as_itself(completed_with):
    with pytest.raises(NoWorkerError, match="Nobody is there"):
        completed_with({"status": "failed", "kind": "NoWorkerError", "message": "Nobody is there."})


def test_an_error_that_stays_wastes_no_retry(completed_with):
    with pytest.raises(AirflowFailException, match="It does not fit"):
        completed_with({"status": "failed", "kind": "ModelTooLargeError", "message": "It does not fit."})


def test_an_error_of_another_version_of_the_package_is_told_by_its_name(completed_with):
    with pytest.raises(ShardFailedError, match="with TomorrowsError, which this version of the package does not know"):
        completed_with({"status": "failed", "kind": "TomorrowsError", "message": "Not yet."})


@pytest.mark.parametrize("event", [{"status": "done"}, {"status": "of tomorrow"}, None])
def test_any_other_event_makes_it_look_at_storage(completed_with, event):
    with pytest.raises(AirflowFailException, match=r"file:///nowhere/_hfreg/6d0629b7eb-0123456789/run\.json"):
        completed_with(event)


def test_without_a_worker_or_a_broker_it_fails_before_it_defers(run_task, context, pool, monkeypatch):
    with pytest.raises(NoWorkerError, match="No worker of the executor pool 'nobody' answers"):
        run_task(executor_pool="nobody", deferrable=True).execute(context())
    monkeypatch.setenv("AIRFLOW__HFREG__BROKER_URL", "redis://127.0.0.1:9/1")
    with pytest.raises(BrokerUnavailableError, match="'cpu' does not answer"):
        run_task(executor_pool="cpu", deferrable=True).execute(context())


def test_mapped_over_models_in_one_folder_each_instance_is_a_run_of_its_own(table, logged, context, pool, tmp_path):
    fields = {"task_id": "task", "input_url": str(table), "output_url": str(tmp_path / "all"), "rows_per_shard": 3}
    fields |= {"columns": {"text": "body"}, "executor_pool": "cpu", "deferrable": True, "if_output_exists": "append"}
    mapped = RunHFModelOperator.partial(**fields).expand(model=["tiny/v1", "tiny/v2"])

    tasks = [mapped.unmap({"model": model}) for model in ("tiny/v1", "tiny/v2")]
    left = [deferred_by(lambda t=task, i=i: t.execute(context(map_index=i))) for i, task in enumerate(tasks)]
    events = [followed(trigger) for trigger, _, _ in left]
    reports = [
        task.execute_complete(context(map_index=i), event, **kwargs)
        for i, (task, event, (_, kwargs, _)) in enumerate(zip(tasks, events, left, strict=True))
    ]
    assert [report["version_name"] for report in reports] == ["v1", "v2"]
    assert len({report["batch_run_id"] for report in reports}) == 2
    assert pq.read_table(tmp_path / "all").num_rows == 10


def test_mapped_over_partitions_each_instance_scores_its_own_rows(table, logged, context, pool, tmp_path):
    rows = pq.read_table(table)
    urls = [str(tmp_path / "lake" / f"country={country}") for country in ("de", "fr")]
    for number, url in enumerate(urls):
        Path(url).mkdir(parents=True)
        pq.write_table(rows.slice(3 * number, 3), f"{url}/a.parquet")
    fields = {"task_id": "task", "model": "tiny/v1", "output_url": str(tmp_path / "all"), "rows_per_shard": 2}
    fields |= {"columns": {"text": "body"}, "executor_pool": "cpu", "deferrable": True, "if_output_exists": "append"}
    mapped = RunHFModelOperator.partial(**fields).expand(input_url=urls)

    reports = []
    for number, url in enumerate(urls):
        task = mapped.unmap({"input_url": url})
        trigger, left, _ = deferred_by(lambda: task.execute(context(map_index=number)))  # noqa: B023 - called at once
        reports.append(task.execute_complete(context(map_index=number), followed(trigger), **left))
    assert [(report["rows_in"], report["rows_ok"]) for report in reports] == [(3, 2), (3, 3)]  # one has no text
    scored = pq.read_table(tmp_path / "all").sort_by("id")
    assert scored["id"].to_pylist() == [0, 1, 3, 4, 5]


def test_a_querys_rows_are_staged_before_it_defers_and_scored_by_a_worker(run_task, context, pool, lite, rows_of):
    query = {"sql": "select id, body from texts order by id", "sql_conn_id": "lite", "input_url": None}
    task = run_task(executor_pool="cpu", deferrable=True, rows_per_shard=2, **query)
    trigger, left, _ = deferred_by(lambda: task.execute(context()))
    lite.execute("delete from texts")
    report = task.execute_complete(context(), followed(trigger), **left)
    assert (report["rows_ok"], report["shards_total"]) == (5, 3)
    assert rows_of(report)["body"].to_pylist() == [f"film {number}" for number in range(5)]
