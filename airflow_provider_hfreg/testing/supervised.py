"""
Run one task of a DAG file as a worker does: Airflow's own supervisor, the task in its own process, its log a file.

A program: ``python -m airflow_provider_hfreg.testing.supervised DAG_FILE DAG_ID TASK_ID LOG_FILE RETRIES_LEFT`` prints
the last state that the task reported. What a task asks of the API server at its start is answered here; no server and
no database is needed. The DAG file lies in Airflow's folder of DAGs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import httpx
from airflow.executors.workloads import BundleInfo, TaskInstanceDTO
from airflow.sdk.api.client import Client
from airflow.sdk.execution_time.supervisor import supervise_task

_RUN_AFTER = "2026-07-29T00:00:00Z"


class ExecutionApi(httpx.BaseTransport):
    """The few answers that one task needs; remembers the state it reports."""

    def __init__(self, dag_id: str, *, retries_left: bool) -> None:
        run: dict[str, Any] = {"dag_id": dag_id, "run_id": "run-1", "run_type": "manual", "run_after": _RUN_AFTER}
        run |= {"logical_date": _RUN_AFTER, "start_date": _RUN_AFTER, "consumed_asset_events": [], "state": "running"}
        run |= dict.fromkeys(("data_interval_start", "data_interval_end", "end_date", "partition_key"))
        self._context = {"dag_run": run, "max_tries": 1, "should_retry": retries_left}
        self.state = "running"

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/run"):
            return httpx.Response(200, json=self._context, request=request)
        if request.url.path.endswith("/state"):
            self.state = json.loads(request.read())["state"]
        return httpx.Response(200, json={}, request=request)


def main(dag_file: str, dag_id: str, task_id: str, log_file: str, retries_left: str) -> None:
    """Run the task, and print its last state."""
    api = ExecutionApi(dag_id, retries_left=retries_left == "True")
    ti = TaskInstanceDTO(
        id=uuid4(),
        dag_version_id=uuid4(),
        dag_id=dag_id,
        task_id=task_id,
        run_id="run-1",
        try_number=1,
        map_index=-1,
        pool_slots=1,
        queue="default",
        priority_weight=1,
    )
    supervise_task(
        ti=cast("Any", ti),  # an executor hands over its own kind of it, as here
        bundle_info=BundleInfo(name="dags-folder"),
        dag_rel_path=Path(dag_file).name,
        token="",
        client=Client(base_url=None, dry_run=True, token="", transport=api),
        log_path=log_file,
    )
    sys.stdout.write(f"{api.state}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
