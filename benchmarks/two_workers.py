"""
Claim: two workers are at least 1.8 times as fast as one, where there are two free cores.

    python benchmarks/two_workers.py [--rounds 3] [--shard-seconds 10] [--shards 8]

Beside them the same rows in one and in two plain processes, each with half of the table and nothing between them: what
this machine gives to two processes at the moment, which is all that workers can have.
"""

from __future__ import annotations

from pool_desk import Rounds, desk, options_of, tell


def main() -> None:
    """Measure, and print."""
    options = options_of(
        __doc__, shard_seconds=(10.0, "of one shard in one process"), shards=(8, "of the table; even, for its halves")
    )
    with desk() as bench:
        processes = [bench.plain(), bench.plain()]
        rows = bench.rows_in(options.shard_seconds, processes[0])
        half = rows * options.shards // 2
        for name, first, count in (("all", 0, 2 * half), ("left", 0, half), ("right", half, half), ("few", 0, 8)):
            bench.table(name, count, first)
        one, _ = bench.workers("one", 1)
        two, _ = bench.workers("two", 2)
        for pool, shard in ((one, 8), (two, 1)):
            bench.run_on(pool, "few", shard)  # loads, in each worker
        bench.run_plain(processes, ["few", "few"], 8)
        ways = {
            "one worker": lambda: bench.run_on(one, "all", rows),
            "two workers": lambda: bench.run_on(two, "all", rows),
            "one plain process": lambda: bench.run_plain(processes[:1], ["all"], rows),
            "two plain processes": lambda: bench.run_plain(processes, ["left", "right"], rows),
        }
        rounds = Rounds.measured(ways, options.rounds)
        tell(
            "two workers",
            "two workers beside one, and two plain processes beside one",
            rounds,
            ours="two workers",
            rows=2 * half,
            rows_per_shard=rows,
            two_workers_over_one=rounds.ratio("one worker", "two workers"),
            two_processes_over_one=rounds.ratio("one plain process", "two plain processes"),
        )


if __name__ == "__main__":
    main()
