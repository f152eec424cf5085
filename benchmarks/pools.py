"""
What an executor pool is worth: a warm model against a fresh process, and two workers against one.

    python benchmarks/pools.py [--rows 100000]

Real Redis, real workers, tables in a temporary folder. Every figure is a ratio of two measured here in one run; on a
machine that does other things too, run it more than once. The spread needs two free cores.
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from airflow_provider_hfreg.registry import ModelVersion, Registry
from airflow_provider_hfreg.runs.batch import run_batch
from airflow_provider_hfreg.runs.execution import Execution, InProcess
from airflow_provider_hfreg.runs.spec import BatchRequest
from airflow_provider_hfreg.testing.models import text_classifier
from airflow_provider_hfreg.testing.workers import WorkerProcess, redis_server, workers_settings
from airflow_provider_hfreg.workers.client import OnPool

_REPEATS = 5

_FRESH = """
import sys, time
from airflow_provider_hfreg.registry import Registry
from airflow_provider_hfreg.runs.batch import run_batch
from airflow_provider_hfreg.runs.spec import BatchRequest
registry = Registry(sys.argv[1], cache_folder=sys.argv[2])
request = BatchRequest(input=sys.argv[3], output=sys.argv[4])
run_batch(request, version=registry.resolve("bench"), identity="fresh", registry_url=registry.url)
"""


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000, help="of the table that is spread, in eight shards")
    options = parser.parse_args()
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory(prefix="hfreg-bench-") as name, ExitStack() as running:
        folder = Path(name)
        bench = _Bench(folder, rows_per_shard=options.rows // 8)
        bench.table("one", 1)
        bench.table("many", options.rows)
        redis = running.enter_context(redis_server(folder / "redis"))
        plain = workers_settings(redis.url, [{"url": folder.as_uri()}], cache_folder=str(folder / "cache"))
        first = running.enter_context(WorkerProcess(plain, folder / "w1"))
        pool = OnPool(first.settings, first.settings.pool("cpu"))
        bench.run("one", pool)  # loads
        warm = bench.best(lambda: bench.run("one", pool))
        fresh = bench.best(lambda: bench.run_fresh("one"), repeats=2)
        print(f"one row on a warm worker: {warm:.2f} s; in a fresh process: {fresh:.2f} s; ratio {fresh / warm:.1f}")
        bench.run("many", InProcess())
        here = bench.best(lambda: bench.run("many", InProcess()), repeats=2)
        one = bench.best(lambda: bench.run("many", pool), repeats=2)
        running.enter_context(WorkerProcess(plain, folder / "w2"))
        bench.run("many", pool)  # loads in the second
        two = bench.best(lambda: bench.run("many", pool), repeats=2)
        print(f"{options.rows} rows: in one process {here:.1f} s, on one worker {one:.1f} s, on two {two:.1f} s")
        print(f"cost of spreading {100 * (one / here - 1):.0f} %; two workers against one: {one / two:.2f}")
        print(f"loads in the first worker: {first.log_text().count('Loaded bench/v1')}")


class _Bench:
    def __init__(self, folder: Path, *, rows_per_shard: int) -> None:
        self._folder, self._rows_per_shard = folder, rows_per_shard
        self._number: Counter[str] = Counter()
        registry = Registry((folder / "registry").as_uri(), cache_folder=folder / "cache")
        model = text_classifier(folder / "model")
        self.version: ModelVersion = registry.log_folder(
            model, model_name="bench", version_name="v1", task="text-classification"
        )

    def table(self, name: str, rows: int) -> None:
        texts = [f"film {number}: " + "the film was good " * (1 + number % 12) for number in range(rows)]
        (self._folder / name).mkdir()
        pq.write_table(pa.table({"text": texts}), self._folder / name / "a.parquet", row_group_size=1000)

    def output(self, name: str) -> str:
        self._number[name] += 1
        return (self._folder / f"{name}-{self._number[name]}").as_uri()

    def run(self, name: str, execution: Execution) -> None:
        rows = self._rows_per_shard
        request = BatchRequest((self._folder / name).as_uri(), self.output(name), rows_per_shard=rows)
        url = self.version.registry_url
        run_batch(request, version=self.version, identity="bench", registry_url=url, execution=execution)

    def run_fresh(self, name: str) -> None:
        arguments = [self.version.registry_url, str(self._folder / "cache"), (self._folder / name).as_uri()]
        command = [sys.executable, "-c", _FRESH, *arguments, self.output(name)]
        subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True)

    @staticmethod
    def best(act: Callable[[], None], repeats: int = _REPEATS) -> float:
        """Return the shortest of a few, in seconds: what others do on the machine only lengthens."""
        took = []
        for _ in range(repeats):
            began_s = time.perf_counter()
            act()
            took.append(time.perf_counter() - began_s)
        return min(took)


if __name__ == "__main__":
    main()
