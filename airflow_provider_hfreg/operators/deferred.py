"""The second half of a deferred task: what the trigger's event means, and the end of the run that it followed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowTaskTimeout

from airflow_provider_hfreg.errors import ShardFailedError, find_error_class
from airflow_provider_hfreg.triggers.batch_run import FAILED, TIMED_OUT

if TYPE_CHECKING:
    from airflow_provider_hfreg.runs.begun import BegunRun
    from airflow_provider_hfreg.runs.report import RunReport
    from airflow_provider_hfreg.triggers.deferral import Deferral


def check_event(event: Mapping[str, Any] | None, batch_run_id: str) -> None:
    """
    Raise what ended the run, if an event tells of that. Any other event only wakes: storage tells what is done.

    >>> check_event({"status": "done"}, "6d06-0123")
    >>> check_event({"status": "failed", "kind": "NoWorkerError", "message": "Nobody."}, "6d06-0123")
    Traceback (most recent call last):
        ...
    airflow_provider_hfreg.errors.NoWorkerError: Nobody.

    :raises HfregError: the run failed, with this.
    :raises AirflowTaskTimeout: its time was up.
    """
    status = (event or {}).get("status")
    if event is not None and status == FAILED:
        kind = find_error_class(event["kind"])
        if kind is None:
            raise ShardFailedError(
                f"The run {batch_run_id} failed in the triggerer with {event['kind']}, which this version of the "
                f"package does not know: {event['message']} Install one version on workers and triggerers."
            )
        raise kind(event["message"])
    if status == TIMED_OUT:
        raise AirflowTaskTimeout(
            f"The run {batch_run_id} took longer than the task's execution_timeout. Its shards are stopped; those that "
            "are committed stay, and another try goes on with the others."
        )


def finish_deferred(begun: BegunRun, deferral: Deferral) -> RunReport:
    """
    Finish a run that misses nothing, as a task that waited for it would have.

    :raises HfregError: see :func:`~airflow_provider_hfreg.runs.batch.finish_run`.
    """
    from airflow_provider_hfreg.runs.batch import Executed, finish_run  # noqa: PLC0415 - a DAG's parse needs none
    from airflow_provider_hfreg.runs.begun import total  # noqa: PLC0415

    # Two machines' clocks may stand between beginning and end.
    elapsed_s = max(time.time() - deferral.began_at, 0.0)
    computed = total(begun.markers).rows_in - deferral.resumed_rows
    rows_per_s = computed / elapsed_s if elapsed_s else 0.0
    return finish_run(begun, Executed(begun.markers, deferral.resumed_shards, rows_per_s, elapsed_s))
