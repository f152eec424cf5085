"""Two runs on one worker: the small one does not wait for the large one."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import replace

from airflow_provider_hfreg.errors import RunCancelledError

_BEGUN = re.compile(r"Shard (\d+): rows (\d+) to (\d+), on ")


class Beside(threading.Thread):
    """Runs something beside the test; ``result`` and ``error`` are there afterwards."""

    def __init__(self, act):
        super().__init__(daemon=True)
        self.act, self.result, self.error = act, None, None
        self.start()

    def run(self):
        try:
            self.result = self.act()
        except Exception as error:  # noqa: BLE001  told by the test
            self.error = error


def begun(log_text):
    """The shards that a worker began, in order, by how many rows they have."""
    return [int(last) - int(first) for _, first, last in _BEGUN.findall(log_text)]


def test_a_small_run_is_done_long_before_a_large_one_that_was_there_first(slow_desk, own_worker, texts):
    """The large one is larger than any worker is through with in time, and is stopped when the small one is done."""
    small_desk = replace(slow_desk, url=f"{slow_desk.url}/small")
    slow_desk.put_texts(texts(40 * 1000))
    small_desk.put_texts(texts(4 * 20))
    worker = own_worker(1)
    options = {"columns": {"inputs": "text"}, "params": {"max_new_tokens": 24}}
    is_enough = threading.Event()
    large = Beside(lambda: slow_desk.run(rows_per_shard=40, cancelled=is_enough.is_set, **options))
    while not list(slow_desk.output.list_infos("part-")):
        assert large.error is None
        time.sleep(0.05)

    small_desk.run(identity="you", rows_per_shard=20, **options)

    order = begun(worker.log_text())
    assert large.is_alive()
    is_enough.set()
    large.join(60)
    assert isinstance(large.error, RunCancelledError)
    assert order.count(20) == 4
    # Between two shards of the small run there are those that the large one has in the queue, and those that it sends
    # until the small one looks again: some, of a thousand.
    first, last = order.index(20), len(order) - 1 - order[::-1].index(20)
    assert order[first:last].count(40) <= 200
