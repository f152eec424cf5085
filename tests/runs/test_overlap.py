"""While the model runs a window, the next one is tokenised and the last one written; and no thread is left behind."""

import logging
import threading
import time

import pytest

from airflow_provider_hfreg.inference.engine import Engine
from airflow_provider_hfreg.runs.parts import ParquetPart
from airflow_provider_hfreg.runs.read_ahead import ReadAhead
from airflow_provider_hfreg.runs.write_behind import WriteBehind
from airflow_provider_hfreg.workers.shard_log import ShardLog

_PATIENCE_S = 60
_ROWS, _WINDOW_ROWS = 40, 8


@pytest.fixture
def place(file_place, texts, monkeypatch):
    """A table of five windows and one shard."""
    file_place.put_csv("in/a.csv", texts(_ROWS))
    monkeypatch.setattr(file_place.version.engine(), "window_rows", _WINDOW_ROWS)
    return file_place


@pytest.fixture
def forward(place):
    """Let a test act at each forward of the model; gives the function that takes what to do."""
    hooks = []

    def at_each(act):
        network = place.version.engine().loaded.network
        hooks.append(network.register_forward_pre_hook(lambda *_: act()))

    yield at_each
    for hook in hooks:
        hook.remove()


def test_the_next_window_is_tokenised_while_the_model_runs(place, forward, monkeypatch):
    prepared, second = [], threading.Event()
    original = Engine.prepared

    def prepare(engine, window, *arguments, **options):
        ready = original(engine, window, *arguments, **options)
        prepared.append(threading.current_thread())
        if len(prepared) == 2:
            second.set()
        return ready

    monkeypatch.setattr(Engine, "prepared", prepare)
    waited = []
    forward(lambda: waited.append(second.wait(_PATIENCE_S)))

    report = place.run(rows_per_shard=_ROWS)

    assert waited
    assert all(waited)
    assert len(prepared) == _ROWS // _WINDOW_ROWS
    assert threading.current_thread() not in prepared
    assert (report.rows_ok, place.ids()) == (_ROWS, list(range(_ROWS)))


def test_a_window_is_written_while_the_model_runs_the_next(place, forward, monkeypatch):
    forwards, waited, second = [], [], threading.Event()
    original = ParquetPart.add

    def add(part, batch):
        waited.append(second.wait(_PATIENCE_S))
        original(part, batch)

    def at_forward():
        forwards.append(None)
        if len(forwards) > 1:
            second.set()

    monkeypatch.setattr(ParquetPart, "add", add)
    forward(at_forward)

    report = place.run(rows_per_shard=_ROWS)

    assert waited
    assert all(waited)
    assert (report.rows_ok, place.ids()) == (_ROWS, list(range(_ROWS)))


@pytest.mark.parametrize("fails", ["prepared", "add"])
def test_what_fails_beside_the_model_ends_the_run_and_leaves_no_thread(place, monkeypatch, fails):
    def fail(*_arguments, **_options):
        raise OSError("broken")

    monkeypatch.setattr(*{"prepared": (Engine, "prepared"), "add": (ParquetPart, "add")}[fails], fail)
    before = set(threading.enumerate())

    with pytest.raises(OSError, match="broken"):
        place.run(rows_per_shard=_ROWS)

    assert place.parts() == []
    assert left_of(set(threading.enumerate()) - before) == []


def test_what_is_said_beside_the_model_is_in_the_shards_log(place, monkeypatch):
    original = Engine.prepared

    def prepare(engine, window, *arguments, **options):
        logging.getLogger("airflow_provider_hfreg.pipelines").warning("a target is passed over")
        return original(engine, window, *arguments, **options)

    monkeypatch.setattr(Engine, "prepared", prepare)
    with ShardLog() as lines, ShardLog() as inner:
        place.run(rows_per_shard=_ROWS)
    assert "WARNING a target is passed over" in inner.tail()[1]
    assert lines.tail() == (0, ())


def left_of(threads):
    """Return the threads that are still there after a while."""
    until = time.monotonic() + _PATIENCE_S
    while (left := [thread.name for thread in threads if thread.is_alive()]) and time.monotonic() < until:
        time.sleep(0.05)
    return left


def test_who_waits_for_a_reader_that_was_closed_waits_no_more():
    slow = threading.Event()

    def source():
        yield 1
        slow.wait(_PATIENCE_S)

    ahead, came = ReadAhead(source()), []
    waiting = threading.Thread(target=lambda: came.extend(ahead))
    waiting.start()
    while not came:
        time.sleep(0.01)
    ahead.close()
    waiting.join(_PATIENCE_S)
    assert not waiting.is_alive()
    slow.set()


def test_things_are_written_in_order_and_an_error_is_told_at_the_next_or_at_the_end():
    kept = []

    def write(thing):
        if thing == 3:
            raise ValueError("not this one")
        time.sleep(0.01)
        kept.append(thing)

    with WriteBehind(write) as behind:
        for thing in (1, 2):
            behind.add(thing)
        behind.wait()
        assert kept == [1, 2]
        behind.add(3)
        with pytest.raises(ValueError, match="not this one"):
            behind.wait()
        behind.wait()  # it was told
