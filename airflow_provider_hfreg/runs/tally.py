"""The counts of a run while its missing shards are executed: a line of progress, and an end for too many bad rows."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_provider_hfreg.runs.begun import BegunRun, total
from airflow_provider_hfreg.runs.commit import Marker
from airflow_provider_hfreg.runs.parts import QuarantinedRow
from airflow_provider_hfreg.runs.progress import ProgressLog
from airflow_provider_hfreg.runs.report import RowCounts
from airflow_provider_hfreg.runs.row_errors import RowErrorWatch


class Tally:
    """
    Counts one try at a run.

    :param interval_s: between two lines of progress in the run's log.
    :raises TooManyRowErrorsError: what is committed already is more than this try allows.
    """

    def __init__(self, begun: BegunRun, *, interval_s: float) -> None:
        self.markers = dict(begun.markers)
        document = begun.document
        self._progress = ProgressLog(
            shards_total=len(document.shards), rows_total=document.rows, log=begun.log, interval_s=interval_s
        )
        self._progress.resume(len(self.markers), total(self.markers))
        self._watch = RowErrorWatch(begun.request, document.rows)
        self._watch.check((), self._progress.now().rows_quarantined)

    def observe(self, shard: int, counts: RowCounts, quarantined: Sequence[QuarantinedRow]) -> None:
        """
        Take what became so far of the rows of a shard under way, and its newly quarantined ones.

        :raises TooManyRowErrorsError: the run cannot pass any more.
        """
        self._progress.rows(shard, counts)
        self._watch.check(quarantined, self._progress.now().rows_quarantined)

    def commit(self, marker: Marker) -> None:
        """Take a shard that is committed."""
        self.markers[marker.shard] = marker
        self._progress.shard(marker.shard, marker.counts)

    @property
    def rows_per_s(self) -> float:
        """Speed of the rows that were computed since it counts."""
        return self._progress.now().rows_per_s
