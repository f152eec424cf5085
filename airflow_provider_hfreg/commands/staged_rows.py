"""
The rows that were staged for runs and are still there, to whoever asks from outside, and which of them may go.

A run clears its own when it is finished. What is left belongs to a run that is not: to be gone on with, given up, or
never begun, because the task failed after its query was read.

- Nothing goes that changed within a day, nor while a run of the same task instance is open: it needs them.
- ``staged.json`` stays as long as a finished run of that task instance is there, which is known again by it; it holds
  no row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from airflow_provider_hfreg.commands.run_outlines import RunOutline, RunStatus
from airflow_provider_hfreg.runs import layout
from airflow_provider_hfreg.storage.base import ObjectInfo, ObjectStore

RESUMABLE = timedelta(days=1)
"""For so long what is unfinished is left to its task's retries."""

OPEN = frozenset({RunStatus.WORKING, RunStatus.UNFINISHED, RunStatus.UNREADABLE})
"""What may still be gone on with."""


@dataclass(frozen=True)
class StagedRows:
    """
    One staging, whole or as a killed try left it.

    :param folder: its key, below the output.
    :param rows: the objects that hold rows.
    :param document: ``staged.json``, once it is committed.
    """

    folder: str
    rows: tuple[ObjectInfo, ...]
    document: ObjectInfo | None

    @property
    def identity_prefix(self) -> str:
        """
        What the ids of the runs begin with that it was staged for.

        >>> StagedRows(layout.staged_folder("6d0629b7eb-", "0123456789abcdef", 0), (), None).identity_prefix
        '6d0629b7eb-'
        """
        return f"{self.folder.removeprefix(layout.STAGED_FOLDER).partition('-')[0]}-"

    @property
    def changed(self) -> datetime:
        """When something of it was last written, by the store's clock."""
        objects = self.rows if self.document is None else (*self.rows, self.document)
        return max(info.modified for info in objects)

    @property
    def size_bytes(self) -> int:
        """Of its rows."""
        return sum(info.size_bytes for info in self.rows)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            "folder": self.folder,
            "is_committed": self.document is not None,
            "files": len(self.rows),
            "size_bytes": self.size_bytes,
            "changed": self.changed.isoformat(),
        }


def staged_below(store: ObjectStore) -> list[StagedRows]:
    """Return all stagings of an output folder, also those whose rows are gone: one listing."""
    found: dict[str, list[ObjectInfo]] = {}
    for info in store.list_infos(layout.STAGED_FOLDER):
        folder, slash, _ = info.key.rpartition("/")
        found.setdefault(f"{folder}{slash}", []).append(info)
    return [_staged(folder, infos) for folder, infos in sorted(found.items())]


def _staged(folder: str, infos: Sequence[ObjectInfo]) -> StagedRows:
    documents = [info for info in infos if layout.find_staged_document(info.key) is not None]
    return StagedRows(folder, tuple(i for i in infos if i not in documents), documents[0] if documents else None)


def removable(
    staged: StagedRows, runs: Sequence[RunOutline], *, now: datetime, older_than: timedelta
) -> tuple[ObjectInfo, ...]:
    """
    Return which objects of a staging may go, ``staged.json`` last.

    :param runs: of the folder; those that are about to go left out.
    :param older_than: since the last change; at least a day is waited for.
    """
    statuses = {run.status for run in runs if run.batch_run_id.startswith(staged.identity_prefix)}
    if now - staged.changed < max(older_than, RESUMABLE) or statuses & OPEN:
        return ()
    if staged.document is None or RunStatus.FINISHED in statuses:
        return staged.rows
    return (*staged.rows, staged.document)
