"""How often a sender looks: a few times for each change, soon after it, whatever the rhythm of the changes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_hfreg.workers.pace import FIRST_S, next_pause_s

LONGEST_S = 5.0


def looks(interval_s, changes):
    """When a sender looks that sends at 0 and then meets a change every so many seconds: the times of its looks."""
    now_s, pause_s, changed_s, seen = 0.0, 0.0, 0.0, 0
    times = []
    while seen < changes:
        pause_s = next_pause_s(pause_s, now_s - changed_s, moved=bool(times) and times[-1][1], longest_s=LONGEST_S)
        if times and times[-1][1]:
            changed_s = now_s
        now_s += pause_s
        moved = int(now_s / interval_s) > seen
        seen = int(now_s / interval_s)
        times.append((now_s, moved))
    return [time for time, _ in times]


@pytest.mark.parametrize(("interval_s", "most"), [(0.02, 1), (0.2, 4), (1, 6), (10, 6), (60, 15)])
def test_looks_follow_the_rhythm_of_the_changes(interval_s, most):
    assert len(looks(interval_s, 100)) / 100 <= most


@given(st.floats(0.01, 200))
def test_the_first_change_is_seen_within_half_of_the_time_it_took_and_the_longest_pause(interval_s):
    seen_s = looks(interval_s, 1)[-1]
    assert seen_s - interval_s <= min(LONGEST_S, FIRST_S + interval_s / 2) + 1e-6


@given(st.floats(0, 1000), st.floats(0, 1000), st.booleans())
def test_no_pause_is_longer_or_shorter_than_may_be(pause_s, since_s, moved):
    assert FIRST_S <= next_pause_s(pause_s, since_s, moved=moved, longest_s=LONGEST_S) <= LONGEST_S
