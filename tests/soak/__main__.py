"""
``make soak``: rounds of runs on the stack, with kill -9 at random moments; each must come to what a clean run comes to.

    python tests/soak .stack [rounds=30] [rows=100000] [big_rows=1000000] [kills=3] [seed=N]

It asserts, so it lives with the tests and not with the benchmarks; it takes the better part of an hour, so pytest does
not run it. It starts the stack if it is not up, and leaves it up. Run again, it goes on with the round after the last
one that was right. A round that is wrong ends it with status 1; what is needed to look into it is kept, and named.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import secrets
import shutil
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

# Before torch is loaded: on a machine that is busy, threads of a small model mostly wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from soak_kills import KINDS, Kill, draw_kills, draw_one_of_each
from soak_plan import Plan, Record, left_s, read_arguments, table
from soak_round import Result, Round, play
from soak_tables import Outcome, count_shards, put_texts, read_outcome

from airflow_provider_hfreg.registry import ModelVersion, Registry
from airflow_provider_hfreg.runs.batch import run_batch
from airflow_provider_hfreg.runs.spec import BatchRequest
from airflow_provider_hfreg.storage.urls import open_store
from airflow_provider_hfreg.testing.airflow import NO_ANSWER
from airflow_provider_hfreg.testing.models import text_classifier
from airflow_provider_hfreg.testing.stack.client import RunningStack, up
from airflow_provider_hfreg.testing.stack.parts import WORKERS
from airflow_provider_hfreg.testing.stack.roll_call import count_workers

ROOT = Path(__file__).resolve().parents[2]
DAGS = [ROOT / "example_dags", ROOT / "tests" / "soak" / "dags"]
_SHARDS = 20
_NIGHTLY_SHARD_ROWS = 4_000  # the example's own
_TIMEOUT_S = {"soak": 1800.0, "sentiment_nightly": 5400.0}


def main(words: list[str]) -> int:
    """Play the rounds that are left, and return the status to exit with."""
    folder, given = Path(words[0]).resolve(), read_arguments(words[1:])
    stack = up(folder, DAGS, say)
    (kept := folder / "soak").mkdir(exist_ok=True)
    record = Record(kept)
    plan = record.plan(given, new_seed=secrets.randbelow(1_000_000))
    record.begin(plan)
    say(f"{plan}; `make soak` goes on with it, seed={plan.seed} repeats it.")
    soak = Soak(stack, plan, kept)
    for number in range(record.complete(plan) + 1, plan.total + 1):
        result, spec = soak.round(number)
        record.add(_line(plan, spec, result))
        if result.wrong:
            say(f"  WRONG: {'; '.join(result.wrong)}\n  {soak.keep_evidence(spec, result)}")
            break
        left = left_s(plan, record.lines())
        say(f"  as a clean run: {_told(result)}; about {(left or 0) / 60:.0f} min left")
    lines = record.lines()
    print(f"\n{table(lines, KINDS)}\n\n{len(lines)} rounds of the plan's {plan.total}, seed {plan.seed}", flush=True)
    return int(record.complete(plan) < plan.total)


class Soak:
    """
    The rounds of a plan on a stack.

    :param kept: folder for what is kept of wrong rounds.
    """

    def __init__(self, stack: RunningStack, plan: Plan, kept: Path) -> None:
        self._stack, self._plan, self._kept = stack, plan, kept
        self._s3 = stack.s3_settings()
        self._lake = stack.state.bucket_url
        self._cleans: dict[str, Outcome] = {}
        self._registry = Registry(f"{self._lake}/registry", s3=self._s3, cache_folder=kept / "cache")

    @functools.cached_property
    def _version(self) -> ModelVersion:
        """The tiny classifier, logged: the same content is found."""
        model = self._kept / "model"
        shutil.rmtree(model, ignore_errors=True)
        text_classifier(model)
        return self._registry.log_folder(
            model, model_name="soak", task="text-classification", pipeline_kwargs={"truncation": True}
        )

    def round(self, number: int) -> tuple[Result, Round]:
        """Play a round."""
        rows, seed = self._plan.rows_of(number), f"{self._plan.seed}-{number}"
        put_texts(open_store(self._input(rows), self._s3), rows)
        spec = self._ordinary(number, seed, rows) if number <= self._plan.rounds else self._nightly(number, seed, rows)
        say(f"round {number} of {self._plan.total}, seed {seed}: {rows:,} rows by {spec.dag_id} into {spec.output_url}")
        self._end_earlier_runs(spec.dag_id)
        self._wait_for_workers()
        result = play(self._stack, spec, say)
        if not result.wrong:
            output = open_store(spec.output_url, self._s3)
            output.delete([info.key for info in output.list_infos()])
        return result, spec

    def _input(self, rows: int) -> str:
        return f"{self._lake}/soak/texts-{rows}"

    def _output(self, number: int) -> str:
        # Another folder at each try, so that a soak that was broken off leaves nothing in the way.
        return f"{self._lake}/soak/round-{number:03d}-{uuid.uuid4().hex[:6]}"

    def _ordinary(self, number: int, seed: str, rows: int) -> Round:
        clean = self._clean(self._version, rows, rows // _SHARDS)
        output_url = self._output(number)
        reference = f"{self._version.model_name}/{self._version.version_name}"
        given = {"model": reference, "input_url": f"{self._input(rows)}/*.parquet", "output_url": output_url}
        kills = draw_kills(seed, number, self._plan.kills)
        each = rows // _SHARDS
        conf = given | {"rows_per_shard": each}
        return self._round(number, seed, "soak", output_url, conf, kills, lambda _: clean, rows_per_shard=each)

    def _nightly(self, number: int, seed: str, rows: int) -> Round:
        """Return the round of the nightly example, which trains its own model: the clean run comes after it."""
        output_url = self._output(number)
        conf = {
            "workspace_url": f"{self._lake}/soak/nightly",
            "input_url": f"{self._input(rows)}/*.parquet",
            "output_url": output_url,
            "model_name": "soak-nightly",
            "epochs": 1,
            "train_rows": 2_000,
            "min_accuracy": 0.4,
            "executor_pool": "cpu",
        }

        def clean(report: dict[str, object]) -> Outcome:
            version = self._registry.resolve(f"{report['model_name']}/{report['version_name']}")
            return self._clean(version, rows, _NIGHTLY_SHARD_ROWS)

        kills, each = draw_one_of_each(seed), _NIGHTLY_SHARD_ROWS
        return self._round(number, seed, "sentiment_nightly", output_url, conf, kills, clean, rows_per_shard=each)

    def _round(
        self,
        number: int,
        seed: str,
        dag_id: str,
        output_url: str,
        conf: dict[str, object],
        kills: tuple[Kill, ...],
        clean: Callable[[dict[str, object]], Outcome],
        *,
        rows_per_shard: int,
    ) -> Round:
        rows, timeout_s = self._plan.rows_of(number), _TIMEOUT_S[dag_id]
        shards = count_shards(rows, rows_per_shard)
        return Round(number, seed, rows, shards, dag_id, output_url, conf, kills, clean, timeout_s)

    def _clean(self, version: ModelVersion, rows: int, rows_per_shard: int) -> Outcome:
        """Return what a run comes to that nobody disturbs, in this process; it is kept for the next time."""
        url = f"{self._lake}/soak/clean-{rows}-{version.content_digest[-12:]}"
        if url in self._cleans:
            return self._cleans[url]
        request = BatchRequest(
            input=f"{self._input(rows)}/*.parquet",
            output=url,
            passthrough=("id",),
            output_prefix="predicted_",
            rows_per_shard=rows_per_shard,
        )
        is_begun_anew = open_store(url, self._s3).find_info("_SUCCESS") is None
        if is_begun_anew:
            say(f"  a clean run of {rows:,} rows, for comparison")
        report = run_batch(
            request,
            version=version,
            identity="clean",
            registry_url=self._registry.url,
            s3=self._s3,
            rerun=is_begun_anew,  # what a soak that was broken off began is resumed, or abandoned if it was another one
            log=_LOG,
            progress_interval_s=20.0,
        )
        self._cleans[url] = read_outcome(open_store(url, self._s3), report.batch_run_id)
        return self._cleans[url]

    def _end_earlier_runs(self, dag_id: str) -> None:
        """End what a soak that was broken off left running."""
        airflow = self._stack.airflow()

        def end() -> bool:
            for run in airflow.call("GET", f"dags/{dag_id}/dagRuns?state=running&state=queued")["dag_runs"]:
                airflow.call("PATCH", f"dags/{dag_id}/dagRuns/{run['dag_run_id']}", state="failed")
            return True

        airflow.wait_until("earlier runs are ended", end, timeout_s=120)

    def _wait_for_workers(self) -> None:
        """Begin with both: one that was killed at the end of the round before may still be starting."""
        environment = self._stack.state.environment
        self._stack.airflow().wait_until(
            "both workers answer", lambda: count_workers(environment) == len(WORKERS), timeout_s=600
        )

    def keep_evidence(self, spec: Round, result: Result) -> str:
        """Keep what a wrong round can be looked into by, and return where it is."""
        folder = self._kept / f"wrong-{spec.number:03d}-{spec.output_url[-6:]}"
        folder.mkdir()
        shutil.copytree(self._stack.path / "logs", folder / "logs")
        shutil.copy(self._stack.folder.log_path, folder)
        keys = [info.key for info in open_store(spec.output_url, self._s3).list_infos()]
        told = asdict(result) | {"seed": spec.seed, "kills": [str(kill) for kill in spec.kills], "keys": keys}
        (folder / "round.json").write_text(json.dumps(told, indent=1, default=str))
        airflow = self._stack.airflow()
        for number in range(1, result.tries + 1):
            try:
                lines = airflow.log_events(spec.dag_id, result.run_id, "score", try_number=number)
            except NO_ANSWER as error:
                lines = [f"no log: {error}"]
            (folder / f"try-{number}.log").write_text("\n".join(lines))
        return f"evidence: {folder}; the output stays in {spec.output_url}; run {result.run_id} of {spec.dag_id}"


def _line(plan: Plan, spec: Round, result: Result) -> dict[str, object]:
    report = result.report
    return {
        "number": spec.number,
        "seed": plan.seed,
        "rows": spec.rows,
        "quarantined": report.get("rows_quarantined", 0),
        "killed": result.killed,
        "late": len(spec.kills) - len(result.killed),  # the run ended before their moments
        "tries": result.tries,
        "resumed": report.get("shards_resumed", 0),
        "elapsed_s": round(result.elapsed_s, 1),
        "wrong": result.wrong,
    }


def _told(result: Result) -> str:
    report = result.report
    return (
        f"{report['rows_in']:,} rows in = {report['rows_ok']:,} ok + {report['rows_quarantined']:,} quarantined, "
        f"{result.tries} tries, {report['shards_resumed']} shards resumed, {result.elapsed_s:.0f} s"
    )


def say(text: str) -> None:
    """Tell a line, with the time."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


class _Saying(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(f"    {record.getMessage()}")


_LOG = logging.getLogger("soak.clean")
_LOG.setLevel(logging.INFO)
_LOG.addHandler(_Saying())
_LOG.propagate = False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
