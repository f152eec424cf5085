"""
A shard that ends every worker that begins it: for want of memory, as in life.

A text that is read whole (of megabytes of blanks no beginning is enough) needs fifty times its own size, which is more
than the worker's limit allows; its tokenizer cannot tell that, and aborts the process. Whoever keeps the worker alive
starts another one, which begins the shard anew.
"""

from __future__ import annotations

import contextlib
import resource
import threading
import time

import psutil
import pytest

from airflow_provider_hfreg.errors import ShardAbandonedError, WorkerError
from airflow_provider_hfreg.runs import layout
from airflow_provider_hfreg.workers.follow import MAX_DELIVERIES

_ROOM_BYTES = 160 * 2**20  # above what a worker takes that has run other shards
_POISON = " " * (8 * 2**20) + "the film was good"


class Keeper(threading.Thread):
    """Starts a worker, with a limit on its memory while there is one, and another one when it has ended."""

    def __init__(self, start_worker, limit_bytes):
        super().__init__(daemon=True)
        self.start_worker, self.limit_bytes = start_worker, limit_bytes
        self.logs = []
        self.is_there = threading.Event()
        self.ended = threading.Event()

    def run(self):
        while not self.ended.is_set():
            worker = self.start_worker(len(self.logs))
            self.logs.append(worker)
            with contextlib.suppress(WorkerError, psutil.NoSuchProcess, ProcessLookupError):  # it may be dead already
                if self.limit_bytes:
                    resource.prlimit(worker.pid, resource.RLIMIT_AS, (self.limit_bytes, resource.RLIM_INFINITY))
            self.is_there.set()
            while worker.process.is_running and not self.ended.is_set():
                time.sleep(0.1)
            worker.kill()

    def deaths(self):
        """How many of them said, at the end of their log, that memory was refused."""
        return sum("memory allocation of" in worker.log_text() for worker in self.logs)

    def __enter__(self):
        self.start()
        assert self.is_there.wait(120)
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.join(60)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_shard_that_ends_its_workers_stops_the_run_after_all_others_are_committed(
    desk, worker, own_worker, texts, tmp_path
):
    desk.put_texts(texts(40))
    desk.run(output="before", rows_per_shard=10)  # on the session's worker, which has no limit
    taken_bytes = psutil.Process(worker.pid).memory_info().vms
    desk.put_texts([*texts(12), _POISON, *texts(27)])
    desk.settings = own_worker.settings
    (desk.pool_name,) = own_worker.settings.pools

    with (
        Keeper(own_worker, taken_bytes + _ROOM_BYTES) as keeper,
        pytest.raises(ShardAbandonedError, match=rf"Shard 1 was begun {MAX_DELIVERIES} times and never ended"),
    ):
        desk.run()

    assert keeper.deaths() == MAX_DELIVERIES
    committed = {layout.find_part(info.key)[0] for info in desk.output.list_infos("part-")}
    assert committed == {0, 2, 3}

    with Keeper(own_worker, limit_bytes=None) as keeper:
        report = desk.run()
    assert (report.status, report.rows_ok, report.shards_resumed) == ("completed", 40, 3)
    assert len(keeper.logs) == 1
    assert [row["id"] for row in desk.rows()] == list(range(40))
