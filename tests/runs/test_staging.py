"""Rows without a file are staged once: a retry finds them, a kill leaves nothing that is read, a finished run none."""

import json
import logging
import signal
import subprocess
import sys
import threading

import pyarrow as pa
import pytest

from airflow_provider_hfreg.errors import (
    InputChangedError,
    InvalidRunOptionError,
    ModelTooLargeError,
    OutputExistsError,
    RunCancelledError,
)
from airflow_provider_hfreg.runs import layout, row_sources, staging
from airflow_provider_hfreg.runs.batch import run_batch
from airflow_provider_hfreg.runs.execution import InProcess
from airflow_provider_hfreg.runs.row_sources import ArrowRows, GivenRows
from airflow_provider_hfreg.runs.spec import identity_prefix
from airflow_provider_hfreg.runs.staging import find_staged, stage

QUESTION = "0123456789abcdef"
PREFIX = identity_prefix("me")


class Asked:
    """A table that moves on: each time it is asked, its texts are newer."""

    def __init__(self, batches=4, rows=5):
        self.times, self.batches, self.rows = 0, batches, rows

    def read(self):
        self.times += 1
        for number in range(self.batches):
            ids = range(number * self.rows, (number + 1) * self.rows)
            texts = [f"film {i}, state {self.times}" for i in ids]
            yield pa.record_batch({"id": pa.array(ids, pa.int64()), "text": texts})

    def source(self, question=QUESTION, **options):
        return ArrowRows("the table", question, self.read, **options)


def run(place, source, *, rerun=False, execution=None, **options):
    return run_batch(
        place.request(**({"input": ""} | options)),
        version=place.version,
        identity="me",
        registry_url=place.version.registry_url,
        s3=place.s3,
        rerun=rerun,
        source=source,
        execution=execution,
    )


def staged_keys(place):
    return [info.key for info in place.output.list_infos(layout.STAGED_FOLDER)]


def states(place):
    return {text.rpartition(" ")[2] for text in place.result()["text"].to_pylist()}


def test_a_stream_is_run_like_a_table_and_its_rows_go_when_it_is_finished(place, monkeypatch):
    monkeypatch.setattr(row_sources, "_PIECE_ROWS", 5)
    report = run(place, Asked().source())
    assert (report.rows_ok, report.shards_total, place.ids()) == (20, 2, list(range(20)))
    assert staged_keys(place) == [layout.staged_key(layout.staged_folder(PREFIX, QUESTION, 0))]


def test_a_finished_run_is_returned_without_asking_and_rerun_asks_anew(place):
    asked = Asked()
    first = run(place, asked.source())
    again = run(place, asked.source())
    assert (again.status, again.batch_run_id, asked.times) == ("already_completed", first.batch_run_id, 1)
    forced = run(place, asked.source(), rerun=True)
    assert (forced.status, asked.times, states(place)) == ("completed", 2, {"2"})
    assert forced.batch_run_id != first.batch_run_id


class StopAfter(logging.Handler):
    """Cancels a run once its rows are staged and planned."""

    def __init__(self):
        super().__init__()
        self.seen = False

    def emit(self, record):
        self.seen = self.seen or record.getMessage().startswith("planned")


@pytest.fixture
def cancelled_when_planned():
    handler = StopAfter()
    log = logging.getLogger("airflow_provider_hfreg.runs.batch")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield InProcess(cancelled=lambda: handler.seen)
    log.removeHandler(handler)
    log.setLevel(logging.NOTSET)


def test_a_retry_goes_on_with_the_rows_of_the_first_try_also_with_rerun(file_place, cancelled_when_planned):
    asked = Asked()
    with pytest.raises(RunCancelledError):
        run(file_place, asked.source(), execution=cancelled_when_planned)
    report = run(file_place, asked.source(), rerun=True)
    assert (report.rows_ok, asked.times, states(file_place)) == (20, 1, {"1"})


def test_another_question_is_another_input(file_place, cancelled_when_planned):
    with pytest.raises(RunCancelledError):
        run(file_place, Asked().source(), execution=cancelled_when_planned)
    other = Asked()
    with pytest.raises(InputChangedError, match="the input files"):
        run(file_place, other.source("f" * 16))
    assert other.times == 0
    assert run(file_place, other.source("f" * 16), rerun=True).rows_ok == 20
    assert [key for key in staged_keys(file_place) if not key.endswith("staged.json")] == []


def test_staged_rows_that_somebody_removed_are_read_anew_with_rerun(file_place, cancelled_when_planned):
    asked = Asked()
    with pytest.raises(RunCancelledError):
        run(file_place, asked.source(), execution=cancelled_when_planned)
    file_place.output.delete([key for key in staged_keys(file_place) if key.endswith(".parquet")])
    with pytest.raises(InputChangedError, match="is gone"):
        run(file_place, asked.source())
    assert run(file_place, asked.source(), rerun=True).rows_ok == 20
    assert states(file_place) == {"2"}


class Broken(InProcess):
    """Says ahead that it can execute nothing."""

    def check_ahead(self, ask):
        raise ModelTooLargeError(f"no memory for {ask.version.reference}")


def test_what_cannot_be_executed_is_refused_before_anything_is_read_and_abandons_nothing(
    file_place, cancelled_when_planned
):
    asked = Asked()
    with pytest.raises(ModelTooLargeError):
        run(file_place, asked.source(), execution=Broken())
    assert (asked.times, staged_keys(file_place)) == (0, [])
    with pytest.raises(RunCancelledError):
        run(file_place, asked.source(), execution=cancelled_when_planned)
    file_place.output.delete([key for key in staged_keys(file_place) if key.endswith(".parquet")])
    with pytest.raises(ModelTooLargeError):
        run(file_place, asked.source(), rerun=True, execution=Broken())
    assert asked.times == 1
    assert not [info for info in file_place.output.list_infos() if info.key.endswith("abandoned.json")]


def test_rows_that_are_gone_are_missed_by_no_run_whose_shards_are_all_committed(file_place):
    asked = Asked()
    first = run(file_place, asked.source())
    file_place.output.delete([layout.report_key(first.batch_run_id)])  # as a kill between the two leaves it
    assert not [key for key in staged_keys(file_place) if key.endswith(".parquet")]
    report = run(file_place, asked.source(), rerun=True)
    assert (report.batch_run_id, report.status, report.shards_resumed) == (first.batch_run_id, "completed", 2)
    assert (asked.times, states(file_place)) == (1, {"1"})
    file_place.output.delete([layout.report_key(first.batch_run_id), layout.part_key(1, first.batch_run_id)])
    assert run(file_place, asked.source(), rerun=True).rows_ok == 20
    assert (asked.times, states(file_place)) == (2, {"2"})


def test_an_output_in_use_is_refused_before_anything_is_read(file_place):
    file_place.store.put("out/other.txt", b"x")
    asked = Asked()
    with pytest.raises(OutputExistsError):
        run(file_place, asked.source())
    assert (asked.times, staged_keys(file_place)) == (0, [])


@pytest.mark.parametrize("options", [{"input": "file:///in"}, {"input_format": "csv"}, {"hive_partitioning": True}])
def test_files_and_rows_are_not_given_together(file_place, options):
    with pytest.raises(InvalidRunOptionError, match=f"{next(iter(options))} is given, and the input is the table"):
        run(file_place, Asked().source(), **options)


def test_progress_is_told_while_rows_are_staged(file_place, monkeypatch, caplog):
    monkeypatch.setattr(staging, "_PROGRESS_S", 0.0)
    monkeypatch.setattr(row_sources, "_PIECE_ROWS", 5)
    with caplog.at_level(logging.INFO):
        run(file_place, Asked().source())
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("stag")]
    assert lines[0].startswith("staging: the table, into file://")
    assert any(" rows read, " in line for line in lines)
    assert lines[-1].startswith("staged: 20 rows in 4 files")


def test_a_type_that_grows_gives_all_pieces_one_schema(place):
    def read():
        yield pa.record_batch({"id": pa.array([None]), "text": ["a"]})
        yield pa.record_batch({"id": pa.array([1]), "text": ["b"]})
        yield pa.record_batch({"id": pa.array([2.5]), "text": ["c"]})

    run(place, ArrowRows("the table", QUESTION, read))
    assert place.result()["id"].to_pylist() == [None, 1.0, 2.5]


def test_a_stream_without_rows_finishes_with_none(file_place):
    report = run(file_place, Asked(batches=1, rows=0).source())
    assert (report.rows_in, report.status) == (0, "completed")
    assert file_place.result().schema.names == ["id", "text", "label", "score"]


def test_of_two_that_stage_at_once_both_go_on_with_the_same_rows(place):
    folder = find_staged(place.output, PREFIX, QUESTION).next_folder
    barrier = threading.Barrier(2)
    asked = Asked()

    def read():
        barrier.wait(60)
        yield from asked.read()

    results = []
    log = logging.getLogger(__name__)
    threads = [
        threading.Thread(
            target=lambda: results.append(stage(ArrowRows("t", QUESTION, read), place.output, folder, log=log))
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    first, second = results
    assert (first.attempt, first.files) == (second.attempt, second.files)
    assert sorted(staged_keys(place)) == sorted([*(file.key for file in first.files), layout.staged_key(folder)])


def test_a_source_that_fails_leaves_nothing(place):
    def read():
        yield from Asked(batches=2).read()
        raise ConnectionError("gone")

    stopped = threading.Event()
    with pytest.raises(ConnectionError):
        run(place, ArrowRows("the table", QUESTION, read, cancel=stopped.set))
    assert (staged_keys(place), stopped.is_set()) == ([], True)


def test_a_source_that_waits_for_ever_is_cancelled_at_once(file_place):
    began, cancelled = threading.Event(), threading.Event()

    def read():
        began.set()
        cancelled.wait(120)
        yield from ()

    def check():
        if began.is_set():
            raise RunCancelledError("stopped")

    with pytest.raises(RunCancelledError):
        run(file_place, ArrowRows("the table", QUESTION, read, check=check, cancel=cancelled.set))
    assert (cancelled.is_set(), staged_keys(file_place)) == (True, [])


KILLED = """
import os, signal, sys
import pyarrow as pa
from airflow_provider_hfreg.runs import row_sources, staging
from airflow_provider_hfreg.storage.urls import open_store
import logging
row_sources._PIECE_ROWS = 5
def read():
    for number in range(4):
        yield pa.record_batch({"id": [number] * 5, "text": ["state killed"] * 5})
    while len(list(store.list_infos(sys.argv[2]))) < 2:
        pass
    os.kill(os.getpid(), signal.SIGKILL)
store = open_store(sys.argv[1])
staging.stage(row_sources.ArrowRows("t", "q", read), store, sys.argv[2], log=logging.getLogger())
"""


def test_what_a_killed_try_staged_is_never_read_and_goes(file_place):
    folder = layout.staged_folder(PREFIX, QUESTION, 0)
    killed = subprocess.run([sys.executable, "-c", KILLED, file_place.output.url, folder], timeout=250, check=False)
    assert killed.returncode == -signal.SIGKILL
    left = staged_keys(file_place)
    assert left
    assert layout.staged_key(folder) not in left
    asked = Asked()
    staged = stage(asked.source(), file_place.output, folder, log=logging.getLogger(__name__))
    assert sorted(staged_keys(file_place)) == sorted([*(file.key for file in staged.files), layout.staged_key(folder)])
    assert run(file_place, asked.source()).rows_ok == 20
    assert (asked.times, states(file_place)) == (1, {"1"})


def rows(count):
    return [{"id": number, "text": f"film {number}"} for number in range(count)]


def test_rows_of_the_call_are_run_once_and_known_again(place):
    first = run(place, GivenRows(rows(12)))
    assert (first.rows_ok, first.shards_total, place.ids()) == (12, 2, list(range(12)))
    again = run(place, GivenRows(rows(12)))
    assert (again.status, again.batch_run_id) == ("already_completed", first.batch_run_id)
    other = run(place, GivenRows(rows(3)))
    assert (other.status, place.ids()) == ("completed", [0, 1, 2])
    assert run(place, GivenRows(rows(3)), rerun=True).status == "completed"


def test_bad_rows_of_the_call_are_quarantined_and_the_others_run(file_place):
    given = [{"id": 1, "text": "good"}, {"id": 2}, {"id": 3, "text": 7}, ["no", "row"], {"text": "fine", "more": None}]
    report = run(file_place, GivenRows(given))
    assert (report.rows_ok, report.rows_quarantined) == (2, 3)
    assert [row["code"] for row in file_place.errors(report)] == ["null_value", "wrong_type", "bad_json"]
    assert file_place.result()["id"].to_pylist() == [1, None]


def test_no_rows_are_a_result_of_no_rows(file_place):
    report = run(file_place, GivenRows([]))
    assert (report.rows_in, report.parts) == (0, 1)


def test_a_plan_tells_where_the_rows_lay_and_nothing_of_it_is_an_input_or_an_output(file_place):
    report = run(file_place, GivenRows(rows(2)))
    plan = json.loads(file_place.output.get(layout.run_key(report.batch_run_id)))
    assert plan["request"]["input"] == file_place.output.location(
        layout.staged_folder(PREFIX, GivenRows(rows(2)).question, 0)
    )
    other = file_place.run(
        identity="other", input=f"{file_place.url}/out/", output=f"{file_place.url}/again", output_prefix="p_"
    )
    assert other.rows_in == 2
