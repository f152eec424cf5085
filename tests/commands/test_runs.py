"""Runs below an output folder, as their owner is shown them, and what may be removed of them: on both stores."""

from __future__ import annotations

import json
from argparse import Namespace
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_provider_hfreg.__main__ import main
from airflow_provider_hfreg.commands import runs
from airflow_provider_hfreg.commands.replies import Asked, Place
from airflow_provider_hfreg.commands.run_cleaning import clean, clean_staged, to_clean
from airflow_provider_hfreg.commands.run_outlines import RunStatus, outlines, traces_below
from airflow_provider_hfreg.commands.staged_rows import staged_below
from airflow_provider_hfreg.errors import ColumnMissingError, RunAbandonedError, RunCancelledError, RunNotFoundError
from airflow_provider_hfreg.registry import Registry
from airflow_provider_hfreg.runs import layout, outputs
from airflow_provider_hfreg.runs.batch import run_batch
from airflow_provider_hfreg.runs.execute import execute_shard, read_shard
from airflow_provider_hfreg.runs.execution import InProcess
from airflow_provider_hfreg.runs.report import RowCounts
from airflow_provider_hfreg.runs.row_sources import GivenRows
from airflow_provider_hfreg.runs.spec import BatchRequest
from airflow_provider_hfreg.storage.urls import open_store
from airflow_provider_hfreg.testing.faults import FaultyStore
from airflow_provider_hfreg.testing.models import text_classifier
from airflow_provider_hfreg.workers.claims import Claim, ClaimError, ClaimState, take_claim

DAY = timedelta(days=1)


@pytest.fixture(scope="session")
def version(tmp_path_factory):
    """A tiny text classifier."""
    folder = tmp_path_factory.mktemp("registry")
    registry = Registry((folder / "store").as_uri(), cache_folder=folder / "cache")
    return registry.log_folder(
        text_classifier(folder / "model"), model_name="tiny", version_name="v1", task="text-classification"
    )


class Desk:
    """An input of 25 rows, one of them bad, and an output folder."""

    def __init__(self, url, s3, version):
        self.url, self.s3, self.version = url, s3, version
        self.output = open_store(f"{url}/out", s3)
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"text": [None, *(f"film {number}" for number in range(24))]}), sink)
        open_store(f"{url}/in", s3).put("a.parquet", sink.getvalue().to_pybytes())

    def run(self, identity="me", *, shards=None, source=None, **options):
        """Run to the end, or until so many shards are committed."""
        options = ({} if source is None else {"input": ""}) | options
        request = {"input": f"{self.url}/in", "output": f"{self.url}/out", "rows_per_shard": 10}
        return run_batch(
            BatchRequest(**{**request, "if_output_exists": "append", **options}),
            version=self.version,
            identity=identity,
            registry_url=self.version.registry_url,
            s3=self.s3,
            source=source,
            execution=InProcess(lambda: shards is not None and len(self.parts()) >= shards),
        )

    def leave(self, identity="me", *, shards=1, **options):
        """Leave a new run unfinished, and return its id; by the last change two of one second cannot be told apart."""
        before = {run.batch_run_id for run in traces_below(self.output)}
        with pytest.raises(RunCancelledError):
            self.run(identity, shards=len(self.parts()) + shards, **options)
        (new,) = {run.batch_run_id for run in traces_below(self.output)} - before
        return new

    def parts(self):
        return [info.key for info in self.output.list_infos("part-")]

    def seen(self, now=None):
        now = now or datetime.now(UTC)
        return {run.batch_run_id: run for run in outlines(self.output, traces_below(self.output), now)}

    def documents(self, run_id):
        folder = layout.run_folder(run_id)
        return [info.key.removeprefix(folder) for info in self.output.list_infos(folder)]

    def clean(self, *, in_days, **options):
        runs = list(self.seen().values())
        chosen = to_clean(runs, now=datetime.now(UTC) + in_days * DAY, **{"older_than": 7 * DAY} | options)
        return [run.batch_run_id for run in chosen if clean(self.output, run)]

    def clean_staged(self, *, in_days, older_than=7 * DAY):
        """Return the names of the objects that went."""
        now, before = datetime.now(UTC) + in_days * DAY, self.staged()
        clean_staged(self.output, staged_below(self.output), now=now, older_than=older_than)
        return [name for name in before if name not in self.staged()]

    def staged(self):
        names = [info.key.rpartition("/")[2] for info in self.output.list_infos(layout.STAGED_FOLDER)]
        return ["rows" if name.endswith(".jsonl") else name for name in names]


@pytest.fixture
def desk(request, store_url, version):
    settings = request.getfixturevalue("s3_settings") if store_url.startswith("s3") else None
    return Desk(store_url, settings, version)


@pytest.fixture
def file_desk(file_url, version):
    return Desk(file_url, None, version)


def test_an_empty_folder_has_no_runs(desk):
    assert desk.seen() == {}


def test_staged_rows_are_no_run(desk):
    desk.output.put(f"{layout.STAGED_FOLDER}{'0' * 10}-{'1' * 10}-0/staged.json", b"{}")
    assert desk.seen() == {}


def test_every_kind_of_run_is_told_with_how_far_it_is(desk):
    report = desk.run("done")
    left = desk.leave("left")
    given_up = desk.leave("given up", shards=0)
    outputs.abandon(desk.output, [given_up], successor=None)
    working = desk.leave("working")
    held = take_claim(desk.output, layout.claim_key(2, working), Claim("cpu-0-1@host", "sender", 2), takes_over=None)
    held.write(counts=RowCounts(3, 3))

    seen = desk.seen()

    assert {run: outline.status for run, outline in seen.items()} == {
        report.batch_run_id: RunStatus.FINISHED,
        left: RunStatus.UNFINISHED,
        given_up: RunStatus.ABANDONED,
        working: RunStatus.WORKING,
    }
    done = seen[report.batch_run_id]
    assert (done.model, done.shards_done, done.shards_total, done.rows_done) == ("tiny/v1", 3, 3, 25)
    assert (done.rows_quarantined, done.content_digest) == (1, desk.version.content_digest)
    assert (seen[left].shards_done, seen[left].rows_done, seen[left].rows_total) == (1, 10, 25)
    assert seen[left].rows_quarantined is None
    assert seen[working].rows_done == 13
    (claim,) = seen[working].claims
    assert (claim.shard, claim.worker, claim.delivery, claim.is_live) == (2, "cpu-0-1@host", 2, True)
    assert seen[working].to_json()["claims"][0]["rows_done"] == 3
    assert desk.seen(datetime.now(UTC) + timedelta(minutes=5))[working].status is RunStatus.UNFINISHED


def test_a_worker_that_may_be_silent_for_longer_is_taken_for_gone_later(desk):
    patient = desk.leave("patient")
    claim = Claim("cpu-0-1@host", "sender", 1, lapse_s=300)
    take_claim(desk.output, layout.claim_key(2, patient), claim, takes_over=None)
    in_minutes = {minutes: desk.seen(datetime.now(UTC) + timedelta(minutes=minutes)) for minutes in (15, 25)}
    assert {minutes: seen[patient].status for minutes, seen in in_minutes.items()} == {
        15: RunStatus.WORKING,
        25: RunStatus.UNFINISHED,
    }


def test_a_plan_that_nobody_can_read_is_told(file_desk):
    run_id = file_desk.leave()
    file_desk.output.put(layout.run_key(run_id), b'{"format_version": 99}')
    outline = file_desk.seen()[run_id]
    assert (outline.status, outline.model, outline.shards_done) == (RunStatus.UNREADABLE, None, 1)


def test_a_finished_run_goes_when_it_is_old_enough_its_parts_stay_and_it_is_computed_anew_when_asked(desk):
    report = desk.run()
    parts = desk.parts()
    assert desk.clean(in_days=6) == []
    assert desk.clean(in_days=8) == [report.batch_run_id]
    assert desk.documents(report.batch_run_id) == []
    assert desk.parts() == parts
    assert desk.seen()[report.batch_run_id].status is RunStatus.CLEANED
    assert desk.clean(in_days=8) == []
    again = desk.run()
    assert (again.status, again.rows_ok) == ("completed", 24)
    assert not set(desk.parts()) & set(parts)  # it stands in place of what was there
    assert len(desk.parts()) == 3


def test_at_no_moment_does_a_finished_run_look_like_one_to_be_resumed(file_desk):
    report = file_desk.run()
    (run,) = file_desk.seen().values()
    store = FaultyStore(file_desk.output)
    assert clean(store, run)
    deleted = [key for operation, key in store.faults.log if operation == "delete"]
    assert deleted[0] == layout.run_key(report.batch_run_id)
    assert deleted[-1] == layout.report_key(report.batch_run_id)
    assert "errors/" in deleted[1]


def test_an_unfinished_run_goes_only_where_it_is_asked_for_and_after_a_day(desk):
    run_id = desk.leave()
    parts = desk.parts()
    assert desk.clean(in_days=30) == []
    assert desk.clean(in_days=0.9, older_than=timedelta(0), unfinished=True) == []
    assert desk.clean(in_days=30, unfinished=True) == [run_id]
    assert desk.documents(run_id) == ["abandoned.json"]
    assert desk.parts() == parts
    assert desk.clean(in_days=30, unfinished=True) == []


def test_who_wakes_up_after_the_cleaning_commits_nothing(file_desk):
    run_id = file_desk.leave()
    document = outputs.read_document(file_desk.output, run_id)
    inputs = open_store(document.input_root)
    assert file_desk.clean(in_days=30, unfinished=True) == [run_id]
    with pytest.raises(RunAbandonedError):
        execute_shard(
            document,
            1,
            read_shard(document, 1, inputs, window_rows=10),
            engine=file_desk.version.engine,
            inputs=inputs,
            output=file_desk.output,
        )
    assert file_desk.run().rows_ok == 24  # and its task begins anew


def test_a_run_that_somebody_works_on_never_goes(file_desk):
    run_id = file_desk.leave()
    take_claim(file_desk.output, layout.claim_key(2, run_id), Claim("w", "sender", 1), takes_over=None)
    run = file_desk.seen()[run_id]
    assert run.status is RunStatus.WORKING
    assert to_clean([run], now=datetime.now(UTC) + 30 * DAY, older_than=DAY, unfinished=True) == []


def test_a_run_that_was_resumed_since_it_was_seen_is_left(file_desk):
    run_id = file_desk.leave()
    run = file_desk.seen()[run_id]
    assert file_desk.run().status == "completed"
    assert not clean(file_desk.output, run)
    assert "run.json" in file_desk.documents(run_id)


def rows(column="text"):
    return GivenRows([{column: f"film {number}"} for number in range(25)])


def test_staged_rows_go_with_the_unfinished_run_that_needs_them_and_never_before(desk):
    run_id = desk.leave(source=rows())
    assert desk.staged() == ["rows", "staged.json"]
    assert desk.clean_staged(in_days=30) == []
    assert desk.clean(in_days=30, unfinished=True) == [run_id]
    assert desk.clean_staged(in_days=0.9, older_than=timedelta(0)) == []
    assert desk.clean_staged(in_days=6) == []
    assert desk.clean_staged(in_days=8) == ["rows", "staged.json"]
    assert desk.run(source=rows()).rows_ok == 25


def test_staged_rows_of_a_task_that_never_began_its_run_go_by_age(file_desk):
    with pytest.raises(ColumnMissingError):
        file_desk.run(source=rows("body"))
    assert file_desk.clean_staged(in_days=6) == []
    assert file_desk.clean_staged(in_days=8) == ["rows", "staged.json"]


def test_what_tells_of_the_rows_of_a_finished_run_stays_as_long_as_its_report(file_desk):
    report = file_desk.run(source=rows())
    with pytest.raises(ColumnMissingError):
        file_desk.run(source=rows("body"))
    assert file_desk.clean_staged(in_days=8) == ["rows"]
    assert file_desk.run(source=rows()).status == "already_completed"
    assert file_desk.clean(in_days=8) == [report.batch_run_id]
    assert file_desk.clean_staged(in_days=8) == ["staged.json", "staged.json"]


def test_staged_rows_that_a_run_began_with_since_they_were_seen_are_left(file_desk):
    with pytest.raises(ColumnMissingError):
        file_desk.run(source=rows("body"))
    seen = staged_below(file_desk.output)
    file_desk.leave(source=rows("body"), columns={"text": "body"})
    later = datetime.now(UTC) + 30 * DAY
    assert clean_staged(file_desk.output, seen, now=later, older_than=DAY) == []
    assert file_desk.staged() == ["rows", "staged.json"]


def test_staged_rows_are_listed_and_removed_as_the_runs_are(file_desk, monkeypatch):
    run_id = file_desk.leave(source=rows())
    reply = runs.list_(asked(file_desk))
    (told,) = reply.plain["staged"]
    assert (told["files"], told["is_committed"], told["size_bytes"] > 0) == (1, True, True)
    header, line = reply.text.splitlines()[-2:]
    assert header.split() == ["staged", "rows", "for", "the", "runs", "size", "last", "change"]
    assert line.split()[1] == run_id.partition("-")[0]

    class Later(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + 8 * DAY

    monkeypatch.setattr(runs, "datetime", Later)
    options = {"older_than": 7 * DAY, "unfinished": False}
    assert runs.clean_(asked(file_desk, yes=False, **options)).text.endswith("is that old and at rest.")
    options["unfinished"] = True
    would = runs.clean_(asked(file_desk, yes=False, **options))
    assert [rows["folder"] for rows in would.plain["would_remove_staged"]] == [told["folder"]]
    assert "and 1 folder(s) of staged rows" in would.text
    assert file_desk.staged() == ["rows", "staged.json"]
    did = runs.clean_(asked(file_desk, yes=True, **options))
    assert (did.plain["removed"], did.plain["removed_staged"]) == ([run_id], [told["folder"]])
    assert did.text.endswith("Removed 1 folder(s) of staged rows.")
    assert file_desk.staged() == []
    assert runs.list_(asked(file_desk)).plain["staged"] == []


def test_a_finished_run_is_told_as_its_report_says_also_without_its_parts_and_its_plan(file_desk):
    report = file_desk.run()
    store = FaultyStore(file_desk.output)
    (finished,) = outlines(store, traces_below(store), datetime.now(UTC))
    assert finished.rows_quarantined == 1
    assert not [key for operation, key in store.faults.log if operation == "get" and key.startswith("part-")]
    file_desk.run(output_prefix="p_")  # takes the place of the first
    shown = runs.show(asked(file_desk, run_id=report.batch_run_id))
    assert (shown.plain["rows_quarantined"], shown.plain["rows_done"], shown.plain["shards_done"]) == (1, 25, 3)
    assert shown.plain["parts"] == 0
    assert f"quarantined rows  {file_desk.output.location(layout.errors_folder(report.batch_run_id))}" in shown.text
    assert "parts             0 of 3 are there" in shown.text
    file_desk.output.delete([layout.run_key(report.batch_run_id)])  # as a cleaning leaves it that is killed at once
    shown = runs.show(asked(file_desk, run_id=report.batch_run_id))
    assert (shown.plain["rows_quarantined"], shown.plain["model"]) == (1, "tiny/v1")


def asked(desk, **options):
    """The command line without Airflow, as it was typed after the folder."""
    place = Place(f"{desk.url}/out", desk.s3)
    return Asked(Namespace(output=place.url, **options), lambda typed: place if typed.registry == place.url else None)


def test_the_list_says_in_one_line_what_each_run_is(desk):
    assert runs.list_(asked(desk)).plain == {"runs": [], "staged": []}
    assert runs.list_(asked(desk)).text == f"No batch run has written to {desk.url}/out."
    report, left = desk.run("done"), desk.leave("left")
    reply = runs.list_(asked(desk))
    assert [run["batch_run_id"] for run in reply.plain["runs"]] == [left, report.batch_run_id]
    header, first, second = reply.text.splitlines()
    assert header.split() == ["run", "status", "model", "shards", "rows", "quarantined", "workers", "last", "change"]
    assert first.startswith(f"{left}  unfinished  tiny/v1  1 of 3  10 of 25")
    assert second.split()[:6] == [report.batch_run_id, "finished", "tiny/v1", "3", "25", "1"]
    json.dumps(reply.plain)


def test_one_run_is_shown_by_the_beginning_of_its_id_with_its_shards_and_their_errors(desk):
    run_id = desk.leave("left")
    held = take_claim(desk.output, layout.claim_key(2, run_id), Claim("gpu-0-1@host", "s", 2), takes_over=None)
    held.write(state=ClaimState.FAILED, error=ClaimError("DeviceMemoryError", "Too small."))
    reply = runs.show(asked(desk, run_id=run_id[:6]))
    assert reply.plain["rows_quarantined"] == 1  # as the parts tell that are committed
    assert "shards            1 of 3" in reply.text
    assert f"quarantined rows  {desk.output.location(layout.errors_folder(run_id))}" in reply.text
    assert "shard 2: failed on gpu-0-1@host, begun 2 time(s)" in reply.text
    assert reply.text.endswith("DeviceMemoryError: Too small.")
    with pytest.raises(RunNotFoundError, match=r"No runs in .* have an id that begins with 'zzz'"):
        runs.show(asked(desk, run_id="zzz"))
    desk.leave("another")
    with pytest.raises(RunNotFoundError, match="2 runs in"):
        runs.show(asked(desk, run_id=""))


def test_cleaning_says_what_it_would_remove_and_removes_it_only_when_told(file_desk):
    report = file_desk.run()
    options = {"older_than": timedelta(0), "unfinished": False}
    would = runs.clean_(asked(file_desk, yes=False, **options))
    assert would.plain["would_remove"][0]["batch_run_id"] == report.batch_run_id
    assert "Nothing was removed: repeat with --yes." in would.text
    assert file_desk.documents(report.batch_run_id)
    did = runs.clean_(asked(file_desk, yes=True, **options))
    assert (did.plain["removed"], did.plain["would_remove"]) == ([report.batch_run_id], [])
    assert did.plain["changed_meanwhile"] == []
    assert did.text.endswith("Removed what 1 run(s) left beside their parts.")
    assert file_desk.documents(report.batch_run_id) == []
    assert runs.clean_(asked(file_desk, yes=True, **options)).text.endswith("is that old and at rest.")


def test_the_commands_are_typed_as_their_help_says(file_desk, capsys):
    report = file_desk.run()
    folder = file_desk.output.root
    assert main(["runs", "list", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"][0]["batch_run_id"] == report.batch_run_id
    assert main(["runs", "show", str(folder), report.batch_run_id]) == 0
    assert "status" in capsys.readouterr().out
    assert main(["runs", "clean", str(folder), "--older-than", "30d"]) == 0
    assert "at rest" in capsys.readouterr().out
    assert main(["runs", "show", str(folder), "zzz"]) == 1
    with pytest.raises(SystemExit):
        main(["runs", "clean", str(folder), "--older-than", "soon"])
    assert "'soon' is no age: write days or hours" in capsys.readouterr().err
