"""
An output folder: what is in it, and how a run is begun, abandoned and finished there.

Finishing is a sequence of steps that can each be repeated, with the report last: a run that died in the middle finishes
again from the start, and one that has a report has nothing left to do.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_provider_hfreg.errors import (
    CompareAndSwapLostError,
    KeyExistsError,
    KeyNotFoundError,
    OutputExistsError,
    RowsNotConservedError,
    UnknownFormatError,
)
from airflow_provider_hfreg.runs import layout
from airflow_provider_hfreg.runs.commit import Marker, check_not_abandoned, orphaned_errors
from airflow_provider_hfreg.runs.decide import OutputState, RunState
from airflow_provider_hfreg.runs.inputs import is_hidden
from airflow_provider_hfreg.runs.plan import RunDocument
from airflow_provider_hfreg.runs.report import RunReport
from airflow_provider_hfreg.runs.spec import identity_prefix
from airflow_provider_hfreg.runs.staging import clear_staged
from airflow_provider_hfreg.storage.base import ObjectStore

_SWAP_ATTEMPTS = 20


def look(store: ObjectStore, *, own_prefix: str) -> OutputState:
    """
    Return what an output folder holds: two listings, and the reports of the asker's own runs.

    :param own_prefix: of the batch_run_ids of who asks.
    """
    names = list(store.list_names())
    parts = Counter(part[1] for name in names if (part := layout.find_part(name)))
    foreign = [name for name in names if not is_hidden(name) and not layout.find_part(name) and _holds(store, name)]
    documents: dict[str, set[str]] = {}
    for info in store.list_infos(layout.RUNS_FOLDER):
        run_id, _, rest = info.key.removeprefix(layout.RUNS_FOLDER).partition("/")
        if info.key.startswith(layout.STAGED_FOLDER):
            continue
        documents.setdefault(run_id, set()).add(rest)
    runs = [
        _run_state(store, run_id, parts[run_id], documents.get(run_id, set()), is_own=run_id.startswith(own_prefix))
        for run_id in sorted(parts.keys() | documents.keys())
    ]
    return OutputState(tuple(runs), tuple(foreign))


def _holds(store: ObjectStore, name: str) -> bool:
    """Tell whether a name is more than an empty folder: some servers show one for a while after its last object."""
    return not name.endswith("/") or next(iter(store.list_names(name)), None) is not None


def _run_state(store: ObjectStore, run_id: str, parts: int, documents: set[str], *, is_own: bool) -> RunState:
    finished = "report.json" in documents
    report = find_report(store, run_id) if finished and is_own else None
    return RunState(
        run_id,
        parts=parts,
        planned="run.json" in documents,
        finished=finished,
        whole=report is not None and report.parts == parts,
        abandoned="abandoned.json" in documents,
    )


def find_report(store: ObjectStore, batch_run_id: str) -> RunReport | None:
    """
    Return the report of a finished run, or None.

    :raises UnknownFormatError: it is cut or changed.
    """
    key = layout.report_key(batch_run_id)
    try:
        return RunReport.from_json(json.loads(store.get(key)))
    except KeyNotFoundError:
        return None
    except (ValueError, LookupError, TypeError) as error:
        raise UnknownFormatError(
            f"{store.location(key)} is no whole report of a run: {error!r}. Delete it and run again: the parts of the "
            "run are all kept, and its report is written anew from them."
        ) from error


def read_document(store: ObjectStore, batch_run_id: str) -> RunDocument:
    """Return the plan of a run."""
    key = layout.run_key(batch_run_id)
    return RunDocument.from_bytes(store.get(key), where=store.location(key))


def is_readable(store: ObjectStore, batch_run_id: str) -> bool:
    """Tell whether the plan of a run can be read by this version of the package."""
    try:
        read_document(store, batch_run_id)
    except UnknownFormatError:
        return False
    return True


def begin(store: ObjectStore, document: RunDocument, *, alone: bool) -> RunDocument:
    """
    Write ``run.json``, from which on the run exists.

    :param alone: no other run may share the folder, apart from those that this one replaces: seen again afterwards,
        because another one can begin, and even finish, while this one scans its input.
    :returns: the document that stands; an equal run that began at the same moment may have written it.
    :raises OutputExistsError: another run began in the folder meanwhile; this one is withdrawn.
    """
    key = layout.run_key(document.batch_run_id)
    try:
        store.put_if_absent(key, document.to_bytes())
    except KeyExistsError:
        return read_document(store, document.batch_run_id)
    if alone:
        _step_back_if_crowded(store, document)
    return document


def _step_back_if_crowded(store: ObjectStore, document: RunDocument) -> None:
    """Both may step back: two errors are better than two results in one folder."""
    state = look(store, own_prefix=document.batch_run_id)
    known = {document.batch_run_id, *document.replaces}
    newcomers = [run.batch_run_id for run in state.runs if run.is_in_the_way and run.batch_run_id not in known]
    if newcomers:
        store.delete([layout.run_key(document.batch_run_id)])
        raise OutputExistsError(
            f"The run {newcomers[0]} began in {store.url} at the same moment. Nothing was written by this one: give "
            "each run a folder of its own, or if_output_exists='append'."
        )


def abandon(store: ObjectStore, runs: Sequence[str], *, successor: str | None) -> None:
    """
    Mark unfinished runs as abandoned: whoever still executes one stops at its next commit.

    :param successor: the run that takes their place; None where it has not begun.
    """
    for run_id in runs:
        is_open = store.find_info(layout.report_key(run_id)) is None and store.find_info(layout.run_key(run_id))
        if is_open and store.find_info(layout.abandoned_key(run_id)) is None:
            store.put(layout.abandoned_key(run_id), json.dumps({"successor": successor}).encode())


def finish(store: ObjectStore, document: RunDocument, markers: Mapping[int, Marker], report: RunReport) -> None:
    """
    Publish a run whose shards are all committed: its list of parts, then what it replaces and what was staged for it
    go, then its report.

    :param markers: of all shards.
    :raises RowsNotConservedError: a part is gone.
    """
    check_not_abandoned(store, document)
    _check_all_there(store, document)
    errors = [info.key for info in store.list_infos(layout.errors_folder(document.batch_run_id))]
    store.delete(orphaned_errors(errors, markers.values()))
    publish_success(store, document)
    store.delete(_parts_of(store, set(document.replaces)))
    clear_staged(store, identity_prefix(document.identity))
    store.put(layout.report_key(document.batch_run_id), json.dumps(report.to_json(), indent=1).encode())


def _check_all_there(store: ObjectStore, document: RunDocument) -> None:
    missing = missing_parts(store, document)
    if missing:
        raise RowsNotConservedError(
            f"{len(missing)} parts of the run {document.batch_run_id} were committed and are gone from {store.url}, "
            f"{missing[0]} first. Something removes them while the run is on; find out what, then run again: the "
            "missing ones are computed anew."
        )


def missing_parts(store: ObjectStore, document: RunDocument) -> list[str]:
    """Return the keys of the parts that a run has yet to commit: one listing."""
    there = set(_parts_of(store, {document.batch_run_id}))
    return [key for key in _part_keys(document) if key not in there]


def _part_keys(document: RunDocument) -> list[str]:
    return [layout.part_key(shard.index, document.batch_run_id) for shard in document.shards]


def _parts_of(store: ObjectStore, runs: set[str]) -> list[str]:
    if not runs:
        return []
    return [i.key for i in store.list_infos("part-") if (part := layout.find_part(i.key)) and part[1] in runs]


def publish_success(store: ObjectStore, document: RunDocument) -> None:
    """
    Enter the run into ``_SUCCESS``, by compare-and-swap, beside those that it does not replace.

    :raises CompareAndSwapLostError: others were faster every time.
    """
    for _ in range(_SWAP_ATTEMPTS):
        try:
            content, etag = store.get_with_etag(layout.SUCCESS)
        except KeyNotFoundError:
            content, etag = b"", ""
        joined = joined_success(_parsed(content), document.batch_run_id, _part_keys(document), document.replaces)
        try:
            _swap(store, json.dumps(joined, indent=1).encode(), content, etag)
        except (KeyExistsError, CompareAndSwapLostError):
            continue
        return
    raise CompareAndSwapLostError(
        f"{store.location(layout.SUCCESS)} was changed by others before each of {_SWAP_ATTEMPTS} attempts to enter the "
        f"run {document.batch_run_id}. All its parts are committed; run again to finish it."
    )


def _swap(store: ObjectStore, joined: bytes, content: bytes, etag: str) -> None:
    if joined == content:
        return
    if etag:
        store.replace_if_match(layout.SUCCESS, joined, etag)
    else:
        store.put_if_absent(layout.SUCCESS, joined)


def _parsed(content: bytes) -> dict[str, Any]:
    """Return a ``_SUCCESS`` of ours; Spark's is empty, and another tool's is not ours to keep."""
    try:
        plain = json.loads(content)
    except ValueError:
        return {}
    return plain if isinstance(plain, dict) and isinstance(plain.get("runs"), list) else {}


def joined_success(
    earlier: Mapping[str, Any], batch_run_id: str, parts: Sequence[str], replaces: Sequence[str]
) -> dict[str, Any]:
    """
    Return the content of ``_SUCCESS`` after a run: all parts that hold the folder's result.

    >>> first = joined_success({}, "a", ["part-0-a"], [])
    >>> joined_success(first, "b", ["part-0-b"], [])["parts"], joined_success(first, "b", ["part-0-b"], ["a"])["parts"]
    (['part-0-a', 'part-0-b'], ['part-0-b'])
    >>> joined_success(first, "a", ["part-0-a"], []) == first
    True
    """
    gone = {batch_run_id, *replaces}
    runs = [run for run in earlier.get("runs", []) if run["batch_run_id"] not in gone]
    runs.append({"batch_run_id": batch_run_id, "parts": list(parts)})
    return {"format_version": 1, "runs": runs, "parts": [part for run in runs for part in run["parts"]]}
