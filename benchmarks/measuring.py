"""
How the benchmarks measure and tell: ways in turn within one run, medians, a table to read and one line of JSON.

What others do on the machine changes from minute to minute, so a figure alone says little: each round runs every way
once, and what is told are ratios of medians. CPU seconds of the process count, beside the wall clock: on a shared
machine they are the steadier of the two. Of a GPU the wall clock alone tells; there each way is waited for to its end.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TABLE_MARK = "JSON "
"""What the line of JSON begins with."""


@dataclass(frozen=True)
class Timed:
    """What one way took, in seconds: medians of the rounds."""

    cpu_s: float
    wall_s: float


def arguments(description: str | None, *, rows: int, repeat: int = 3) -> argparse.ArgumentParser:
    """Return a parser with what every benchmark has; torch's threads are set from it before torch is imported."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=rows)
    parser.add_argument("--repeat", type=int, default=repeat, help="rounds; each runs every way once")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    return parser


def on_devices(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Let a benchmark run on another device than the processor, and in coarser numbers."""
    parser.add_argument("--device", default="cpu", help="cpu, or cuda")
    parser.add_argument("--dtype", default="float32", help="float32, bfloat16 or float16, of all ways")
    return parser


def batch_sizes(device: str) -> tuple[int, ...]:
    """Return the batches with which others are tried; the largest one sorted by length, too."""
    return (1, 8, 32) if device == "cpu" else (8, 32, 128, 512)


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return what of the options the figures depend on; a device and numbers where they are not the usual ones."""
    settings = {"rows": options.rows, "threads": options.threads, "repeat": options.repeat}
    if options.device != "cpu":
        import torch

        settings["device"] = torch.cuda.get_device_name(options.device)
    return settings | ({} if options.dtype == "float32" else {"dtype": options.dtype})


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse, set the threads and silence what is no result."""
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ["HF_HUB_OFFLINE"] = "1"
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return options


def interleaved(
    ways: Mapping[str, Callable[[], Any]], *, repeat: int, children: bool = False, device: str = "cpu"
) -> dict[str, Timed]:
    """
    Run every way once to set things up, then all of them in turn, ``repeat`` times.

    :param children: count the CPU seconds of child processes that have ended instead of this one's.
    :param device: on which they compute.
    """
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for act in ways.values():
        act()
    for _ in range(repeat):
        for name, act in ways.items():
            _wait_for(device)
            cpu_s, wall_s = _cpu_s(children=children), time.perf_counter()
            act()
            _wait_for(device)
            taken[name].append((_cpu_s(children=children) - cpu_s, time.perf_counter() - wall_s))
    return {
        name: Timed(statistics.median(cpu for cpu, _ in each), statistics.median(wall for _, wall in each))
        for name, each in taken.items()
    }


def _wait_for(device: str) -> None:
    """Wait until a device has done all that it was given: whoever gives it more does not."""
    if device != "cpu":
        import torch

        torch.cuda.synchronize(device)


def _cpu_s(*, children: bool) -> float:
    used = os.times()
    return used.children_user + used.children_system if children else time.process_time()


def seconds_of(each: Timed, device: str = "cpu") -> float:
    """Return the seconds that count: of the processor, or by the clock where another device computes."""
    return each.cpu_s if device == "cpu" else each.wall_s


def best_of(timed: Mapping[str, Timed], names: list[str], device: str = "cpu") -> str:
    """Return which of some ways took the fewest seconds that count."""
    return min(names, key=lambda name: seconds_of(timed[name], device))


def tell(
    name: str, claim: str, timed: Mapping[str, Timed], *, ours: str, settings: Mapping[str, Any], **more: Any
) -> None:
    """
    Print a table and one line of JSON.

    :param ours: the way that the others are compared with.
    :param settings: rows, threads and whatever else the figures depend on.
    :param more: other figures, by name.
    """
    print(f"\n{name}: {claim}\n")
    print(f"| way | CPU s | wall s | CPU, {ours} = 1 | wall, {ours} = 1 |\n|---|---|---|---|---|")
    for way, each in timed.items():
        ratios = f"{each.cpu_s / timed[ours].cpu_s:.2f} | {each.wall_s / timed[ours].wall_s:.2f}"
        print(f"| {way} | {each.cpu_s:.2f} | {each.wall_s:.2f} | {ratios} |")
    for figure, value in more.items():
        print(f"{figure.replace('_', ' ')}: {value}")
    ways = {way: {"cpu_s": round(each.cpu_s, 3), "wall_s": round(each.wall_s, 3)} for way, each in timed.items()}
    facts = {"name": name, "claim": claim, "ours": ours, "ways": ways, **more, **settings, **machine()}
    print(TABLE_MARK + json.dumps(facts, ensure_ascii=False), flush=True)


def machine() -> dict[str, Any]:
    """Return what the figures were taken on."""
    import torch
    import transformers

    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        **({"mkl_held_to": held} if (held := os.environ.get("MKL_ENABLE_INSTRUCTIONS")) else {}),
    }


def _processor() -> str:
    """Return the processor by its name, family and model: the name alone may be as bare as "Xeon"."""
    try:
        pairs = (line.partition(":") for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines())
    except OSError:
        return platform.processor()
    facts: dict[str, str] = {}
    for key, _, value in pairs:
        facts.setdefault(key.strip(), value.strip())
    named = facts.get("model name", platform.processor())
    return f"{named} (family {facts.get('cpu family', '?')}, model {facts.get('model', '?')})"


def keeping_bytecode() -> dict[str, str]:
    """Return the environment for a child that may keep what it compiles, as an installed package has it."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def skip_without(module: str) -> None:
    """End with a line that says why, where an optional package to compare with is not installed."""
    if importlib.util.find_spec(module) is None:
        print(f"{module} is not installed here: pip install 'airflow-provider-hfreg[bench]'")
        raise SystemExit(0)
