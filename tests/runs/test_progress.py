"""Progress at a steady pace, by a clock of the test's own; and the thread that reads ahead."""

import logging
import threading

import pytest

from airflow_provider_hfreg.runs.progress import ProgressLog
from airflow_provider_hfreg.runs.read_ahead import ReadAhead
from airflow_provider_hfreg.runs.report import RowCounts

LOG = logging.getLogger("progress")


class Clock:
    now_s = 0.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def progress(clock):
    return ProgressLog(shards_total=4, rows_total=400, log=LOG, interval_s=10, clock=clock)


def test_a_line_comes_about_every_interval_and_no_more(progress, clock, caplog):
    caplog.set_level(logging.INFO)
    for rows in range(1, 101):
        clock.now_s += 1
        progress.rows(0, RowCounts(rows, rows))
    assert len(caplog.messages) == 10
    assert caplog.messages[0] == "0 of 4 shards, 10 of 400 rows (2 %), 1.00 rows/s, 6 min 30 s left"


def test_resumed_rows_are_done_but_not_fast(progress, clock, caplog):
    caplog.set_level(logging.INFO)
    progress.resume(2, RowCounts(200, 190, 10))
    clock.now_s = 20
    progress.rows(2, RowCounts(100, 100))
    assert caplog.messages == [
        "resuming: 2 of 4 shards (200 rows) already committed",
        "2 of 4 shards, 300 of 400 rows (75 %), 5.00 rows/s, 20 s left, 10 quarantined",
    ]


def test_a_fresh_run_does_not_speak_of_resuming(progress, caplog):
    caplog.set_level(logging.INFO)
    progress.resume(0, RowCounts())
    assert caplog.messages == []


def test_a_committed_shard_counts_once(progress, clock):
    clock.now_s = 1
    progress.rows(2, RowCounts(100, 99, 1))
    progress.shard(2, RowCounts(100, 99, 1))
    now = progress.now()
    assert (now.shards_done, now.rows_done, now.rows_quarantined, now.rows_per_s) == (1, 100, 1, 100.0)
    assert now.to_json()["eta_s"] == 3.0


def test_nothing_is_promised_before_the_first_row(progress):
    assert progress.now().eta_s is None


def test_reading_ahead_keeps_the_order_and_the_error():
    def source():
        yield 1
        yield 2
        raise ValueError("at three")

    seen = []
    with pytest.raises(ValueError, match="at three"), ReadAhead(source(), depth=1) as ahead:
        seen.extend(iter(ahead))
    assert seen == [1, 2]


def test_no_more_is_read_than_the_depth_ahead():
    taken, may_end = [], threading.Event()

    def source():
        for number in range(100):
            taken.append(number)
            if number == 3:
                may_end.set()
            yield number

    with ReadAhead(source(), depth=3) as ahead:
        assert may_end.wait(10)
        assert next(iter(ahead)) == 0
    assert len(taken) <= 6


def test_closing_stops_the_thread_and_closes_the_source():
    closed = threading.Event()

    def source():
        try:
            while True:
                yield 1
        finally:
            closed.set()

    ahead = ReadAhead(source(), depth=1)
    assert next(iter(ahead)) == 1
    ahead.close()
    assert closed.wait(10)
