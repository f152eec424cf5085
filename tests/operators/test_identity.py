"""Who a task is: the same at every try, different from every other."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_hfreg.operators.identity import task_identity, task_names, version_names
from airflow_provider_hfreg.versions.layout import is_name

names = st.tuples(st.text(), st.text(), st.text(), st.integers(min_value=-1))


def context_of(identity, try_number=1):
    dag_id, task_id, run_id, map_index = identity
    ti = SimpleNamespace(dag_id=dag_id, task_id=task_id, run_id=run_id, map_index=map_index, try_number=try_number)
    return {"ti": ti, "dag_run": SimpleNamespace(run_after=datetime(2026, 7, 29, tzinfo=UTC))}


@given(names, names)
def test_two_task_instances_never_share_an_identity(one, other):
    assert (task_identity(context_of(one)) == task_identity(context_of(other))) == (one == other)


@given(names)
def test_a_retry_has_the_identity_and_the_version_name_of_the_first_try(identity):
    first, second = context_of(identity, 1), context_of(identity, 2)
    assert task_identity(first) == task_identity(second)
    assert next(version_names(first)) == next(version_names(second))


@given(names)
def test_version_names_are_allowed_and_differ(identity):
    offered = list(islice(version_names(context_of(identity)), 5))
    assert all(is_name(name) and name.startswith("20260729-") for name in offered)
    assert len(set(offered)) == 5


def test_a_mapped_instance_is_named_with_its_index():
    assert "map_index" not in task_names(context_of(("d", "t", "r", -1)))
    assert task_names(context_of(("d", "t", "r", 3)))["map_index"] == "3"
