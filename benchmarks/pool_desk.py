"""
What the benchmarks of executor pools share: tables, warm processes of every kind, rounds, and how a result is told.

Every figure is a ratio of two that were measured in one run, the ways taking turns; on a machine that does other things
too, the rounds show by how much that matters. All processes compute with one thread.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from measuring import TABLE_MARK, machine

from airflow_provider_hfreg.registry import ModelVersion, Registry
from airflow_provider_hfreg.runs.batch import run_batch
from airflow_provider_hfreg.runs.spec import BatchRequest
from airflow_provider_hfreg.testing.models import text_classifier
from airflow_provider_hfreg.testing.workers import WorkerProcess, redis_server, workers_settings
from airflow_provider_hfreg.workers.client import OnPool

_ONE_THREAD = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
_CALIBRATION_ROWS = 4000

# Runs what it is told on its standard input, a table and an output a line; says how it went.
_PLAIN = """
import sys
from airflow_provider_hfreg.registry import Registry
from airflow_provider_hfreg.runs.batch import run_batch
from airflow_provider_hfreg.runs.spec import BatchRequest
registry = Registry(sys.argv[1], cache_folder=sys.argv[2])
version = registry.resolve("bench")
for line in sys.stdin:
    table, output, rows = line.split()
    request = BatchRequest(table, output, rows_per_shard=int(rows))
    report = run_batch(request, version=version, identity="plain", registry_url=registry.url)
    print(report.rows_ok, flush=True)
"""


def options_of(description: str | None, **more: tuple[Any, str]) -> argparse.Namespace:
    """Return the options of a benchmark: its rounds, and what else it has by name, default and help."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, (default, help_text) in ({"rounds": (3, "of all ways, in turn")} | more).items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=type(default), default=default, help=f"{help_text}; default: {default}")
    return parser.parse_args()


class PlainProcess:
    """A process with the model loaded that runs tables without any pool."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        command = [sys.executable, "-c", _PLAIN, desk.version.registry_url, str(desk.folder / "cache")]
        environment = os.environ | _ONE_THREAD
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def begin(self, table: str, rows_per_shard: int) -> None:
        """Let it run a table; :meth:`wait` for it."""
        assert self._process.stdin is not None
        print(self._desk.url(table), self._desk.output(table), rows_per_shard, file=self._process.stdin, flush=True)

    def wait(self) -> int:
        """Return how many rows it ran."""
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


class Desk:
    """Tables below a folder, a version, and workers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._outputs: Counter[str] = Counter()
        self._rows: dict[str, int] = {}
        self._running = contextlib.ExitStack()
        registry = Registry((folder / "registry").as_uri(), cache_folder=folder / "cache")
        model = text_classifier(folder / "model")
        self.version: ModelVersion = registry.log_folder(
            model, model_name="bench", version_name="v1", task="text-classification"
        )
        self._redis_url = self._running.enter_context(redis_server(folder / "redis")).url

    def close(self) -> None:
        """End all that was started."""
        self._running.close()

    def table(self, name: str, rows: int, first: int = 0) -> None:
        """Make a table; rows of one number have one text, whatever table they are in."""
        texts = [f"film {number}: " + "the film was good " * (1 + number % 12) for number in range(first, first + rows)]
        (self.folder / name).mkdir()
        pq.write_table(pa.table({"text": texts}), self.folder / name / "a.parquet", row_group_size=1000)
        self._rows[name] = rows

    def url(self, name: str) -> str:
        """Return where a table lies."""
        return (self.folder / name).as_uri()

    def output(self, name: str) -> str:
        """Return an output folder that nobody has used."""
        self._outputs[name] += 1
        return (self.folder / f"{name}-{self._outputs[name]}").as_uri()

    def workers(self, pool: str, count: int) -> tuple[OnPool, list[WorkerProcess]]:
        """Start workers of a pool, and return what runs on it."""
        storages = [{"url": self.folder.as_uri()}]
        cache = str(self.folder / "cache")
        plain = workers_settings(self._redis_url, storages, cache_folder=cache, pools={pool: {}})
        started = [
            self._running.enter_context(WorkerProcess(plain, self.folder / f"{pool}-worker-{number}", _ONE_THREAD))
            for number in range(count)
        ]
        settings = started[0].settings
        return OnPool(settings, settings.pool(pool)), started

    def plain(self) -> PlainProcess:
        """Start a plain process."""
        process = PlainProcess(self)
        self._running.callback(process.close)
        return process

    def run_on(self, pool: OnPool, table: str, rows_per_shard: int) -> None:
        """Run a table on a pool."""
        request = BatchRequest(self.url(table), self.output(table), rows_per_shard=rows_per_shard)
        url = self.version.registry_url
        report = run_batch(request, version=self.version, identity="bench", registry_url=url, execution=pool)
        assert report.rows_ok == self._rows[table]

    def run_plain(self, processes: Sequence[PlainProcess], tables: Sequence[str], rows_per_shard: int) -> None:
        """Run tables, each in a process of its own, at once."""
        for process, table in zip(processes, tables, strict=True):
            process.begin(table, rows_per_shard)
        for process, table in zip(processes, tables, strict=True):
            assert process.wait() == self._rows[table]

    def rows_in(self, seconds: float, process: PlainProcess) -> int:
        """Return how many rows a warm plain process computes in a time, as it is now."""
        self.table("calibration", _CALIBRATION_ROWS)
        self.run_plain([process], ["calibration"], _CALIBRATION_ROWS)  # loads
        took = seconds_of(lambda: self.run_plain([process], ["calibration"], _CALIBRATION_ROWS))
        return max(1, round(_CALIBRATION_ROWS * seconds / took))


@contextlib.contextmanager
def desk() -> Iterator[Desk]:
    """Make a desk in a temporary folder."""
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory(prefix="hfreg-bench-") as name, contextlib.closing(Desk(Path(name))) as made:
        yield made


def seconds_of(act: Callable[[], None]) -> float:
    """Return how long something takes."""
    began_s = time.perf_counter()
    act()
    return time.perf_counter() - began_s


@dataclass(frozen=True)
class Rounds:
    """
    Seconds of several ways, round by round.

    :param took: of each way, in the rounds' order.
    """

    took: Mapping[str, Sequence[float]]

    @classmethod
    def measured(cls, ways: Mapping[str, Callable[[], None]], rounds: int) -> Rounds:
        """Measure all ways in every round, each round beginning with another one."""
        names = list(ways)
        took: dict[str, list[float]] = {name: [] for name in names}
        for number in range(rounds):
            for name in names[number % len(names) :] + names[: number % len(names)]:
                took[name].append(seconds_of(ways[name]))
        return cls(took)

    def ratio(self, one: str, other: str) -> dict[str, float]:
        """Return ``one`` / ``other`` of each round: its median, least and most."""
        ratios = [a / b for a, b in zip(self.took[one], self.took[other], strict=True)]
        return {
            "median": round(statistics.median(ratios), 3),
            "least": round(min(ratios), 3),
            "most": round(max(ratios), 3),
        }


def tell(name: str, claim: str, rounds: Rounds, *, ours: str, **figures: Any) -> None:
    """
    Print a table for people, then one line of JSON for scripts: of the wall clock alone, since many processes compute.

    :param ours: the way that the others are compared with.
    """
    print(f"\n{name}: {claim}\n")
    for way, took in rounds.took.items():
        print(f"  {way:40} {statistics.median(took):9.3f} s   {' '.join(f'{seconds:.3f}' for seconds in took)}")
    for figure, value in figures.items():
        print(f"  {figure.replace('_', ' '):40} {value}")
    ways = {way: {"wall_s": round(statistics.median(took), 3)} for way, took in rounds.took.items()}
    settings = {"rounds": min(map(len, rounds.took.values()))}
    facts = {"name": name, "claim": claim, "ours": ours, "ways": ways, **figures, **settings, **machine()}
    print(TABLE_MARK + json.dumps(facts, ensure_ascii=False), flush=True)
