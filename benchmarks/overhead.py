"""
Claim: a batch run of a million rows gives half of the rows a second that the bare network gives, or more, where the
network is so small that all else shows; and its memory does not grow with the rows.

    python benchmarks/overhead.py [--rows 1000000] [--repeat 1]

A two-layer BERT 64 wide and texts of 8 to 30 tokens, no two alike, from Parquet to Parquet in one process: read,
tokenised, run, written, committed. Beside it the same network over batches that are filled perfectly and were tokenised
beforehand. Each way is a process of its own that counts from when its model is loaded; a tenth of the rows is run too,
for the memory.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import inputs
from encoders import limit
from measuring import Timed, parsed, tell

_DIRECT_TEXTS = 20_000
_SHARD_ROWS = 50_000
_TINY = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 256}


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=1, help="rounds; each runs both ways once")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parsed(parser)
    if options.child:
        print(json.dumps(_child(options.child[0], Path(options.child[1]), options.rows)))
        return
    with tempfile.TemporaryDirectory(prefix="hfreg-bench-") as name:
        folder = Path(name)
        model = inputs.write(folder / "model", "AutoModelForSequenceClassification", **_TINY)
        inputs.version(folder, model, "text-classification")
        for rows in (options.rows // 10, options.rows):
            _write(folder / f"in-{rows}", rows)
        small = _measured("ours", folder, options.rows // 10, options)
        rounds = [
            {way: _measured(way, folder, options.rows, options) for way in ("ours", "network alone")}
            for _ in range(options.repeat)
        ]
    timed = {
        way: Timed(*(statistics.median(each[way][unit] for each in rounds) for unit in ("cpu_s", "wall_s")))
        for way in rounds[0]
    }
    tell(
        "overhead",
        "a run of many rows of a tiny classifier against the network alone",
        timed,
        ours="ours",
        settings={"rows": options.rows, "threads": options.threads, "repeat": options.repeat},
        rows_per_s=round(options.rows / timed["ours"].wall_s),
        share_of_the_networks_rows_per_s=round(timed["network alone"].wall_s / timed["ours"].wall_s, 2),
        peak_memory_mib=max(each["ours"]["peak_mib"] for each in rounds),
        peak_memory_mib_of_a_tenth=small["peak_mib"],
    )


def _write(folder: Path, rows: int) -> None:
    """Write distinct texts as Parquet, a part at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir()
    schema = pa.schema({"id": pa.int64(), "text": pa.string()})
    with pq.ParquetWriter(folder / "a.parquet", schema) as writer:
        for first in range(0, rows, _SHARD_ROWS):
            count = min(_SHARD_ROWS, rows - first)
            texts = inputs.texts(count, longest=30, seed=first)
            writer.write_table(pa.table([range(first, first + count), texts], schema=schema))


def _measured(way: str, folder: Path, rows: int, options: Any) -> dict[str, float]:
    command = [sys.executable, __file__, "--rows", str(rows), "--threads", str(options.threads)]
    ended = subprocess.run([*command, "--child", way, str(folder)], check=True, stdout=subprocess.PIPE, text=True)
    told: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    return told


def _child(way: str, folder: Path, rows: int) -> dict[str, float]:
    """Run one way and return what it took, and the most memory that this process ever had."""
    from airflow_provider_hfreg.registry import Registry
    from airflow_provider_hfreg.runs.batch import run_batch
    from airflow_provider_hfreg.runs.spec import BatchRequest

    version = Registry((folder / "registry").as_uri(), cache_folder=folder / "cache").resolve("text-classification/v1")
    engine = version.engine(device="cpu")
    request = BatchRequest(
        (folder / f"in-{rows}").as_uri(), (folder / f"out-{os.getpid()}").as_uri(), rows_per_shard=_SHARD_ROWS
    )
    forward = limit(engine, inputs.texts(min(rows, _DIRECT_TEXTS), longest=30)) if way != "ours" else None
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    if forward is None:
        report = run_batch(request, version=version, identity="bench", registry_url=version.registry_url)
        assert (report.rows_ok, report.rows_quarantined) == (rows, 0)
    else:
        for _ in range(0, rows, _DIRECT_TEXTS):
            forward()
    return {
        "cpu_s": time.process_time() - cpu_s,
        "wall_s": time.perf_counter() - wall_s,
        "peak_mib": _peak_mib(),
    }


def _peak_mib() -> int:
    """Return the most memory that this process had; ru_maxrss of a child begins with what its parent had."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) // 1024


if __name__ == "__main__":
    main()
