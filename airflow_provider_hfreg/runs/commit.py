"""
Committing a shard: the part is its own commit marker.

Invariants:

- A part is put if absent and never written again, so a shard is committed once, whoever else works on it. Its footer
  tells which run, shard and attempt it is and what became of its rows; there is no second object that could disagree.
- Quarantined rows are stored before the part that counts them: a part never names an errors file that is not there.
- The loser of the put removes its own errors file, and goes on with the winner's counts.

What it does not do: keep two workers from computing the same shard. That costs time, never a row.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from airflow_provider_hfreg.errors import KeyExistsError, KeyNotFoundError, RowsNotConservedError, RunAbandonedError
from airflow_provider_hfreg.runs import layout
from airflow_provider_hfreg.runs.plan import RunDocument
from airflow_provider_hfreg.runs.report import Numerics, RowCounts, check_conserved
from airflow_provider_hfreg.runs.spec import known_fields
from airflow_provider_hfreg.storage.base import ObjectStore

_METADATA_KEY = "hfreg"
_TAIL_BYTES = 64 * 2**10
_READERS = 8


@dataclass(frozen=True)
class Marker:
    """
    What a part's footer tells.

    :param first_row: number of the shard's first row in the whole input, by the plan that it was cut by.
    :param attempt: which of the attempts at the shard wrote it.
    :param errors_key: of its quarantined rows; None where it has none.
    :param numerics: of its rows; None where it has none.
    """

    batch_run_id: str
    shard: int
    first_row: int
    attempt: str
    content_digest: str
    counts: RowCounts
    errors_key: str | None
    numerics: Numerics | None = None

    def to_metadata(self) -> dict[str, str]:
        """Return the key-value metadata for the Parquet footer."""
        return {_METADATA_KEY: json.dumps(asdict(self), sort_keys=True)}

    @classmethod
    def from_metadata(cls, metadata: pq.FileMetaData, *, where: str) -> Marker:
        """
        Rebuild what :meth:`to_metadata` gave.

        :raises RowsNotConservedError: the file is none of ours, or holds another number of rows than it tells.
        """
        try:
            plain = json.loads((metadata.metadata or {})[_METADATA_KEY.encode()])
            numerics = plain.get("numerics")  # absent in parts of earlier versions of this package
            rebuilt = {
                "counts": RowCounts(**plain["counts"]),
                "numerics": numerics and Numerics(**known_fields(Numerics, numerics)),
            }
            marker = cls(**known_fields(cls, plain) | rebuilt)
        except (ValueError, LookupError, TypeError, AttributeError):
            marker = None
        if marker is None or marker.counts.rows_ok != metadata.num_rows:
            raise RowsNotConservedError(
                f"{where} has the name of a part of this run, but was not written by it, or was changed since. Move "
                "it away and run again: the shard is then computed anew."
            )
        return marker


@dataclass(frozen=True)
class WrittenShard:
    """The local files of one attempt at a shard, before the commit."""

    part: Path
    errors: Path | None
    marker: Marker


def read_marker(store: ObjectStore, key: str) -> Marker:
    """
    Return the marker of a part by reading the end of the file: one request, two for a long footer.

    :raises KeyNotFoundError: there is no such part.
    :raises RowsNotConservedError: the file is no part, or that of another shard.
    """
    tail = store.get(key, start=-_TAIL_BYTES)
    footer_bytes = 8 + int.from_bytes(tail[-8:-4], "little")
    if footer_bytes > len(tail) >= _TAIL_BYTES:
        tail = store.get(key, start=-footer_bytes)
    where = store.location(key)
    try:
        marker = Marker.from_metadata(pq.read_metadata(pa.BufferReader(tail)), where=where)
    except pa.ArrowInvalid as error:
        raise RowsNotConservedError(
            f"{where} is no whole Parquet file: {error}. Move it away and run again."
        ) from error
    if layout.find_part(key) != (marker.shard, marker.batch_run_id):
        raise RowsNotConservedError(
            f"{where} holds shard {marker.shard} of the run {marker.batch_run_id}: it was renamed or copied. Move it "
            "away and run again."
        )
    return marker


def committed_shards(store: ObjectStore, document: RunDocument) -> dict[int, Marker]:
    """
    Return the markers of all committed shards of a run.

    :raises RowsNotConservedError: a part does not account for the rows that were planned for its shard.
    """
    keys = [info.key for info in store.list_infos("part-") if _is_of_run(info.key, document)]
    with ThreadPoolExecutor(_READERS) as threads:
        markers = list(threads.map(lambda key: read_marker(store, key), keys))
    for marker in markers:
        _check_marker(marker, document)
    return {marker.shard: marker for marker in markers}


def _is_of_run(key: str, document: RunDocument) -> bool:
    found = layout.find_part(key)
    return found is not None and found[1] == document.batch_run_id and found[0] < len(document.shards)


def _check_marker(marker: Marker, document: RunDocument) -> None:
    where = f"The part of shard {marker.shard} of the run {document.batch_run_id}"
    planned = document.shards[marker.shard].first_row
    if marker.first_row != planned:
        raise RowsNotConservedError(
            f"{where} begins at row {marker.first_row}, and its plan says {planned}: it was cut by another plan. Move "
            "that part away and run again: the shard is then computed anew."
        )
    check_conserved(marker.counts, planned_rows=document.shards[marker.shard].rows, where=where)


def find_marker(store: ObjectStore, document: RunDocument, shard: int) -> Marker | None:
    """Return the marker of one shard, or None as long as it is not committed: one request."""
    try:
        marker = read_marker(store, layout.part_key(shard, document.batch_run_id))
    except KeyNotFoundError:
        return None
    _check_marker(marker, document)
    return marker


def commit_shard(store: ObjectStore, document: RunDocument, written: WrittenShard) -> Marker:
    """
    Commit one attempt, or accept that another one was faster.

    :returns: the marker that stands: this attempt's, or the winner's.
    :raises RunAbandonedError: another run took this one's place meanwhile; nothing was written.
    """
    check_not_abandoned(store, document)
    marker = written.marker
    key = layout.part_key(marker.shard, document.batch_run_id)
    if written.errors is not None and marker.errors_key is not None:
        store.upload(marker.errors_key, written.errors)
    try:
        store.put_if_absent(key, written.part)
    except KeyExistsError:
        winner = find_marker(store, document, marker.shard)
        if winner is None:
            raise RowsNotConservedError(_removed(store.location(key))) from None
        if winner.attempt != marker.attempt and marker.errors_key is not None:
            store.delete([marker.errors_key])
        return winner  # may be ourselves, where the answer to our first put was lost
    return marker


def _removed(where: str) -> str:
    return (
        f"{where} was there and is gone: something removes this run's parts while it runs. Find out what, then run "
        "again; the shards that are left are kept."
    )


def check_not_abandoned(store: ObjectStore, document: RunDocument) -> None:
    """
    Raise if another run took this one's place: a part put now would stand beside that run's.

    :raises RunAbandonedError: it did.
    """
    if store.find_info(layout.abandoned_key(document.batch_run_id)) is not None:
        raise RunAbandonedError(
            f"The run {document.batch_run_id} was abandoned: another run, with rerun=True or if_output_exists="
            f"'replace', took its place in {store.url}. Nothing more is written by this one."
        )


def orphaned_errors(keys: Iterable[str], markers: Iterable[Marker]) -> list[str]:
    """
    Return the errors files that no part names: those of attempts that were killed or lost.

    >>> marker = Marker("r", 0, 0, "a1", "sha256:0", RowCounts(1, 0, 1), "_hfreg/r/errors/00000-a1.parquet")
    >>> orphaned_errors(["_hfreg/r/errors/00000-a1.parquet", "_hfreg/r/errors/00000-b2.parquet"], [marker])
    ['_hfreg/r/errors/00000-b2.parquet']
    """
    named = {marker.errors_key for marker in markers}
    return [key for key in keys if key not in named]
