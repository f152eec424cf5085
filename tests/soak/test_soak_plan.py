"""A soak goes on where it was: with the round after the last that was right, of the same plan."""

from __future__ import annotations

import pytest
from soak_plan import Plan, Record

GIVEN = {"rounds": 3, "seed": 17}


@pytest.fixture
def record(tmp_path):
    return Record(tmp_path)


def over(number, *, wrong=(), seed=17):
    return {"number": number, "seed": seed, "wrong": list(wrong), "rows": 10, "elapsed_s": 1.0}


def test_a_new_soak_begins_with_the_first_round(record):
    plan = record.plan(GIVEN, new_seed=5)
    assert plan == Plan(seed=17, rounds=3)
    assert record.complete(plan) == 0


def test_a_soak_that_was_broken_off_goes_on_under_its_seed(record):
    record.begin(Plan(seed=17, rounds=3))
    record.add(over(1))
    record.add(over(2))
    plan = record.plan({}, new_seed=5)
    assert plan == Plan(seed=17, rounds=3)
    record.begin(plan)
    assert record.complete(plan) == 2


def test_a_round_that_was_wrong_is_played_again(record):
    plan = Plan(seed=17, rounds=3)
    record.begin(plan)
    record.add(over(1))
    record.add(over(2, wrong=["1 ids are missing, the first 4"]))
    assert record.complete(plan) == 1
    record.add(over(2))
    assert record.complete(plan) == 2
    assert len(record.lines()) == 3, "what was wrong stays in the table"


def test_another_plan_puts_the_rounds_of_the_last_one_aside(record, tmp_path):
    record.begin(Plan(seed=17, rounds=3))
    record.add(over(1))
    plan = record.plan({"rounds": 2}, new_seed=5)
    assert plan == Plan(seed=5, rounds=2)
    record.begin(plan)
    assert (record.complete(plan), record.lines()) == (0, [])
    assert (tmp_path / "rounds.previous.jsonl").exists()


def test_a_soak_that_is_over_is_followed_by_one_of_another_seed(record):
    record.begin(Plan(seed=17, rounds=1, big_rows=0))
    record.add(over(1))
    assert record.plan({}, new_seed=5) == Plan(seed=5)
