"""
Claim: on a warm worker the first row of a run comes many times sooner than in a fresh process.

    python benchmarks/warm_worker.py [--rounds 7]

A run of one row, whole: planned, sent, claimed, computed, committed, reported. On a worker that has the model loaded,
the sender's process being there already; and in a process that starts for it, as an Airflow task's does, loads and runs
it without any pool. The worker's own log tells that it loaded the model once and fetched no file again.
"""

from __future__ import annotations

import os
import subprocess
import sys

from pool_desk import Rounds, desk, options_of, tell

_FRESH = """
import sys
from airflow_provider_hfreg.registry import Registry
from airflow_provider_hfreg.runs.batch import run_batch
from airflow_provider_hfreg.runs.spec import BatchRequest
registry = Registry(sys.argv[1], cache_folder=sys.argv[2])
request = BatchRequest(sys.argv[3], sys.argv[4])
run_batch(request, version=registry.resolve("bench"), identity="fresh", registry_url=registry.url)
"""


def main() -> None:
    """Measure, and print."""
    options = options_of(__doc__, rounds=(7, "of both ways, in turn"))
    with desk() as bench:
        bench.table("one", 1)
        pool, (worker,) = bench.workers("cpu", 1)

        def on_worker() -> None:
            bench.run_on(pool, "one", 1)

        def in_fresh_process() -> None:
            arguments = [bench.version.registry_url, str(bench.folder / "cache"), bench.url("one"), bench.output("one")]
            command = [sys.executable, "-c", _FRESH, *arguments]
            subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True)

        on_worker()  # loads
        rounds = Rounds.measured(
            {"on a warm worker": on_worker, "in a fresh process": in_fresh_process}, options.rounds
        )
        tell(
            "one row on a warm worker, next to a fresh process",
            rounds,
            first_row_ms=round(1000 * min(rounds.took["on a warm worker"])),
            fresh_over_warm=rounds.ratio("in a fresh process", "on a warm worker"),
            loads=worker.log_text().count("Loaded bench/v1"),
        )


if __name__ == "__main__":
    main()
