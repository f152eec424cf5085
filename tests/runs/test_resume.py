"""Killed anywhere, the same call goes on: the output is a clean run's, row for row, and nothing is there twice."""

import contextlib
import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_provider_hfreg.errors import StorageUnavailableError, UnknownFormatError
from airflow_provider_hfreg.runs import layout
from airflow_provider_hfreg.runs.batch import run_prepared
from airflow_provider_hfreg.testing.faults import ANY, Fault, Faults, FaultyStore, raising


class Killed(BaseException):
    """Nothing of ours catches it, as nothing catches a kill."""


def rows_with_bad_ones(count):
    return [(number, None if number % 7 == 3 else f"the film number {number}") for number in range(count)]


def clean_run(place):
    place.run(identity="clean", output=f"{place.url}/clean")
    clean = place.store.below("clean")
    return [place.read(clean, info.key).to_pylist() for info in clean.list_infos("part-")]


def check_equal_to(place, clean, report):
    parts = [place.read(place.output, key).to_pylist() for key in sorted(place.parts())]
    assert parts == clean
    assert report.rows_in == report.rows_ok + report.rows_quarantined
    written = [int(row["id"]) for part in parts for row in part]
    assert sorted(written + [row["row"] for row in place.errors(report)]) == list(range(report.rows_in))
    assert place.success()["parts"] == sorted(place.parts())
    errors = [info.key for info in place.output.list_infos(layout.errors_folder(report.batch_run_id))]
    assert len(errors) == len({Path(key).name[:5] for key in errors})  # none of an attempt that lost


def calls_of_a_run(place):
    """The numbers of the calls of the output store that a whole run makes, apart from those of the probe."""
    ask = place.ask(identity="count", output=f"{place.url}/count")
    counted = FaultyStore(ask.output)
    run_prepared(replace(ask, output=counted))
    return [number for number, (_, key) in enumerate(counted.faults.log, start=1) if "probe" not in key]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_run_that_dies_at_any_call_of_the_store_is_resumed(file_place, when):
    place = file_place
    place.put_csv("in/a.csv", rows_with_bad_ones(35))
    clean = clean_run(place)
    calls = calls_of_a_run(place)
    assert len(calls) > 25
    for call in calls:
        place.store.delete([info.key for info in place.store.list_infos("out/")])
        ask = place.ask()
        faults = Faults(Fault(ANY, raising(Killed()), call=call, when=when))
        with contextlib.suppress(Killed):  # a call that raises by itself has no answer to die after
            run_prepared(replace(ask, output=FaultyStore(ask.output, faults)))
        check_equal_to(place, clean, place.run())


@pytest.mark.parametrize("operation", ["put_if_absent", "upload", "put", "delete", "replace_if_match"])
def test_a_lost_answer_never_doubles_a_row(file_place, operation):
    place = file_place
    place.put_csv("in/a.csv", rows_with_bad_ones(35))
    clean = clean_run(place)
    for call in range(1, 6):
        place.store.delete([info.key for info in place.store.list_infos("out/")])
        ask = place.ask()
        act = raising(StorageUnavailableError("the answer was lost"))
        faults = Faults(Fault(operation, act, call=call, when="after"))
        with contextlib.suppress(StorageUnavailableError):
            run_prepared(replace(ask, output=FaultyStore(ask.output, faults)))
        check_equal_to(place, clean, place.run())


def test_a_put_that_the_client_repeated_after_a_lost_answer_is_our_own(file_place, texts):
    place = file_place
    place.put_csv("in/a.csv", [(0, "good"), (1, None)])

    class Repeating(FaultyStore):
        """As a client library does on a timeout: the first put arrived, the second one meets it."""

        def put_if_absent(self, key, content):
            etag = self.store.put_if_absent(key, content)
            return self.store.put_if_absent(key, content) if key.startswith("part-") else etag

    ask = place.ask()
    report = run_prepared(replace(ask, output=Repeating(ask.output)))
    assert len(place.errors(report)) == 1  # not taken for another attempt's


def test_what_was_there_already_is_told_first(file_place, texts, caplog):
    place = file_place
    place.put_csv("in/a.csv", texts(40))
    ask = place.ask()
    faults = Faults(Fault("put_if_absent", raising(Killed()), call=3, key="part-"))
    with pytest.raises(Killed):
        run_prepared(replace(ask, output=FaultyStore(ask.output, faults)))
    with caplog.at_level(logging.INFO):
        report = place.run()
    assert "resuming: 2 of 4 shards (20 rows) already committed" in caplog.messages
    assert (report.shards_resumed, report.rows_in) == (2, 40)


# --- real processes


@pytest.fixture
def start(registry, request):
    """A function that starts a process with a run in it; none outlives the test."""
    running = []

    def begin(place, **options):
        s3 = place.s3 and {
            name: getattr(place.s3, name) for name in ("endpoint_url", "access_key_id", "secret_access_key")
        }
        told = {
            "registry": registry.url,
            "cache": str(place.cache),
            "version": place.version.reference,
            "request": place.request(**options).to_json(),
            "identity": "me",
            "s3": s3 or None,
        }
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("run_once.py")), json.dumps(told)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def wait_for_parts(place, process, count):
    while len(place.parts()) < count and process.poll() is None:
        time.sleep(0.005)


def kill_and_resume(place, start, tmp_path, *, kills, seed, rows):
    place.cache = tmp_path / "cache"
    place.put_csv("in/a.csv", rows_with_bad_ones(rows))
    clean = clean_run(place)
    rng = random.Random(seed)
    for _ in range(kills):
        process = start(place)
        wait_for_parts(place, process, min(len(place.parts()) + rng.randint(1, len(clean) // kills), len(clean) - 8))
        time.sleep(rng.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    there = len(place.parts())
    assert 0 < there < len(clean)
    report = place.run()
    assert report.shards_resumed == there
    check_equal_to(place, clean, report)


def test_a_process_killed_with_9_is_resumed_by_the_next(file_place, start, tmp_path):
    kill_and_resume(file_place, start, tmp_path, kills=1, seed=random.randrange(1000), rows=400)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_processes_killed_with_9_at_random_points_are_resumed(place, start, tmp_path, seed):
    kill_and_resume(place, start, tmp_path, kills=4, seed=seed, rows=1500)


def test_two_processes_with_the_same_run_end_with_each_row_once(file_place, start, tmp_path):
    place = file_place
    place.cache = tmp_path / "cache"
    place.put_csv("in/a.csv", rows_with_bad_ones(600))
    clean = clean_run(place)
    other = start(place)
    while not list(place.output.list_infos(layout.RUNS_FOLDER)) and other.poll() is None:
        time.sleep(0.01)
    report = place.run()
    out, err = other.communicate(timeout=240)
    assert other.returncode == 0, err
    assert json.loads(out.splitlines()[-1])["batch_run_id"] == report.batch_run_id
    check_equal_to(place, clean, report)


def test_a_report_that_is_cut_is_told_and_written_anew_from_the_parts(file_place, texts):
    place = file_place
    place.put_csv("in/a.csv", texts(10))
    report = place.run()
    key = layout.report_key(report.batch_run_id)
    place.output.put(key, place.output.get(key)[:50])

    with pytest.raises(UnknownFormatError, match=r"report\.json is no whole report of a run: .* Delete it and run"):
        place.run()

    place.output.delete([key])
    again = place.run()
    assert (again.status, again.shards_resumed, again.rows_ok) == ("completed", report.shards_total, report.rows_ok)
