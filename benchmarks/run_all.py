"""
Run all benchmarks and write ``docs/benchmarks.md``: what `make bench` does.

    python benchmarks/run_all.py [names …] [--out docs/benchmarks.md] [-- arguments for each]

A benchmark is a script in this folder that prints lines of JSON behind ``JSON `` (see :mod:`measuring`); the others are
left out. One that fails, or that says why it has nothing to compare with, is named on the page and stops no other.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measuring import TABLE_MARK, machine

_HERE = Path(__file__).parent
_INTRODUCTION = """\
# Benchmarks

Written by `make bench`; each table is one run in which all ways took turns. CPU seconds of the process and wall-clock
seconds, medians.
"""
_NO_BENCHMARKS = {"inputs", "measuring", "run_all"}


def main() -> None:
    """Run, collect and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[])
    parser.add_argument("--out", type=Path, default=_HERE.parent / "docs" / "benchmarks.md")
    options, passed = parser.parse_known_args()
    found, untold = [], {}
    for script in sorted(_HERE.glob("*.py")):
        if script.stem in _NO_BENCHMARKS or (options.names and script.stem not in options.names):
            continue
        lines, reason = _run(script, [each for each in passed if each != "--"])
        found += lines
        if not lines:
            untold[script.name] = reason
    options.out.write_text(page(found, untold, machine()), encoding="utf-8")
    print(f"wrote {options.out}")


def _run(script: Path, passed: Sequence[str]) -> tuple[list[dict[str, Any]], str]:
    """Return the figures that a benchmark printed, and its last line, which says why there are none."""
    print(f"--- {script.name}", flush=True)
    ran = subprocess.run([sys.executable, str(script), *passed], stdout=subprocess.PIPE, text=True, check=False)
    print(ran.stdout, flush=True)
    lines = ran.stdout.splitlines()
    told = [json.loads(line.removeprefix(TABLE_MARK)) for line in lines if line.startswith(TABLE_MARK)]
    ended = f"it ended with {ran.returncode}" if ran.returncode else "it printed no figures"
    return told, lines[-1] if lines and not ran.returncode else ended


def page(found: Sequence[dict[str, Any]], untold: dict[str, str], where: dict[str, Any]) -> str:
    """
    Return the page.

    :param found: what the benchmarks told, each a mapping with ``ways`` and ``ours``.
    :param untold: script → why it has no figures.
    :param where: the machine.
    """
    on = (
        f"{where['processor']}, {where['cores']} cores, Python {where['python']}, torch {where['torch']}, transformers "
    )
    parts = [_INTRODUCTION, f"Machine: {on}{where['transformers']}.\n", *map(_section, found)]
    if untold:
        parts.append("## Without figures here\n\n" + "".join(f"- `{name}`: {why}\n" for name, why in untold.items()))
    return "\n".join(parts)


def _section(told: dict[str, Any]) -> str:
    ours = told["ways"][told["ours"]]
    rows = [
        f"| {way} | {each['cpu_s']:.2f} | {each['wall_s']:.2f} | {each['cpu_s'] / ours['cpu_s']:.2f} |\n"
        for way, each in told["ways"].items()
    ]
    plain = {
        name.replace("_", " "): value
        for name, value in told.items()
        if name not in {"name", "claim", "ours", "ways", *machine()}
    }
    facts = ", ".join(f"{name} {value}" for name, value in plain.items())
    head = f"| way | CPU s | wall s | CPU, {told['ours']} = 1 |\n|---|---|---|---|\n"
    return f"## {told['name']}\n\n{told['claim']}\n\n{head}{''.join(rows)}\n{facts}\n"


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
