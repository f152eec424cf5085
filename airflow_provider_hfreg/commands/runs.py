"""Commands about the batch runs of an output folder: list, show, clean. The same facts for people and as JSON."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_provider_hfreg.commands.replies import Asked, Reply
from airflow_provider_hfreg.commands.run_cleaning import clean, clean_staged, to_clean
from airflow_provider_hfreg.commands.run_outlines import (
    RunOutline,
    RunStatus,
    RunTraces,
    outline,
    outlines,
    traces_below,
)
from airflow_provider_hfreg.commands.staged_rows import StagedRows, removable, staged_below
from airflow_provider_hfreg.commands.tables import facts, size_text, table
from airflow_provider_hfreg.errors import RunNotFoundError
from airflow_provider_hfreg.runs import layout
from airflow_provider_hfreg.runs.commit import committed_shards
from airflow_provider_hfreg.runs.outputs import read_document
from airflow_provider_hfreg.runs.progress import duration
from airflow_provider_hfreg.storage.base import ObjectStore
from airflow_provider_hfreg.storage.urls import open_store

_OPEN = (RunStatus.WORKING, RunStatus.UNFINISHED)


def list_(asked: Asked) -> Reply:
    """Return the runs of an output folder, the one that changed last first, and the rows that are staged for some."""
    store, now = _store(asked), datetime.now(UTC)
    runs = outlines(store, traces_below(store), now)
    staged = [rows for rows in staged_below(store) if rows.rows]
    text = _table(runs, now) if runs else f"No batch run has written to {store.url}."
    return Reply(
        {"runs": [run.to_json() for run in runs], "staged": [rows.to_json() for rows in staged]},
        "\n".join([text, *(["", _staged_table(staged, now)] if staged else [])]),
    )


def show(asked: Asked) -> Reply:
    """
    Return one run, by its id or the beginning of it: what it is, and of an unfinished one each shard under way.

    :raises RunNotFoundError: there is none, or several begin so.
    """
    store, now = _store(asked), datetime.now(UTC)
    traces = find_run(store, asked.options.run_id)
    run = outline(store, traces, now)
    bad = _quarantined(store, run)
    has_errors = any(name.startswith("errors/") for name in traces.documents)
    told = {
        "run": run.batch_run_id,
        "status": run.status.value,
        "model": run.model,
        "content": run.content_digest,
        "asked by": run.identity,
        "input": run.input,
        "shards": _share(run.shards_done, run.shards_total),
        "rows": _share(run.rows_done, run.rows_total),
        "quarantined": bad,
        "quarantined rows": store.location(layout.errors_folder(run.batch_run_id)) if bad and has_errors else None,
        "parts": _parts_gone(run),
        "began": run.began and f"{run.began:%Y-%m-%d %H:%M:%S} UTC",
        "last change": _ago(now - run.changed),
    }
    claims = [
        f"shard {claim.shard}: {claim.state} on {claim.worker}, begun {claim.delivery} time(s), {claim.rows_done:,} "
        f"rows, written {_ago(timedelta(seconds=claim.still_s))}{f': {claim.error}' if claim.error else ''}"
        for claim in run.claims
    ]
    return Reply(run.to_json() | {"rows_quarantined": bad}, "\n".join([facts(told), *claims]))


def clean_(asked: Asked) -> Reply:
    """Remove what old runs left beside their parts, or say what would be removed."""
    options, store, now = asked.options, _store(asked), datetime.now(UTC)
    runs = outlines(store, traces_below(store), now)
    chosen = to_clean(runs, now=now, older_than=options.older_than, unfinished=options.unfinished)
    others = [run for run in runs if run not in chosen]
    staged = [s for s in staged_below(store) if removable(s, others, now=now, older_than=options.older_than)]
    removed = [run for run in chosen if clean(store, run)] if options.yes else []
    cleared = clean_staged(store, staged, now=now, older_than=options.older_than) if options.yes else []
    plain = {
        "would_remove": [run.to_json() for run in chosen if not options.yes],
        "removed": [run.batch_run_id for run in removed],
        "changed_meanwhile": [run.batch_run_id for run in chosen if options.yes and run not in removed],
        "would_remove_staged": [rows.to_json() for rows in staged if not options.yes],
        "removed_staged": [rows.folder for rows in cleared],
    }
    if not chosen and not staged:
        return Reply(plain, f"Nothing below {store.location(layout.RUNS_FOLDER)} is that old and at rest.")
    tables = [_table(chosen, now)] if chosen else []
    tables += [_staged_table(staged, now)] if staged else []
    last = _removed(chosen, removed, cleared) if options.yes else [_would_remove(chosen, staged)]
    return Reply(plain, "\n".join([*(f"{text}\n" for text in tables), *last]))


def _removed(chosen: Sequence[RunOutline], removed: Sequence[RunOutline], cleared: Sequence[StagedRows]) -> list[str]:
    left = [f"{run.batch_run_id} changed meanwhile and is left." for run in chosen if run not in removed]
    staged = [f"Removed {len(cleared)} folder(s) of staged rows."] if cleared else []
    return [*left, f"Removed what {len(removed)} run(s) left beside their parts.", *staged]


def _would_remove(chosen: Sequence[RunOutline], staged: Sequence[StagedRows]) -> str:
    size = size_text(sum(run.size_bytes for run in chosen))
    rows = f", and {len(staged)} folder(s) of staged rows ({size_text(sum(s.size_bytes for s in staged))})"
    return (
        f"Would remove {sum(run.files for run in chosen)} objects ({size}) of {len(chosen)} run(s): plans, reports, "
        f"quarantined rows{rows if staged else ''}. Parts stay. A task whose report is gone computes its result anew "
        "when it runs again; one whose staged rows are gone asks its database anew. Nothing was removed: repeat with "
        "--yes."
    )


def _store(asked: Asked) -> ObjectStore:
    """Return the output folder, reached as a registry there would be."""
    place = asked.find_place(Namespace(**vars(asked.options) | {"registry": asked.options.output}))
    return open_store(place.url, place.s3)


def find_run(store: ObjectStore, run_id: str) -> RunTraces:
    """
    Return the run of an id, or the only one whose id begins so.

    :raises RunNotFoundError: there is none, or several begin so.
    """
    found = [traces for traces in traces_below(store) if traces.batch_run_id.startswith(run_id)]
    exact = [traces for traces in found if traces.batch_run_id == run_id]
    if len(exact or found) != 1:
        raise RunNotFoundError(
            f"{len(found) or 'No'} runs in {store.url} have an id that begins with {run_id!r}. `runs list` shows those "
            "there are; the beginning of an id is enough where only one begins so."
        )
    return (exact or found)[0]


def _quarantined(store: ObjectStore, run: RunOutline) -> int | None:
    """Return how many rows so far; of an open run the footers of its parts tell it, of a finished one its report."""
    if run.status not in _OPEN:
        return run.rows_quarantined
    markers = committed_shards(store, read_document(store, run.batch_run_id))
    return sum(marker.counts.rows_quarantined for marker in markers.values())


def _parts_gone(run: RunOutline) -> str | None:
    if run.status is not RunStatus.FINISHED or run.shards_total in (None, run.parts):
        return None
    return f"{run.parts:,} of {run.shards_total:,} are there; those that a later run replaces are removed"


_COLUMNS = ("run", "status", "model", "shards", "rows", "quarantined", "workers", "last change")


def _table(runs: Sequence[RunOutline], now: datetime) -> str:
    return table(_COLUMNS, [_cells(run, now) for run in runs])


def _staged_table(staged: Sequence[StagedRows], now: datetime) -> str:
    cells = [
        (
            rows.folder.removeprefix(layout.STAGED_FOLDER).rstrip("/"),
            rows.identity_prefix.rstrip("-"),
            size_text(rows.size_bytes),
            _ago(now - rows.changed),
        )
        for rows in staged
    ]
    return table(("staged rows", "for the runs", "size", "last change"), cells)


def _cells(run: RunOutline, now: datetime) -> tuple[Any, ...]:
    workers = len({claim.worker for claim in run.claims if claim.is_live})
    return (
        run.batch_run_id,
        run.status.value,
        run.model,
        _share(run.shards_done, run.shards_total),
        _share(run.rows_done, run.rows_total),
        run.rows_quarantined,
        workers or None,
        _ago(now - run.changed),
    )


def _share(done: int | None, total: int | None) -> str:
    """
    Return how many of how many.

    >>> _share(3, 12), _share(12, 12), _share(5, None)
    ('3 of 12', '12', '5')
    """
    if done is None:
        return ""
    return f"{done:,}" if total in (None, done) else f"{done:,} of {total:,}"


def _ago(age: timedelta) -> str:
    """
    Return an age for people; a store's clock may be a little before ours.

    >>> _ago(timedelta(hours=3)), _ago(timedelta(days=40, hours=1)), _ago(timedelta(seconds=-2))
    ('3 h 00 min ago', '40 days ago', '0 s ago')
    """
    seconds = max(0.0, age.total_seconds())
    return f"{age.days} days ago" if age.days >= 2 else f"{duration(seconds)} ago"
