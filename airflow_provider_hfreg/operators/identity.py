"""
Who a task is, whatever the try: the identity under which a retry finds what an earlier try did.

It is made of dag, task, dag run and map index. The try number is no part of it, nor is anything that a retry changes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.types import RuntimeTaskInstanceProtocol


def task_identity(context: Context) -> str:
    """Return the identity as unambiguous text: JSON, because ids may hold any separator."""
    ti = context["ti"]
    return json.dumps([ti.dag_id, ti.task_id, ti.run_id, _map_index(ti)])


def _map_index(ti: RuntimeTaskInstanceProtocol) -> int:
    return -1 if ti.map_index is None else ti.map_index


def task_names(context: Context) -> dict[str, str]:
    """Return the names of dag, task and run, as a version keeps them."""
    ti = context["ti"]
    names = {"dag_id": ti.dag_id, "task_id": ti.task_id, "run_id": ti.run_id}
    return names if _map_index(ti) < 0 else names | {"map_index": str(_map_index(ti))}


def version_names(context: Context) -> Iterator[str]:
    """
    Yield names for a version that was given none: the first that is free, or holds the same content, is its name.

    The date is the dag run's, the letters its identity's: a retry logs the same content under the same name, which
    changes nothing. Names after the first serve a run that was cleared and gave other content.
    """
    date = context["dag_run"].run_after
    base = f"{date:%Y%m%d}-{hashlib.sha256(task_identity(context).encode()).hexdigest()[:6]}"
    yield base
    yield from (f"{base}-{number}" for number in range(2, 100))
