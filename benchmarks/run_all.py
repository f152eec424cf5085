"""
Run all benchmarks and write ``docs/benchmarks.md``: what `make bench` does.

    python benchmarks/run_all.py [names …] [-- arguments for each]

A benchmark is a script in this folder that prints lines of JSON behind ``JSON `` (see :mod:`measuring`). What they told
is kept in ``figures.json`` beside this file: of some that are named, the others' figures stay as they were, each with
the machine that it was taken on. One that fails, or that says why it has nothing to compare with, is named at the end,
stops no other, and keeps what it told before.

``MKL_ENABLE_INSTRUCTIONS=AVX2`` before the command makes torch's own linear layers on an Intel processor about as slow
as they are on AMD's that have AVX-512 (Zen 4 and later): half of what it can do. oneDNN's, which are prepacked, stay as
they are. Such figures have sections of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from measuring import TABLE_MARK

_HERE = Path(__file__).parent
_FIGURES = _HERE / "figures.json"
_PAGE = _HERE.parent / "docs" / "benchmarks.md"
_INTRODUCTION = """\
# Benchmarks

Written by `make bench`; each table is one run in which all ways took turns. CPU seconds of the process and wall-clock
seconds, medians; of what many processes do, the wall clock alone. "MKL held to AVX2" stands in for an AMD
processor with AVX-512 (Zen 4 and later): torch's own linear layers, which all others use, then reach half of what the
processor can do, as they do there (0.44, measured on a Zen 5), and prepacked ones all of it.
"""
_NO_BENCHMARKS = {"inputs", "measuring", "pool_desk", "run_all", "yardstick"}
_UNITS = {"cpu_s": "CPU", "wall_s": "wall"}
_FAMILY = "5"  # of transformers, that needs no mention
_ELSEWHERE = ("device", "dtype")  # facts that are told where it was not the processor, or not in float32
_MACHINE = ("processor", "cores", "python", "torch", "transformers", "mkl_held_to")


def main() -> None:
    """Run, collect and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[], help="of scripts here; default: all")
    ours, _, passed = " ".join(sys.argv[1:]).partition(" -- ")
    options = parser.parse_args(ours.split())
    scripts = {script.stem: script for script in sorted(_HERE.glob("*.py")) if script.stem not in _NO_BENCHMARKS}
    if unknown := set(options.names) - set(scripts):
        parser.error(f"no benchmarks: {', '.join(sorted(unknown))}; there are {', '.join(scripts)}")
    untold = {}
    for name in options.names or scripts:
        told, reason = _run(scripts[name], passed.split())
        if told:
            _keep(told)
        else:
            untold[name] = reason
    print(f"wrote {_PAGE}", *(f"{name}: {reason}" for name, reason in untold.items()), sep="\n")


def _run(script: Path, passed: Sequence[str]) -> tuple[list[dict[str, Any]], str]:
    """Return the figures that a benchmark printed, and its last line, which says why there are none."""
    print(f"--- {script.name}", flush=True)
    ran = subprocess.run([sys.executable, str(script), *passed], stdout=subprocess.PIPE, text=True, check=False)
    print(ran.stdout, flush=True)
    lines = ran.stdout.splitlines()
    told = [json.loads(line.removeprefix(TABLE_MARK)) for line in lines if line.startswith(TABLE_MARK)]
    ended = f"it ended with {ran.returncode}" if ran.returncode else "it printed no figures"
    return told, lines[-1] if lines and not ran.returncode else ended


def _keep(told: Iterable[dict[str, Any]]) -> None:
    kept = json.loads(_FIGURES.read_text(encoding="utf-8")) if _FIGURES.exists() else {}
    kept |= {_title(each): each for each in told}
    kept = dict(sorted(kept.items()))
    _FIGURES.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    _PAGE.write_text(page(kept.values()), encoding="utf-8")


def _title(told: dict[str, Any]) -> str:
    """
    Return what a section is called and kept by: what was measured otherwise is kept beside each other.

    >>> _title({"name": "encoders", "transformers": "5.23.0"})
    'encoders'
    >>> _title({"name": "encoders", "transformers": "4.57.6", "mkl_held_to": "AVX2"})
    'encoders, transformers 4, MKL held to AVX2'
    >>> _title({"name": "causal", "transformers": "5.23.0", "device": "NVIDIA A10", "dtype": "bfloat16"})
    'causal, NVIDIA A10, bfloat16'
    """
    family, held = told["transformers"].partition(".")[0], told.get("mkl_held_to")
    others = [f"transformers {family}"] * (family != _FAMILY) + [f"MKL held to {held}"] * bool(held)
    return ", ".join([told["name"], *others, *(told[fact] for fact in _ELSEWHERE if fact in told)])


def page(told: Iterable[dict[str, Any]]) -> str:
    """
    Return the page.

    :param told: what the benchmarks told, each a mapping with ``name``, ``claim``, ``ways``, ``ours`` and figures.
    """
    return "\n".join([_INTRODUCTION, *map(_section, told)])


def _section(told: dict[str, Any]) -> str:
    ours = told["ways"][told["ours"]]
    units = [unit for unit in _UNITS if unit in ours]
    counts = "wall_s" if "device" in told else units[0]
    rows = [
        f"| {way} | {' | '.join(f'{each[unit]:.2f}' for unit in units)} | {each[counts] / ours[counts]:.2f} |\n"
        for way, each in told["ways"].items()
    ]
    shown = {"name", "claim", "ours", "ways", *_MACHINE}
    facts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in told.items() if name not in shown)
    columns = [*(f"{_UNITS[unit]} s" for unit in units), f"{_UNITS[counts]}, {told['ours']} = 1"]
    head = f"| way | {' | '.join(columns)} |\n" + "|---" * (len(columns) + 1) + "|\n"
    where = "{processor}, {cores} cores, Python {python}, torch {torch}, transformers {transformers}".format_map(told)
    return f"## {_title(told)}\n\n{told['claim']}\n\n{head}{''.join(rows)}\n{facts}\n\n{where}\n"


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
