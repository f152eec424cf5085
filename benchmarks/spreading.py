"""
Claim: sending shards of half a minute to a worker costs less than 5 % over running them in one process.

    python benchmarks/spreading.py [--rounds 3] [--shard-seconds 30] [--shards 4]

Queue, claims, renewals, following, commits: one worker against one plain process over the same shards, both warm.
"""

from __future__ import annotations

from pool_desk import Rounds, desk, options_of, tell


def main() -> None:
    """Measure, and print."""
    options = options_of(__doc__, shard_seconds=(30.0, "of one shard in one process"), shards=(4, "of the table"))
    with desk() as bench:
        process = bench.plain()
        rows = bench.rows_in(options.shard_seconds, process)
        bench.table("all", rows * options.shards)
        bench.table("few", 8)
        pool, _ = bench.workers("cpu", 1)
        bench.run_on(pool, "few", 8)  # loads
        ways = {
            "one plain process": lambda: bench.run_plain([process], ["all"], rows),
            "one worker": lambda: bench.run_on(pool, "all", rows),
        }
        rounds = Rounds.measured(ways, options.rounds)
        ratio = rounds.ratio("one worker", "one plain process")
        tell(
            "spreading",
            "shards of half a minute on a worker, beside a process that runs them without a pool",
            rounds,
            ours="one worker",
            rows_per_shard=rows,
            worker_over_process=ratio,
            cost_percent=round(100 * (ratio["median"] - 1), 1),
        )


if __name__ == "__main__":
    main()
