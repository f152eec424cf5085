"""Who is asked and who answers, on one broker with workers of two pools."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace

import pytest

from airflow_provider_hfreg.errors import NoWorkerError
from airflow_provider_hfreg.workers.app import Broker
from airflow_provider_hfreg.workers.roll_call import roll_call


def test_one_answer_is_enough_to_begin_and_only_the_pools_own_workers_are_asked(own_worker, worker):
    own_worker(1), own_worker(2)
    (pool,) = own_worker.settings.pools.values()
    with contextlib.closing(Broker(own_worker.settings, pool)) as broker:
        began_s = time.monotonic()
        (first,) = broker.statuses(timeout_s=60, limit=1)
        assert time.monotonic() - began_s < 60  # all answers would be waited for so long
        assert first["pool"] == pool.name
        assert len(roll_call(broker, pool, is_any_enough=True)) == 1
        assert len({status["worker"] for status in broker.statuses(timeout_s=5)}) == 2
    with contextlib.closing(Broker(worker.settings, worker.settings.pool("cpu"))) as broker:
        assert [status["pool"] for status in broker.statuses(timeout_s=5)] == ["cpu"]


def test_an_answer_without_the_senders_keys_counts_for_nothing_and_is_told(worker):
    """Somebody who reaches the broker could else end a run by what he answers."""
    settings = replace(worker.settings, message_keys=("other keys than the worker's",))
    pool = settings.pool("cpu")
    with contextlib.closing(Broker(settings, pool)) as broker:
        with pytest.raises(NoWorkerError, match=r"1 answered with others\. Give senders and workers the same"):
            roll_call(broker, pool, is_any_enough=True)
        assert broker.strangers == 1


def test_a_broker_that_restarted_is_asked_as_before(worker, redis):
    """By a process that lives long, as a triggerer does: what it asked with before is of no use any more."""
    settings, pool = worker.settings, worker.settings.pool("cpu")
    for _ in range(2):
        with contextlib.closing(Broker(settings, pool)) as broker:
            broker.statuses(timeout_s=1)
        redis.restart()
        with contextlib.closing(Broker(settings, pool)) as broker:
            broker.statuses(timeout_s=1)
