"""
How often a sender looks at its claims: pure.

A look is one listing, and what it finds is worth little early: workers hold the next shard already. So looks follow the
rhythm in which claims change, about three for each change, whatever that rhythm is. Two things are waited for by
people: the first row of a run, and its end.
"""

from __future__ import annotations

FIRST_S = 0.05
"""After the first messages: a warm worker has one row done by then."""

_GROWTH = 1.5
_SHARE = 4  # of the time between two changes


def next_pause_s(pause_s: float, since_change_s: float, *, moved: bool, longest_s: float) -> float:
    """
    Return how long to wait before the next look.

    >>> next_pause_s(0.05, 0.05, moved=False, longest_s=5.0)
    0.07500000000000001
    >>> [next_pause_s(5.0, since, moved=True, longest_s=5.0) for since in (0.06, 1.0, 10.0, 300.0)]
    [0.05, 0.25, 2.5, 5.0]

    :param pause_s: the last wait.
    :param since_change_s: between the last two looks that found a change, the present one included if it did.
    :param moved: the present look found one.
    :param longest_s: so that a claim that stands still is noticed, and a row's progress is told.
    """
    wanted_s = since_change_s / _SHARE if moved else pause_s * _GROWTH
    return min(longest_s, max(FIRST_S, wanted_s))
