"""What a deferred task leaves behind: for the trigger that follows its run, and for its own second half."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_hfreg.hooks.connections import get_connection, s3_settings_of

if TYPE_CHECKING:
    from airflow_provider_hfreg.runs.begun import BegunRun
    from airflow_provider_hfreg.runs.progress import Log


_GRACE = timedelta(minutes=1)


def _new_sender() -> str:
    return uuid.uuid4().hex[:12]


@dataclass(frozen=True)
class Deferral:
    """
    Plain values, kept in Airflow's database: names and places, no secret and nothing of the run itself.

    :param executor_pool: name of the pool that executes the run.
    :param conn_id: of the connection that reaches the output.
    :param output_url: the run's output folder, as the task rendered it: a variable may have another value by now.
    :param sender: as whom the run is followed, by whichever triggerer; new at each deferral.
    :param options: what this try asks for; see :func:`~airflow_provider_hfreg.runs.begun.options_of_a_try`.
    :param began_at: when the try began, in seconds since the epoch.
    :param ends_at: when it is to be stopped, in seconds since the epoch; None: never.
    :param resumed_shards: how many were committed when it began.
    :param resumed_rows: their rows.
    """

    executor_pool: str
    conn_id: str
    output_url: str
    batch_run_id: str
    sender: str
    options: Mapping[str, Any]
    began_at: float
    ends_at: float | None
    resumed_shards: int
    resumed_rows: int

    @classmethod
    def of(
        cls, begun: BegunRun, *, executor_pool: str, conn_id: str, began_at: float, limit: timedelta | None
    ) -> Deferral:
        """
        Return what a task leaves behind that began a run.

        :param limit: of the whole try's time.
        """
        from airflow_provider_hfreg.runs.begun import options_of_a_try, total  # noqa: PLC0415 - pyarrow

        return cls(
            executor_pool=executor_pool,
            conn_id=conn_id,
            output_url=begun.output.url,
            batch_run_id=begun.document.batch_run_id,
            sender=_new_sender(),
            options=options_of_a_try(begun.request),
            began_at=began_at,
            ends_at=None if limit is None else began_at + limit.total_seconds(),
            resumed_shards=len(begun.markers),
            resumed_rows=total(begun.markers).rows_in,
        )

    def again(self) -> Deferral:
        """Return what the same try leaves behind when it defers once more: whoever was told to stop is not meant."""
        return replace(self, sender=_new_sender())

    def timeout(self) -> timedelta | None:
        """Return after how long Airflow is to end the task itself: a minute after a trigger that works would have."""
        if self.ends_at is None:
            return None
        return timedelta(seconds=max(self.ends_at - time.time(), 0.0)) + _GRACE

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self) | {"options": dict(self.options)}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Deferral:
        """Rebuild what :meth:`to_json` gave; what only a newer version of this package knows is left out."""
        return cls(**{name: plain[name] for name in cls.__dataclass_fields__})

    def reopen(self, log: Log) -> BegunRun:
        """
        Return the run as it stands now. Asks Airflow and storage: not for an event loop.

        :raises HfregError: its connection, its output or its plan is gone or cannot be read.
        """
        from airflow_provider_hfreg.runs.begun import reopen  # noqa: PLC0415 - pyarrow, not for a DAG's parse
        from airflow_provider_hfreg.storage.urls import open_store  # noqa: PLC0415

        connection = get_connection(self.conn_id, hint="of type 'hfreg' or 'aws', with access to the output")
        output = open_store(self.output_url, s3_settings_of(connection))
        return reopen(output, self.batch_run_id, self.options, log)
