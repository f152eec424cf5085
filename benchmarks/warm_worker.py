"""
Claim: a task that scores one row on a warm worker is done many times sooner than one that loads the model itself.

    python benchmarks/warm_worker.py [--rounds 5]

Two Airflow tasks with the same operator, each in a fresh process below Airflow's own supervisor: one names the pool of
a worker that has the model, the other one computes where it is, as all tasks did before there were pools. What is
compared is the time from the operator's ``execute`` to its end; the start of Airflow, which both pay, is told apart.
Beside them the same run from a process that is there already: planned, sent, claimed, computed, committed, reported.
The worker's own log tells that it loaded the model once and fetched its files once.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from measuring import keeping_bytecode
from pool_desk import Desk, Rounds, desk, options_of, seconds_of, tell

_DAG = """
import os, time

from airflow.sdk import DAG

from airflow_provider_hfreg.operators.run_model import RunHFModelOperator

began = []


def begin(context):
    began.append(time.perf_counter())


def end(context, result):
    with open(os.environ["BENCH_TOOK"], "w") as file:
        print(time.perf_counter() - began[0], file=file)


with DAG("bench", schedule=None):
    for task_id, pool in (("on_pool", "cpu"), ("here", None)):
        RunHFModelOperator(
            task_id=task_id, model="bench/v1", input_url=os.environ["BENCH_INPUT"],
            output_url=os.environ["BENCH_OUTPUT"], executor_pool=pool, pre_execute=begin, post_execute=end,
        )
"""
ON_WORKER, HERE = "a task on a warm worker", "a task that loads the model"
THERE = "a process that is there"


class Tasks:
    """Airflow tasks of one row, each in a fresh process."""

    def __init__(self, bench: Desk, plain: Mapping[str, object]) -> None:
        self._bench = bench
        self._dag_file = bench.folder / "dags" / "bench.py"
        self._dag_file.parent.mkdir()
        self._dag_file.write_text(_DAG, encoding="utf-8")
        connection = {"conn_type": "hfreg", "host": bench.version.registry_url}
        self._environment = keeping_bytecode() | {
            "AIRFLOW_HOME": str(bench.folder / "airflow"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self._dag_file.parent),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW_CONN_HFREG_DEFAULT": json.dumps(connection),
            "AIRFLOW__HFREG__CACHE_FOLDER": str(bench.folder / "cache"),
            "AIRFLOW__HFREG__BROKER_URL": str(plain["broker_url"]),
            "AIRFLOW__HFREG__MESSAGE_KEYS": ",".join(plain["message_keys"]),
            "AIRFLOW__HFREG__EXECUTOR_POOLS": json.dumps(plain["pools"]),
            "OMP_NUM_THREADS": "1",
        }

    def run(self, task_id: str) -> tuple[float, float]:
        """Return the seconds of ``execute``, and of the whole process."""
        took = self._bench.folder / "took"
        log = self._bench.folder / "task.log"
        environment = self._environment | {
            "BENCH_TOOK": str(took),
            "BENCH_INPUT": self._bench.url("one"),
            "BENCH_OUTPUT": self._bench.output("one"),
        }
        program = [sys.executable, "-m", "airflow_provider_hfreg.testing.supervised"]
        command = [*program, str(self._dag_file), "bench", task_id, str(log), "False"]
        whole_s = seconds_of(lambda: _succeed(command, environment, log))
        return float(took.read_text(encoding="utf-8")), whole_s


def _succeed(command: list[str], environment: Mapping[str, str], log: Path) -> None:
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    if ended.stdout.split()[-1] != "success":
        raise SystemExit(log.read_text(encoding="utf-8"))


def _ms_in_worker(log: str) -> float:
    """Return how long the worker had a shard, from its message to its commit: the median of what it logged."""
    received, took = _logged_at("1970-01-01 00:00:00,000"), []
    for line in log.splitlines():
        if " received" in line:
            received = _logged_at(line)
        elif " rows ok, " in line:
            took.append((_logged_at(line) - received).total_seconds())
    return 1000 * statistics.median(took)


def _logged_at(line: str) -> datetime:
    return datetime.strptime(f"{line[:23]}+0000", "%Y-%m-%d %H:%M:%S,%f%z")


def main() -> None:
    """Measure, and print."""
    options = options_of(__doc__, rounds=(5, "of all ways, in turn"))
    with desk() as bench:
        bench.table("one", 1)
        pool, (worker,) = bench.workers("cpu", 1)
        tasks = Tasks(bench, worker.plain)
        bench.run_on(pool, "one", 1)  # loads
        tasks.run("on_pool"), tasks.run("here")  # compile what is imported
        took: dict[str, list[float]] = {ON_WORKER: [], HERE: [], THERE: []}
        around = []
        for _ in range(options.rounds):
            for way, task_id in ((ON_WORKER, "on_pool"), (HERE, "here")):
                execute_s, whole_s = tasks.run(task_id)
                took[way].append(execute_s)
                around.append(whole_s - execute_s)
            took[THERE].append(seconds_of(lambda: bench.run_on(pool, "one", 1)))
        rounds = Rounds(took)
        log = worker.log_text()
        tell(
            "warm worker",
            "a task of one row on a warm worker, beside one that loads the model",
            rounds,
            ours=ON_WORKER,
            in_the_worker_ms=round(_ms_in_worker(log), 1),
            from_a_process_that_is_there_ms=round(1000 * statistics.median(took[THERE])),
            from_a_task_ms=round(1000 * statistics.median(took[ON_WORKER])),
            loading_over_a_task_on_the_worker=rounds.ratio(HERE, ON_WORKER),
            loading_over_a_process_that_is_there=rounds.ratio(HERE, THERE),
            airflow_around_either_s=round(statistics.median(around), 2),
            runs_on_the_worker=log.count("rows ok"),
            loads=log.count("Loaded bench/v1"),
        )


if __name__ == "__main__":
    main()
