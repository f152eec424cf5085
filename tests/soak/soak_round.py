"""One round: a run of a DAG on the stack, killed at its moments, and compared with a clean run."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from soak_kills import Kill
from soak_tables import Outcome, differences, read_outcome

from airflow_provider_hfreg.errors import HfregError, StackError
from airflow_provider_hfreg.storage.base import ObjectStore
from airflow_provider_hfreg.storage.urls import open_store
from airflow_provider_hfreg.testing.airflow import NO_ANSWER, RunningAirflow
from airflow_provider_hfreg.testing.stack.client import RunningStack

_POLL_S = 0.3
_SAY_S = 20.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class Round:
    """
    What is run.

    :param clean: gives what a clean run of the same comes to; called with the run's report.
    :param conf: of the DAG's run.
    """

    number: int
    seed: str
    rows: int
    shards: int
    dag_id: str
    output_url: str
    conf: dict[str, object]
    kills: tuple[Kill, ...]
    clean: Callable[[dict[str, object]], Outcome]
    timeout_s: float


@dataclass
class Result:
    """
    What came of a round.

    :param killed: the kinds, in order; a kill whose moment did not come before the end is none.
    :param wrong: in words; nothing where all is as it should be.
    """

    run_id: str = ""
    killed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    report: dict[str, object] = field(default_factory=dict)
    tries: int = 0
    elapsed_s: float = 0.0


def play(stack: RunningStack, spec: Round, say: Say) -> Result:
    """Run a round to its end."""
    airflow, began_s = stack.airflow(), time.monotonic()
    result = Result()
    with contextlib.suppress(TimeoutError):
        result.run_id = airflow.trigger(spec.dag_id, spec.conf)
        _Playing(stack, airflow, spec, result, say).follow()
    result.elapsed_s = time.monotonic() - began_s
    if not result.run_id:
        result.wrong.append(f"Airflow did not take a run of {spec.dag_id}: {stack.log_tail()}")
    if not result.wrong:
        result.report = airflow.wait_until(
            "the report is there", lambda: airflow.xcom(spec.dag_id, result.run_id, "score"), timeout_s=60
        )
        # The last kill may have been that of the storage, a moment after the run's end.
        output = open_store(spec.output_url, stack.s3_settings())
        airflow.wait_until("the storage answers", lambda: _answers(output), timeout_s=300)
        result.wrong = list(_wrong(output, spec, result.report))
    return result


class _Playing:
    def __init__(self, stack: RunningStack, airflow: RunningAirflow, spec: Round, result: Result, say: Say) -> None:
        self._stack, self._airflow, self._spec, self._result, self._say = stack, airflow, spec, result, say
        self._output = open_store(spec.output_url, stack.s3_settings())
        self._ahead = list(spec.kills)
        self._due_s: float | None = None
        self._done = 0
        self._is_scoring = False

    def follow(self) -> None:
        """Return when the run has ended; what was to be killed meanwhile was."""
        deadline = time.monotonic() + self._spec.timeout_s
        said_s = time.monotonic()
        while (state := self._state()) not in ("success", "failed"):
            if time.monotonic() > deadline:
                self._result.wrong.append(f"The run did not end in {self._spec.timeout_s:.0f} s; it is {state}.")
                return
            self._look()
            if self._ahead and self._is_due(self._ahead[0]) and self._carry_out(self._ahead[0]):
                kill = self._ahead.pop(0)
                self._due_s = None
                self._result.killed.append(kill.kind)
                self._say(f"  killed {kill}; {self._done} of {self._spec.shards} shards are there")
            if time.monotonic() - said_s > _SAY_S:
                said_s = time.monotonic()
                self._say(f"  {self._done} of {self._spec.shards} shards, try {self._result.tries}")
            time.sleep(_POLL_S)
        if state == "failed":
            self._result.wrong.append(f"The DAG's run failed after {self._result.tries} tries of its task.")
        self._call_off_others()

    def _state(self) -> str | None:
        with contextlib.suppress(*NO_ANSWER):
            path = f"dags/{self._spec.dag_id}/dagRuns/{self._result.run_id}"
            return str(self._airflow.call("GET", path)["state"])
        return None

    def _look(self) -> None:
        with contextlib.suppress(*NO_ANSWER):
            task = self._airflow.task(self._spec.dag_id, self._result.run_id, "score")
            self._is_scoring = task["state"] == "running"
            self._result.tries = max(self._result.tries, task["try_number"] or 0)
            if not self._is_scoring and self._result.tries == 0:
                self._call_off_others()
        with contextlib.suppress(HfregError):
            self._done = sum(1 for _ in self._output.list_infos("part-"))

    def _call_off_others(self) -> None:
        """End the runs that the DAG's own schedule began: they would take the workers."""
        with contextlib.suppress(*NO_ANSWER):
            for run in self._airflow.call("GET", f"dags/{self._spec.dag_id}/dagRuns")["dag_runs"]:
                if run["dag_run_id"] != self._result.run_id and run["state"] in ("queued", "running"):
                    self._airflow.call("PATCH", f"dags/{self._spec.dag_id}/dagRuns/{run['dag_run_id']}", state="failed")

    def _is_due(self, kill: Kill) -> bool:
        if self._done < kill.at * self._spec.shards or not (self._is_scoring or self._done):
            return False
        self._due_s = self._due_s or time.monotonic() + kill.after_s
        return time.monotonic() >= self._due_s

    def _carry_out(self, kill: Kill) -> bool:
        """Kill it, and return whether there was something to kill; else it is tried again a moment later."""
        if kill.kind == "task":
            return self._kill_task()
        try:
            self._stack.kill(f"worker-{kill.which}" if kill.kind == "worker" else kill.kind, away_s=kill.away_s)
        except StackError:
            return False
        return True

    def _kill_task(self) -> bool:
        with contextlib.suppress(*NO_ANSWER, ProcessLookupError):
            task = self._airflow.task(self._spec.dag_id, self._result.run_id, "score")
            pid = task["pid"]
            if task["state"] == "running" and pid and self._stack.owns(pid):
                os.kill(pid, signal.SIGKILL)
                return True
        return False


def _answers(store: ObjectStore) -> bool:
    with contextlib.suppress(HfregError):
        return list(store.list_infos()) != []
    return False


def _wrong(output: ObjectStore, spec: Round, report: dict[str, object]) -> Iterator[str]:
    """Return what is not as it should be, in words."""
    got = read_outcome(output, str(report["batch_run_id"]))
    told = (report["rows_in"], report["rows_ok"], report["rows_quarantined"])
    if told != (spec.rows, got.ok.num_rows, got.quarantined.num_rows):
        yield f"the report says {told} of {spec.rows} rows in, ok and quarantined"
    yield from differences(spec.clean(report), got, spec.rows)
