"""What is killed in a round, and when: drawn from the round's seed alone, so that a round can be repeated."""

from __future__ import annotations

import random
from dataclasses import dataclass

KINDS = ("worker", "task", "redis", "seaweedfs")
"""A resident worker; the process of the operator's task; the brokers, both at once; the storage."""

_LONGEST_AWAY_S = {"worker": 8.0, "task": 0.0, "redis": 8.0, "seaweedfs": 12.0}


@dataclass(frozen=True)
class Kill:
    """
    One kill -9.

    :param at: the share of the run's shards that are committed by then.
    :param after_s: seconds after that.
    :param away_s: for how long what was killed stays away.
    :param which: of the workers.
    """

    kind: str
    at: float
    after_s: float
    away_s: float
    which: int

    def __str__(self) -> str:
        """As a line of the log tells it."""
        name = f"worker-{self.which}" if self.kind == "worker" else self.kind
        away = f" for {self.away_s:.1f} s" if self.away_s else ""
        return f"{name}{away} at {self.at:.0%} + {self.after_s:.1f} s"


def draw_kills(seed: str, number: int, count: int) -> tuple[Kill, ...]:
    """
    Return a round's kills, in the order of their times.

    The first kind goes round with the number, so that a few rounds have all of them; the others are drawn.

    >>> draw_kills("17-1", 1, 3) == draw_kills("17-1", 1, 3)
    True
    >>> {kind for number in range(4) for kind in [kill.kind for kill in draw_kills("x", number, 1)]} == set(KINDS)
    True
    """
    draw = random.Random(seed)
    kinds = [KINDS[number % len(KINDS)], *(draw.choice(KINDS) for _ in range(count - 1))]
    kills = [
        Kill(
            kind,
            at=round(draw.uniform(0, 0.8), 2),
            after_s=round(draw.uniform(0, 1), 1),
            away_s=round(draw.uniform(0, _LONGEST_AWAY_S[kind]), 1),
            which=draw.choice((1, 2)),
        )
        for kind in kinds
    ]
    return tuple(sorted(kills, key=lambda kill: (kill.at, kill.after_s)))


def draw_one_of_each(seed: str) -> tuple[Kill, ...]:
    """
    Return four kills, one of each kind.

    >>> sorted(kill.kind for kill in draw_one_of_each("17-31")) == sorted(KINDS)
    True
    """
    kills = [kill for number in range(len(KINDS)) for kill in draw_kills(f"{seed}-{number}", number, 1)]
    return tuple(sorted(kills, key=lambda kill: (kill.at, kill.after_s)))
