"""
Removing what batch runs leave beside their parts: on request alone, older than a given age, and never a part.

What goes is a run's folder below ``_hfreg/``: its plan, its quarantined rows, its report, leftover claims; and rows
that were staged for runs that do not go on (:mod:`~airflow_provider_hfreg.commands.staged_rows`).

- A run that somebody works on is never touched, nor one of which anything, parts included, changed within the age.
- An unfinished run goes only where it is asked for by name of that kind, and only after a day without a change: it can
  be resumed until then. A mark stays in its place (``abandoned.json``), so that a worker or a task that wakes up after
  all commits nothing more.
- Of a finished run the report goes last, its plan first: at no moment does it look like one to be resumed. Once it is
  gone, the same task does not find its result any more and computes it anew, in place of the parts that are there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta

from airflow_provider_hfreg.commands.run_outlines import RunOutline, RunStatus, outlines, traces_below
from airflow_provider_hfreg.commands.staged_rows import RESUMABLE, StagedRows, removable, staged_below
from airflow_provider_hfreg.runs import layout
from airflow_provider_hfreg.storage.base import ObjectStore

_MARK = "abandoned.json"


def to_clean(
    runs: Sequence[RunOutline], *, now: datetime, older_than: timedelta, unfinished: bool = False
) -> list[RunOutline]:
    """
    Return the runs whose folders may go.

    :param older_than: since the last change of anything of a run.
    :param unfinished: those that nobody works on, too.
    """
    return [run for run in runs if _may_go(run, now - run.changed, older_than, unfinished=unfinished)]


def _may_go(run: RunOutline, age: timedelta, older_than: timedelta, *, unfinished: bool) -> bool:
    if age < older_than or not run.files:
        return False
    if run.status is RunStatus.FINISHED:
        return True
    if run.status is RunStatus.ABANDONED:
        return run.files > 1  # only the mark is left where it was cleaned before
    return unfinished and run.status in (RunStatus.UNFINISHED, RunStatus.UNREADABLE) and age >= RESUMABLE


def clean(store: ObjectStore, run: RunOutline) -> bool:
    """
    Remove a run's folder, if it still is as it was seen.

    :returns: False: it changed meanwhile, and is left.
    """
    now = {traces.batch_run_id: traces for traces in traces_below(store)}.get(run.batch_run_id)
    if now is None or now.changed != run.changed:
        return False
    keys = {name: info.key for name, info in now.documents.items()}
    if run.status is not RunStatus.FINISHED and _MARK not in keys:
        store.put(layout.abandoned_key(run.batch_run_id), json.dumps({"successor": None}).encode())
    last = "report.json" if run.status is RunStatus.FINISHED else _MARK
    store.delete([key for name, key in keys.items() if name == "run.json"])
    store.delete([key for name, key in keys.items() if name not in ("run.json", last)])
    store.delete([key for name, key in keys.items() if name == last != _MARK])
    return True


def clean_staged(
    store: ObjectStore, chosen: Sequence[StagedRows], *, now: datetime, older_than: timedelta
) -> list[StagedRows]:
    """
    Remove staged rows, after the runs that they were for; what changed since it was chosen is left.

    :returns: those that were removed.
    """
    runs = outlines(store, traces_below(store), now)  # again: one may have begun meanwhile, with these rows
    removed = [staged for staged in staged_below(store) if staged in chosen]
    keys = {staged.folder: removable(staged, runs, now=now, older_than=older_than) for staged in removed}
    for infos in keys.values():
        store.delete([info.key for info in infos])
    return [staged for staged in removed if keys[staged.folder]]
