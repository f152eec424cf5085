"""
A run that is begun, as one try at it sees it: all that following, counting and finishing it need.

It needs neither the model version nor the input. So a process that only follows (a triggerer) makes it again from the
output folder, the run's id and what the try asks for, and so does the one that finishes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from airflow_provider_hfreg.runs import outputs
from airflow_provider_hfreg.runs.commit import Marker, committed_shards
from airflow_provider_hfreg.runs.plan import RunDocument
from airflow_provider_hfreg.runs.progress import Log
from airflow_provider_hfreg.runs.report import RowCounts
from airflow_provider_hfreg.runs.spec import BatchRequest
from airflow_provider_hfreg.storage.base import ObjectStore

_OF_A_TRY = ("on_row_error", "max_row_errors", "token_budget", "trust_remote_code")


@dataclass(frozen=True)
class BegunRun:
    """
    A run whose ``run.json`` stands.

    :param document: what stands in it.
    :param request: what this try asks for; it may differ from the document's in what a try may choose.
    :param markers: of the shards that were committed when this try began.
    """

    document: RunDocument
    request: BatchRequest
    output: ObjectStore
    log: Log
    markers: Mapping[int, Marker]

    @property
    def missing(self) -> list[int]:
        """Indices of the shards that were not committed, ascending."""
        return [shard.index for shard in self.document.shards if shard.index not in self.markers]


def total(markers: Mapping[int, Marker]) -> RowCounts:
    """Return what became of the rows of committed shards."""
    return sum((marker.counts for marker in markers.values()), RowCounts())


def options_of_a_try(request: BatchRequest) -> dict[str, Any]:
    """
    Return what a try may choose anew, as plain JSON values.

    >>> options_of_a_try(BatchRequest("file:///in", "file:///out", max_row_errors=0.5))
    {'on_row_error': 'quarantine', 'max_row_errors': 0.5, 'token_budget': None, 'trust_remote_code': False}
    """
    return {name: getattr(request, name) for name in _OF_A_TRY}


def reopen(output: ObjectStore, batch_run_id: str, options: Mapping[str, Any], log: Log) -> BegunRun:
    """
    Return a run that was begun, as it stands now.

    :param options: what :func:`options_of_a_try` gave.
    :raises KeyNotFoundError: its plan is gone.
    :raises UnknownFormatError: its plan cannot be read here.
    """
    document = outputs.read_document(output, batch_run_id)
    request = replace(document.request, **{name: options[name] for name in _OF_A_TRY if name in options})
    return BegunRun(document, request, output, log, committed_shards(output, document))
