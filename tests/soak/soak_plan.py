"""The rounds of a soak and what is known of those that are over: a file of lines that a soak goes on with."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Plan:
    """
    What a soak is.

    :param seed: every round's seed is made of it.
    :param rounds: of ``rows`` rows each; after them one of ``big_rows``, none where that is 0.
    """

    seed: int
    rounds: int = 30
    rows: int = 100_000
    big_rows: int = 1_000_000
    kills: int = 3

    @property
    def total(self) -> int:
        """How many rounds there are, the big one included."""
        return self.rounds + bool(self.big_rows)

    def rows_of(self, number: int) -> int:
        """Return the rows of a round, counted from 1."""
        return self.rows if number <= self.rounds else self.big_rows


def read_arguments(words: Sequence[str]) -> dict[str, int]:
    """
    Return what ``make soak ARGS="…"`` asked for.

    >>> read_arguments(["rounds=3", "seed=17"])
    {'rounds': 3, 'seed': 17}
    >>> read_arguments(["round=3"])
    Traceback (most recent call last):
    SystemExit: 'round=3' is none of seed=N, rounds=N, rows=N, big_rows=N, kills=N.
    """
    known = [field.name for field in fields(Plan)]
    given = {}
    for word in words:
        name, _, value = word.partition("=")
        if name not in known or not value.isdigit():
            raise SystemExit(f"{word!r} is none of {', '.join(f'{name}=N' for name in known)}.")
        given[name] = int(value)
    return given


class Record:
    """
    The rounds that are over, in a folder.

    :param folder: there.
    """

    def __init__(self, folder: Path) -> None:
        self._plan_path, self._rounds_path = folder / "plan.json", folder / "rounds.jsonl"

    def plan(self, given: Mapping[str, int], new_seed: int) -> Plan:
        """Return the plan to go on with: the last one, unless it is over or another one is asked for."""
        last = Plan(**json.loads(self._plan_path.read_text())) if self._plan_path.exists() else None
        if last is not None and self.complete(last) < last.total and {**asdict(last), **given} == asdict(last):
            return last
        return Plan(**{"seed": new_seed, **given})

    def begin(self, plan: Plan) -> None:
        """Keep a plan; the rounds of another one are put aside."""
        text = json.dumps(asdict(plan))
        if self._plan_path.exists() and self._plan_path.read_text() != text and self._rounds_path.exists():
            self._rounds_path.replace(self._rounds_path.with_suffix(".previous.jsonl"))
        self._plan_path.write_text(text)

    def lines(self) -> list[dict[str, Any]]:
        """Return what was recorded, the oldest first."""
        if not self._rounds_path.exists():
            return []
        return [json.loads(line) for line in self._rounds_path.read_text().splitlines()]

    def add(self, line: Mapping[str, Any]) -> None:
        """Record a round that is over."""
        with self._rounds_path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def complete(self, plan: Plan) -> int:
        """Return the number of the last round that came to what it should."""
        right = [line for line in self.lines() if not line["wrong"] and line["seed"] == plan.seed]
        return max((line["number"] for line in right), default=0)


def left_s(plan: Plan, lines: Sequence[Mapping[str, Any]]) -> float | None:
    """
    Return how long the rest takes, by the rows of what is over; None where nothing is.

    >>> left_s(Plan(1, rounds=3, rows=10, big_rows=100), [{"number": 1, "rows": 10, "elapsed_s": 5.0}])
    60.0
    """
    rows = sum(line["rows"] for line in lines)
    if not rows:
        return None
    last = max(line["number"] for line in lines)
    ahead = sum(plan.rows_of(number) for number in range(last + 1, plan.total + 1))
    return float(ahead * sum(line["elapsed_s"] for line in lines) / rows)


def table(lines: Sequence[Mapping[str, Any]], kinds: Sequence[str]) -> str:
    """
    Return what a soak came to.

    >>> line = {"number": 1, "wrong": [], "rows": 10, "quarantined": 1, "killed": ["task"], "tries": 2, "resumed": 3}
    >>> print(table([line | {"late": 1, "elapsed_s": 60.0}], ["task", "redis"]))
    rounds            1
      of them wrong   0
    rows              10
      quarantined     1
    kills of task     1
    kills of redis    0
      came too late   1
    tries of tasks    2
    shards resumed    3
    minutes           1.0
    """
    killed = Counter(kind for line in lines for kind in line["killed"])
    rows = {
        "rounds": len(lines),
        "  of them wrong": sum(bool(line["wrong"]) for line in lines),
        "rows": f"{sum(line['rows'] for line in lines):,}",
        "  quarantined": f"{sum(line['quarantined'] for line in lines):,}",
        **{f"kills of {kind}": killed[kind] for kind in kinds},
        "  came too late": sum(line["late"] for line in lines),
        "tries of tasks": sum(line["tries"] for line in lines),
        "shards resumed": sum(line["resumed"] for line in lines),
        "minutes": f"{sum(line['elapsed_s'] for line in lines) / 60:.1f}",
    }
    return "\n".join(f"{name:<17} {value}" for name, value in rows.items())
