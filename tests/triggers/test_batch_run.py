"""A deferred run is followed to its end whatever becomes of triggerers, and stopped when its task is killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import timedelta

import pytest
from airflow.models.trigger import Trigger

from airflow_provider_hfreg.errors import RunCancelledError
from airflow_provider_hfreg.runs import layout
from airflow_provider_hfreg.runs.batch import begin_run
from airflow_provider_hfreg.runs.begun import BegunRun
from airflow_provider_hfreg.runs.execution import InProcess
from airflow_provider_hfreg.testing.workers import WorkerProcess
from airflow_provider_hfreg.triggers.batch_run import _STEP_THREADS, BatchRunTrigger, _steps
from airflow_provider_hfreg.triggers.watch import Watch
from airflow_provider_hfreg.workers.claims import ClaimState

pytestmark = [pytest.mark.usefixtures("worker"), pytest.mark.timeout(600)]

TEXTS = [f"the film number {number} was good" for number in range(18)]
TIMEOUT_S = 240


def passed_on(trigger):
    """Return a trigger as another process makes it of what this one kept."""
    classpath, kwargs = trigger.serialize()
    assert classpath == "airflow_provider_hfreg.triggers.batch_run.BatchRunTrigger"
    return BatchRunTrigger(**Trigger._decrypt_kwargs(Trigger.encrypt_kwargs(kwargs)))


def trigger_of(left):
    return passed_on(BatchRunTrigger(left.deferral.to_json()))


async def events_of(trigger):
    """Run a trigger to its end as the triggerer does, and return what it yielded."""
    try:
        return [event.payload async for event in trigger.run()]
    finally:
        await trigger.cleanup()


def outcome(trigger):
    (event,) = asyncio.run(asyncio.wait_for(events_of(trigger), TIMEOUT_S))
    return event


async def until(condition):
    """Wait without holding the event loop up."""
    async with asyncio.timeout(TIMEOUT_S):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - it is storage that is asked
            await asyncio.sleep(0.05)


def is_running(left):
    return lambda: any(claim.state is ClaimState.RUNNING for claim in left.claims().values())


async def shut_down(following):
    """End a trigger's task as a triggerer that is shut down does."""
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following


async def kill(trigger, following):
    """End a trigger as the triggerer does whose task was cleared or marked."""
    following.cancel()
    await trigger.on_kill()
    with contextlib.suppress(asyncio.CancelledError):
        await following


@pytest.mark.parametrize("where", ["file_url", "s3_url"])
def test_a_run_is_followed_to_its_end_in_threads_alone(where, request, leave_run, caplog):
    caplog.set_level(logging.INFO)
    left = leave_run(TEXTS, url=request.getfixturevalue(where))
    assert outcome(trigger_of(left)) == {"status": "done"}
    assert left.parts() == [0, 1, 2, 3]
    assert left.names == []
    told = [record for record in caplog.records if record.getMessage().startswith("[cpu-0-")]
    assert sum(" rows ok, " in record.getMessage() for record in told) == 4
    assert all(record.threadName.startswith("hfreg-follow") for record in told)


def test_a_run_that_misses_nothing_any_more_is_done_without_a_worker(leave_run):
    left = leave_run(TEXTS)
    assert outcome(trigger_of(left)) == {"status": "done"}
    assert outcome(trigger_of(left)) == {"status": "done"}


def test_what_is_kept_of_it_is_plain_and_no_secret(leave_run, plain_settings, seaweedfs, s3_url):
    left = leave_run(TEXTS, url=s3_url, max_row_errors=1.0, token_budget=512)
    kept = json.dumps(trigger_of(left).serialize())
    for secret in (plain_settings["broker_url"], plain_settings["message_keys"][0], seaweedfs.secret_key):
        assert secret not in kept
    again = trigger_of(left).deferral
    assert again == left.deferral
    assert isinstance(again.options["max_row_errors"], float)  # 1.0 is all of them, and 1 is one
    asyncio.run(_none_left_running(left))


async def _none_left_running(left):
    trigger = trigger_of(left)
    await trigger.on_kill()
    await trigger.cleanup()


def test_a_triggerer_that_ends_leaves_the_shards_and_another_one_goes_on(leave_slow_run, worker):
    async def restart():
        first = trigger_of(left)
        following = asyncio.create_task(events_of(first))
        await until(is_running(left))
        await shut_down(following)
        assert not any("stopped" in name for name in left.names)
        assert is_running(left)()
        return await events_of(passed_on(first))

    handed_back = worker.log_text().count("is handed back")
    begun = worker.log_text().count("Shard 0: rows 0 to 2000")
    left = leave_slow_run()
    assert asyncio.run(asyncio.wait_for(restart(), TIMEOUT_S)) == [{"status": "done"}]
    assert left.parts() == [0, 1, 2]
    assert worker.log_text().count("is handed back") == handed_back
    assert worker.log_text().count("Shard 0: rows 0 to 2000") == begun + 1


def test_a_part_that_vanishes_while_nobody_follows_is_computed_anew(leave_slow_run, caplog):
    """Its claim says that it is done, and stays: the worker takes it over instead of dropping message after message."""

    async def lose_a_part():
        first = trigger_of(left)
        following = asyncio.create_task(events_of(first))
        await until(lambda: told() == 1)
        await shut_down(following)
        left.output.delete([info.key for info in left.output.list_infos("part-") if layout.find_part(info.key)[0] == 0])
        return await events_of(passed_on(first))

    def told():
        return sum("Shard 0: 2000 rows ok" in message for message in caplog.messages)

    caplog.set_level(logging.INFO)
    left = leave_slow_run()
    assert asyncio.run(asyncio.wait_for(lose_a_part(), TIMEOUT_S)) == [{"status": "done"}]
    assert left.parts() == [0, 1, 2]
    assert [row["id"] for row in left.rows()] == list(range(6000))
    assert sum("Shard 0 was done and its part is gone" in message for message in caplog.messages) == 1
    assert told() == 2  # of each time once: what the first triggerer told is not told again


def test_two_triggerers_that_follow_one_run_come_to_the_same_end(leave_run):
    async def both():
        return await asyncio.gather(events_of(trigger_of(left)), events_of(trigger_of(left)))

    left = leave_run(TEXTS)
    assert asyncio.run(asyncio.wait_for(both(), TIMEOUT_S)) == [[{"status": "done"}]] * 2
    assert [row["id"] for row in left.rows()] == list(range(18))


def test_what_another_triggerer_did_and_cleared_up_is_found(leave_run):
    """Its claims came and went between two looks, and what is sent of it is dropped as late."""
    left = leave_run([f"the film number {number} was good" for number in range(60)])
    watch = Watch(left.deferral)
    watch.step()
    assert outcome(trigger_of(left)) == {"status": "done"}
    assert left.names == []
    begun_s = time.monotonic()
    while (pause_s := watch.step()) is not None:
        assert time.monotonic() - begun_s < TIMEOUT_S
        time.sleep(pause_s)
    # Not two shards after two, each pair found when it is to be sent again.
    assert len(watch._followed[0]._sent) == 2
    watch.leave()


def test_a_task_that_is_killed_stops_its_shards_and_can_be_gone_on_with(leave_slow_run, worker):
    async def kill_in_the_middle():
        trigger = trigger_of(left)
        following = asyncio.create_task(events_of(trigger))
        await until(is_running(left))
        await kill(trigger, following)
        await until(lambda: not is_running(left)())

    left = leave_slow_run()
    asyncio.run(asyncio.wait_for(kill_in_the_middle(), TIMEOUT_S))
    assert "was stopped and is handed back" in worker.log_text()
    assert len(left.parts()) < 3
    begun = begin_run(left.ask, InProcess())
    assert isinstance(begun, BegunRun)
    assert len(begun.missing) == 3 - len(left.parts())


def test_a_task_that_is_killed_right_after_a_triggerer_took_it_over_stops_its_shards(leave_slow_run):
    """The other triggerer had no time for a step: what it has is what was kept."""

    async def take_over_and_kill():
        first = trigger_of(left)
        following = asyncio.create_task(events_of(first))
        await until(is_running(left))
        await shut_down(following)
        second = passed_on(first)
        await second.on_kill()
        await second.cleanup()
        await until(lambda: not is_running(left)())

    left = leave_slow_run()
    asyncio.run(asyncio.wait_for(take_over_and_kill(), TIMEOUT_S))
    assert layout.stopped_key(left.deferral.sender, left.deferral.batch_run_id) in left.names


def test_a_triggerer_that_lost_its_task_to_another_one_cannot_stop_that_one(leave_slow_run):
    """Airflow tells a triggerer whose heartbeat was late the same as one whose task was killed."""

    async def stop_beside():
        first, second = trigger_of(left), trigger_of(left)
        following = [asyncio.create_task(events_of(trigger)) for trigger in (first, second)]
        await until(is_running(left))
        await kill(first, following[0])
        return await following[1]

    left = leave_slow_run()
    assert asyncio.run(asyncio.wait_for(stop_beside(), TIMEOUT_S)) == [{"status": "done"}]
    assert left.parts() == [0, 1, 2]


BAD_SHARDS = 12
BAD_TEXTS = [
    None if shard < 2 and row < 2 else f"film {shard} {row}" for shard in range(BAD_SHARDS) for row in range(1000)
]
"""Of slow shards of 1000 rows the first two have two bad rows each: alone each is within what the tests allow."""


@pytest.fixture
def leave_bad_run(leave_run, versions):
    """Begin a run that may have three bad rows and has four, long before its end."""
    return lambda: leave_run(
        BAD_TEXTS, version=versions.sampler, columns={"inputs": "text"}, rows_per_shard=1000, max_row_errors=3
    )


def check_stopped_for_bad_rows(left, event):
    """Check how the run ended, and that its shards were stopped by that and not by their own end."""
    assert (event["status"], event["kind"]) == ("failed", "TooManyRowErrorsError")
    assert "4 of 12000 rows cannot be run, and max_row_errors=3 allows 3" in event["message"]
    assert layout.stopped_key(left.deferral.sender, left.deferral.batch_run_id) in left.names
    asyncio.run(until(lambda: not is_running(left)()))
    assert set(left.parts()) < set(range(BAD_SHARDS))


def test_more_bad_rows_than_may_be_stop_the_run_by_the_errors_own_class(leave_bad_run):
    left = leave_bad_run()
    check_stopped_for_bad_rows(left, outcome(trigger_of(left)))


def test_more_bad_rows_than_may_be_that_are_committed_already_stop_the_run(leave_bad_run):
    """The triggerer before was gone before it saw them, or allowed more: the shards under way are stopped too."""

    async def commit_them():
        following = asyncio.create_task(events_of(trigger_of(lenient)))
        await until(lambda: {0, 1} <= set(left.parts()) and is_running(left)())
        await shut_down(following)

    left = leave_bad_run()
    options = {**left.deferral.options, "max_row_errors": 100}
    lenient = replace(left, deferral=replace(left.deferral, options=options))
    asyncio.run(asyncio.wait_for(commit_them(), TIMEOUT_S))
    assert not any("stopped" in name for name in left.names)
    check_stopped_for_bad_rows(left, outcome(trigger_of(left)))


def test_a_claim_that_nobody_can_read_is_taken_over(leave_run, caplog):
    left = leave_run(TEXTS)
    key = layout.claim_key(1, left.deferral.batch_run_id)
    left.output.put(key, b'{"worker": "of another version"}')
    assert outcome(trigger_of(left)) == {"status": "done"}
    assert left.parts() == [0, 1, 2, 3]
    (told,) = [message for message in caplog.messages if "is no claim that this version" in message]
    assert key in told
    assert "Once it has not changed for 6 s, it is taken over" in told


def test_a_task_that_is_killed_waits_for_no_other_runs_step(leave_run):
    left, held = leave_run(TEXTS), threading.Event()
    steps = [_steps().submit(held.wait, TIMEOUT_S) for _ in range(2 * _STEP_THREADS)]
    try:
        asyncio.run(asyncio.wait_for(_none_left_running(left), TIMEOUT_S / 2))
        assert layout.stopped_key(left.deferral.sender, left.deferral.batch_run_id) in left.names
        assert not any(step.done() for step in steps)
    finally:
        held.set()


def test_whoever_leaves_waits_for_no_step_and_the_step_lets_go(leave_slow_run):
    watch = Watch(leave_slow_run().deferral)
    watch.step()
    with watch._stepping:  # as a step has it
        watch.leave()
    with pytest.raises(RunCancelledError):
        watch.step()
    assert watch._followed is None
    watch.stop()
    assert watch._followed is None


def test_a_broker_that_goes_away_for_a_while_costs_nothing(leave_slow_run, redis, monkeypatch, caplog):
    async def through():
        run = asyncio.create_task(events_of(trigger_of(left)))
        await until(is_running(left))
        await asyncio.to_thread(redis.kill)
        await until(lambda: "does not answer" in caplog.text and "It is asked again." in caplog.text)
        await asyncio.to_thread(redis.restart)
        return await run

    # So that it has something to ask while nobody is there.
    monkeypatch.setattr("airflow_provider_hfreg.workers.following._NEWCOMERS_S", 0.5)
    left = leave_slow_run()
    assert asyncio.run(asyncio.wait_for(through(), TIMEOUT_S)) == [{"status": "done"}]
    assert left.parts() == [0, 1, 2]
    assert [row["id"] for row in left.rows()] == list(range(6000))


def test_a_worker_that_is_lost_costs_its_shard_a_second_beginning_and_no_row(
    leave_slow_run, plain_settings, monkeypatch, tmp_path, caplog
):
    async def lose(workers):
        run = asyncio.create_task(events_of(trigger_of(left)))
        await until(is_running(left))
        await asyncio.to_thread(workers[0].kill)
        await asyncio.to_thread(workers[1].start)
        return await run

    pools = {"own": {}}
    left = leave_slow_run(executor_pool="own")
    monkeypatch.setenv("AIRFLOW__HFREG__EXECUTOR_POOLS", json.dumps(pools))
    workers = [WorkerProcess(plain_settings | {"pools": pools}, tmp_path / name) for name in ("first", "second")]
    with workers[0], contextlib.ExitStack() as ended:
        ended.callback(workers[1].kill)
        assert asyncio.run(asyncio.wait_for(lose(workers), TIMEOUT_S)) == [{"status": "done"}]
    assert left.parts() == [0, 1, 2]
    assert [row["id"] for row in left.rows()] == list(range(6000))
    assert re.search(r"Shard \d is sent again, for the 2. time. own-0-\S+ had it and was silent for 6 s.", caplog.text)


def test_a_pool_whose_workers_are_gone_is_told(leave_run):
    event = outcome(trigger_of(leave_run(TEXTS, executor_pool="nobody")))
    assert (event["status"], event["kind"]) == ("failed", "NoWorkerError")
    assert "No worker of the executor pool 'nobody' answers" in event["message"]


def test_a_run_whose_plan_is_gone_is_told(leave_run):
    left = leave_run(TEXTS)
    left.output.delete([layout.run_key(left.deferral.batch_run_id)])
    event = outcome(trigger_of(left))
    assert (event["status"], event["kind"]) == ("failed", "KeyNotFoundError")


def test_a_run_is_stopped_when_its_tasks_time_is_up(leave_slow_run):
    left = leave_slow_run(limit=timedelta(seconds=3))
    assert outcome(trigger_of(left)) == {"status": "timed_out"}
    asyncio.run(until(lambda: not is_running(left)()))
    assert len(left.parts()) < 3


FOLLOW = """
import asyncio, json, sys
from airflow_provider_hfreg.triggers.batch_run import BatchRunTrigger

async def run():
    trigger = BatchRunTrigger(json.loads(sys.argv[1]))
    events = [event.payload async for event in trigger.run()]
    await trigger.cleanup()
    return events

print(json.dumps([asyncio.run(run()), [name for name in ("torch", "transformers", "pandas") if name in sys.modules]]))
"""


def test_a_process_that_follows_loads_no_model_library(leave_run):
    left = leave_run(TEXTS)
    program = [sys.executable, "-c", FOLLOW, json.dumps(left.deferral.to_json())]
    ended = subprocess.run(program, capture_output=True, text=True, check=True, timeout=TIMEOUT_S)
    assert json.loads(ended.stdout.splitlines()[-1]) == [[{"status": "done"}], []]
