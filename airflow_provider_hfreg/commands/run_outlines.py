"""
What an output folder tells of its batch runs, to whoever asks from outside: listings, ``run.json``, reports, claims.

Two listings find all runs and their parts; of each run its plan and, where it is finished, its report are read, and the
claims of one that is not. Nothing is written, and no part is opened: what became of the rows of an unfinished run is
known by shards.

Whether somebody works on a run is known of pools alone, whose workers renew their claims. A run in a task's own process
leaves no trace between two shards: it is ``unfinished`` here, and the time of its last change is all that tells.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from airflow_provider_hfreg.errors import HfregError, UnknownFormatError
from airflow_provider_hfreg.runs import layout, outputs
from airflow_provider_hfreg.runs.plan import RunDocument
from airflow_provider_hfreg.runs.report import RunReport
from airflow_provider_hfreg.storage.base import ObjectInfo, ObjectStore
from airflow_provider_hfreg.workers.claims import Claim, ClaimState, read_claim

_LAPSES = 4
"""A claim that was not written for so many times its lapse is nobody's, whatever clock the store has."""

_READERS = 8


class RunStatus(StrEnum):
    """What a run is."""

    FINISHED = "finished"
    WORKING = "working"  # a worker of a pool has renewed a claim a moment ago
    UNFINISHED = "unfinished"  # nobody is known to work on it
    ABANDONED = "abandoned"  # another run took its place
    CLEANED = "cleaned"  # only its parts are there
    UNREADABLE = "unreadable"  # its plan is damaged, or of another version of this package


@dataclass(frozen=True)
class RunTraces:
    """
    What two listings show of a run.

    :param documents: below its folder, by their names there.
    :param parts: by their shards.
    """

    batch_run_id: str
    documents: Mapping[str, ObjectInfo]
    parts: Mapping[int, ObjectInfo]

    @property
    def changed(self) -> datetime:
        """When something of it was last written, by the store's clock."""
        return max(info.modified for info in (*self.documents.values(), *self.parts.values()))

    @property
    def claims(self) -> dict[int, ObjectInfo]:
        """Its claims, by their shards."""
        found = ((layout.find_claim(info.key, self.batch_run_id), info) for info in self.documents.values())
        return {shard: info for shard, info in found if shard is not None}


@dataclass(frozen=True)
class ShardClaim:
    """
    A claim, seen from outside.

    :param still_s: since its last write.
    :param lapse_s: of silence, after which its sender would take it for lapsed.
    """

    shard: int
    worker: str
    state: str
    delivery: int
    rows_done: int
    still_s: float
    lapse_s: float
    error: str | None

    @property
    def is_live(self) -> bool:
        """A worker has written it a moment ago."""
        return self.state == ClaimState.RUNNING and self.still_s < _LAPSES * self.lapse_s


@dataclass(frozen=True)
class RunOutline:
    """
    A run, as a person asks for it.

    :param shards_done: committed ones; of a finished run as its report says, though its parts may be gone since.
    :param rows_done: rows of committed shards, and those that live claims tell of.
    :param rows_quarantined: None as long as the run is not finished: its parts know it.
    :param parts: how many of its parts are there; none where another run took its place.
    :param files: how many objects its folder holds, and ``size_bytes`` of them; parts are not among them.
    """

    batch_run_id: str
    status: RunStatus
    model: str | None
    content_digest: str | None
    identity: str | None
    input: str | None
    shards_done: int
    shards_total: int | None
    rows_done: int | None
    rows_total: int | None
    rows_quarantined: int | None
    began: datetime | None
    changed: datetime
    parts: int
    files: int
    size_bytes: int
    claims: tuple[ShardClaim, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        plain = asdict(self)
        times = {name: time and time.isoformat() for name, time in (("began", self.began), ("changed", self.changed))}
        return plain | times | {"claims": [asdict(claim) for claim in self.claims]}


def traces_below(store: ObjectStore) -> list[RunTraces]:
    """Return the traces of all runs of an output folder, the one that changed last first: two listings."""
    documents: dict[str, dict[str, ObjectInfo]] = {}
    for info in store.list_infos(layout.RUNS_FOLDER):
        if info.key.startswith(layout.STAGED_FOLDER):  # the input of runs, and none of them
            continue
        run_id, slash, name = info.key.removeprefix(layout.RUNS_FOLDER).partition("/")
        if slash:
            documents.setdefault(run_id, {})[name] = info
    parts: dict[str, dict[int, ObjectInfo]] = {}
    for info in store.list_infos("part-"):
        if (part := layout.find_part(info.key)) is not None:
            parts.setdefault(part[1], {})[part[0]] = info
    runs = [RunTraces(run, documents.get(run, {}), parts.get(run, {})) for run in documents.keys() | parts.keys()]
    return sorted(runs, key=lambda run: (run.changed, run.batch_run_id), reverse=True)


def outlines(store: ObjectStore, traces: Sequence[RunTraces], now: datetime) -> list[RunOutline]:
    """
    Return the runs, in the order of the traces.

    :param now: by the store's clock, as far as it is known.
    """
    with ThreadPoolExecutor(_READERS) as threads:
        return list(threads.map(lambda run: outline(store, run, now), traces))


def outline(store: ObjectStore, traces: RunTraces, now: datetime) -> RunOutline:
    """Return one run."""
    document = _find_document(store, traces)
    is_open = "report.json" not in traces.documents and "abandoned.json" not in traces.documents
    claims = tuple(_claims(store, traces, now)) if is_open else ()
    report = _find_report(store, traces)
    progress = _progress(document, report, traces, claims)
    live = any(claim.is_live for claim in claims)
    began = traces.documents.get("run.json")
    return RunOutline(
        batch_run_id=traces.batch_run_id,
        status=status_of(frozenset(traces.documents), is_readable=document is not None, is_live=live),
        model=_model(report or document),
        content_digest=_content_digest(report or document),
        identity=None if document is None else document.identity,
        input=None if document is None else document.request.input,
        shards_done=progress.shards_done,
        shards_total=progress.shards_total,
        rows_done=progress.rows_done,
        rows_total=progress.rows_total,
        rows_quarantined=None if report is None else report.rows_quarantined,
        began=None if began is None else began.modified,
        changed=traces.changed,
        parts=len(traces.parts),
        files=len(traces.documents),
        size_bytes=sum(info.size_bytes for info in traces.documents.values()),
        claims=claims,
    )


def status_of(documents: frozenset[str], *, is_readable: bool, is_live: bool) -> RunStatus:
    """
    Return what a run is, by the names in its folder.

    >>> status_of(frozenset({"run.json", "report.json"}), is_readable=True, is_live=False).value
    'finished'
    >>> status_of(frozenset({"run.json"}), is_readable=True, is_live=False).value
    'unfinished'
    >>> status_of(frozenset({"abandoned.json"}), is_readable=False, is_live=False).value
    'abandoned'
    """
    if not documents:
        return RunStatus.CLEANED
    if "report.json" in documents:
        return RunStatus.FINISHED
    if "abandoned.json" in documents:
        return RunStatus.ABANDONED
    if is_live:
        return RunStatus.WORKING
    return RunStatus.UNFINISHED if is_readable else RunStatus.UNREADABLE


def _find_document(store: ObjectStore, traces: RunTraces) -> RunDocument | None:
    if "run.json" not in traces.documents:
        return None
    with contextlib.suppress(HfregError):  # removed since the listing, or nobody here can read it: the status tells
        return outputs.read_document(store, traces.batch_run_id)
    return None


def _find_report(store: ObjectStore, traces: RunTraces) -> RunReport | None:
    if "report.json" not in traces.documents:
        return None
    with contextlib.suppress(UnknownFormatError):
        return outputs.find_report(store, traces.batch_run_id)
    return None


def _model(told: RunReport | RunDocument | None) -> str | None:
    version = told.version if isinstance(told, RunDocument) else told
    return None if version is None else f"{version.model_name}/{version.version_name}"


def _content_digest(told: RunReport | RunDocument | None) -> str | None:
    version = told.version if isinstance(told, RunDocument) else told
    return None if version is None else version.content_digest


@dataclass(frozen=True)
class _Progress:
    shards_done: int
    shards_total: int | None = None
    rows_done: int | None = None
    rows_total: int | None = None


def _progress(
    document: RunDocument | None, report: RunReport | None, traces: RunTraces, claims: Sequence[ShardClaim]
) -> _Progress:
    """Return how far a run is; a finished one as its report says, whether or not its plan and parts are still there."""
    if report is not None:
        return _Progress(report.shards_total, report.shards_total, report.rows_in, report.rows_in)
    if document is None:
        return _Progress(len(traces.parts))
    return _Progress(len(traces.parts), len(document.shards), _rows_done(document, traces, claims), document.rows)


def _claims(store: ObjectStore, traces: RunTraces, now: datetime) -> Iterator[ShardClaim]:
    for shard, info in sorted(traces.claims.items()):
        with contextlib.suppress(HfregError):  # removed since the listing, or none that this version reads
            claim, _ = read_claim(store, info.key)
            yield _seen(shard, claim, max(0.0, (now - info.modified).total_seconds()))


def _seen(shard: int, claim: Claim, still_s: float) -> ShardClaim:
    error = None if claim.error is None else f"{claim.error.kind}: {claim.error.message}"
    return ShardClaim(
        shard,
        claim.worker,
        claim.state.value,
        claim.delivery,
        rows_done=claim.counts.rows_in,
        still_s=round(still_s, 1),
        lapse_s=claim.lapse_s,
        error=error,
    )


def _rows_done(document: RunDocument, traces: RunTraces, claims: Sequence[ShardClaim]) -> int:
    committed = sum(shard.rows for shard in document.shards if shard.index in traces.parts)
    return committed + sum(claim.rows_done for claim in claims if claim.is_live and claim.shard not in traces.parts)
