"""
Deleting the blobs that no version names, while others log.

For each batch of digests, in this order; every step waits for the one before it:

1. Put a marker on each digest. Who looks for its blobs from now on makes new ones, under keys not listed here.
2. List the *leases*, and spare what they name: those writers may have looked before the marker.
3. List and read the *manifests*, and spare what they name. In this order, because a writer drops its lease after its
   manifest is there: whoever is not seen in 2 any more is seen in 3.
4. Delete the blobs that were listed before the markers and not spared, until half the markers' life is over.
5. Delete the markers.

``tests/versions/protocol.py`` explores every interleaving of this with writers and other collectors, and shows for each
change of the order how a version loses its bytes.

Time: a lease is judged by the store's dates alone, its own against that of an object which this collector has put
since; the hosts' clocks have no part in it. A folder has no clock but that of the host that writes, see
:mod:`airflow_provider_hfreg.versions.terms` for how far those may differ.

A manifest of a deleted version needs none of this. Its tombstone was there first and stays for ever, so nobody will
rely on it; it is deleted before the blobs, and these are then garbage like any other.

Parts of unfinished multipart uploads are no objects: their writer aborts them, or a lifecycle rule of the bucket.
"""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from airflow_provider_hfreg.errors import HfregError, StorageUnavailableError
from airflow_provider_hfreg.storage.base import ObjectInfo, ObjectStore
from airflow_provider_hfreg.versions.documents import document_json
from airflow_provider_hfreg.versions.format import check_format
from airflow_provider_hfreg.versions.inventory import Survey, check_protocol, find_blobs, find_leases, find_markers
from airflow_provider_hfreg.versions.layout import Layout
from airflow_provider_hfreg.versions.terms import Clock, Terms, elapsed_s, may_act, terms_of

_BATCH_DIGESTS = 500  # bounds how many markers a logger may meet in its one LIST
_DELETED_AT_ONCE = 100
_PUTTERS = 8

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GarbageReport:
    """
    What a collection freed, or would free.

    :param dry_run: nothing was changed.
    :param blobs: key → size in bytes of each deleted blob.
    :param deleted_versions: keys of the documents of deleted versions that were removed.
    :param leased: digests that no version names and a writer at work relies on.
    :param leases: keys of leases of writers that ended without dropping them.
    :param markers: keys of markers of collectors that were killed.
    :param strange: keys below ``blobs/`` that are none of this package's; left alone.
    :param is_complete: False where the time ran out: the next collection goes on.
    """

    dry_run: bool
    blobs: dict[str, int]
    deleted_versions: tuple[str, ...] = ()
    leased: int = 0
    leases: tuple[str, ...] = ()
    markers: tuple[str, ...] = ()
    strange: tuple[str, ...] = ()
    is_complete: bool = True

    @property
    def size_bytes(self) -> int:
        """How much it freed, or would free."""
        return sum(self.blobs.values())

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        return {
            "dry_run": self.dry_run,
            "is_complete": self.is_complete,
            "size_bytes": self.size_bytes,
            "blobs": dict(self.blobs),
            "deleted_versions": list(self.deleted_versions),
            "leased": self.leased,
            "leases": list(self.leases),
            "markers": list(self.markers),
            "strange": list(self.strange),
        }


def collect(
    store: ObjectStore, *, dry_run: bool, terms: Terms | None = None, clock: Clock = elapsed_s
) -> GarbageReport:
    """
    Delete the blobs that no version names and no writer relies on, the documents of deleted versions, and what killed
    writers and collectors left behind.

    Safe beside loggers, readers of versions that exist, and other collections; and to be killed at any moment: what is
    left then is collected by the next one, once the markers are past (two hours by default). A reader that is loading
    a version while it is deleted and collected gets :class:`BlobMissingError`.

    :param store: of a registry; one in which nothing was ever logged has no garbage.
    :param dry_run: change nothing and say what would be freed; a lease is then judged by this host's clock.
    :param terms: how long the markers are good; default: an hour, or longer where the store's requests may last longer.
    :raises UnknownFormatError: something in the registry is not understood, named; nothing was collected.
    :raises StorageDeniedError: it takes DeleteObject below ``blobs/``, ``models/*/versions/``, ``models/*/state/``
        and ``gc/``.
    :raises StorageUnavailableError: the store went away; what was not deleted is left to the next collection.
    """
    if not check_format(store):
        return GarbageReport(dry_run, {})
    collector = _Collector(store, terms or terms_of(store), clock)
    return collector.foresee() if dry_run else collector.collect()


@dataclass(frozen=True)
class _Seen:
    """What the first look showed."""

    garbage: dict[str, tuple[ObjectInfo, ...]]  # by digest: the generations that nobody names
    report: GarbageReport  # without the blobs


class _Collector:
    """One run, under one name."""

    def __init__(self, store: ObjectStore, terms: Terms, clock: Clock) -> None:
        self._store = store
        self._terms = terms
        self._clock = clock
        self._run = uuid.uuid4().hex
        self._survey = Survey(store)

    def foresee(self) -> GarbageReport:
        seen = self._look(datetime.now(UTC), dry_run=True)
        return _with_blobs(seen.report, _flat(seen.garbage))

    def collect(self) -> GarbageReport:
        try:
            return self._collect()
        finally:
            with contextlib.suppress(HfregError):  # what is to be told is told already; it protects nothing, and ages
                self._store.delete([Layout.lease(self._run)])

    def _collect(self) -> GarbageReport:
        seen = self._look(self._now(), dry_run=False)
        self._store.delete([*seen.report.deleted_versions, *seen.report.leases, *seen.report.markers])
        freed: list[ObjectInfo] = []
        is_complete = True
        for batch in _batches(seen.garbage):
            deleted, was_in_time = self._collect_batch(batch)
            freed += deleted
            is_complete = is_complete and was_in_time
        return replace(_with_blobs(seen.report, freed), is_complete=is_complete)

    def _now(self) -> datetime:
        """Return the store's time: the date of a lease on nothing, which this run puts anew whenever it asks."""
        key = Layout.lease(self._run)
        self._store.put(key, document_json({"digests": [], "length_s": self._terms.lease_s, "asked": uuid.uuid4().hex}))
        info = self._store.find_info(key)
        if info is None:
            raise StorageUnavailableError(
                f"{self._store.location(key)} was put and is not there; somebody else deletes below gc/. Try again."
            )
        return info.modified

    def _look(self, now: datetime, *, dry_run: bool) -> _Seen:
        """Look without markers: nothing is deleted on the strength of this, and what is in use gets no marker."""
        check_protocol(self._store)
        blobs = find_blobs(self._store)
        markers = [marker.key for marker in find_markers(self._store) if marker.is_past(now)]
        leases = find_leases(self._store)
        leased = frozenset(digest for lease in leases if not lease.is_past(now) for digest in lease.digests)
        references = self._survey.references()
        unnamed = {
            digest: rest
            for digest, infos in blobs.by_digest.items()
            if (rest := tuple(info for info in infos if info.key not in references.blobs))
        }
        report = GarbageReport(
            dry_run,
            {},
            deleted_versions=references.remains,
            leased=len(leased & unnamed.keys()),
            leases=tuple(lease.key for lease in leases if lease.is_past(now)),
            markers=tuple(markers),
            strange=blobs.strange,
        )
        garbage = {digest: infos for digest, infos in unnamed.items() if digest not in leased}
        return _Seen(garbage, report)

    def _collect_batch(self, batch: dict[str, tuple[ObjectInfo, ...]]) -> tuple[list[ObjectInfo], bool]:
        """Return the blobs deleted, and whether there was time for all."""
        began = self._clock()
        markers = [Layout.condemned(digest, self._run) for digest in batch]
        with self._taking_back(markers):
            self._condemn(markers)
            doomed = self._doomed(batch)
        # A delete that was not answered may still be on its way: until they are past, the markers must stand.
        with self._taking_back(markers, unless=(StorageUnavailableError,)):
            deleted = self._delete(doomed, began)
        self._store.delete(markers)
        return deleted, len(deleted) == len(doomed)

    @contextlib.contextmanager
    def _taking_back(self, markers: list[str], *, unless: tuple[type[HfregError], ...] = ()) -> Iterator[None]:
        """Remove the markers after an error, or every logger of these blobs uploads them anew until they are past."""
        try:
            yield
        except unless:
            raise
        except HfregError:
            with contextlib.suppress(HfregError):
                self._store.delete(markers)
            raise

    def _condemn(self, markers: Sequence[str]) -> None:
        content = document_json({"length_s": self._terms.marker_s})
        with ThreadPoolExecutor(_PUTTERS) as threads:
            list(threads.map(lambda key: self._store.put(key, content), markers))

    def _doomed(self, batch: dict[str, tuple[ObjectInfo, ...]]) -> list[ObjectInfo]:
        """Look again, now that there are markers: leases first."""
        now = self._now()
        leased = {digest for lease in find_leases(self._store) if not lease.is_past(now) for digest in lease.digests}
        named = self._survey.references().blobs
        return [
            info for digest, infos in batch.items() if digest not in leased for info in infos if info.key not in named
        ]

    def _delete(self, doomed: Sequence[ObjectInfo], began: float) -> list[ObjectInfo]:
        """Delete while the markers, the first of which was sent when this ``began``, allow it."""
        deleted: list[ObjectInfo] = []
        for first in range(0, len(doomed), _DELETED_AT_ONCE):
            if not may_act(self._clock() - began, self._terms.marker_s):
                _log.warning("Not everything was collected in time; the next collection goes on.")
                break
            some = doomed[first : first + _DELETED_AT_ONCE]
            self._store.delete([info.key for info in some])
            deleted += some
        return deleted


def _with_blobs(report: GarbageReport, infos: Iterable[ObjectInfo]) -> GarbageReport:
    return replace(report, blobs={info.key: info.size_bytes for info in infos})


def _flat(garbage: dict[str, tuple[ObjectInfo, ...]]) -> list[ObjectInfo]:
    return [info for infos in garbage.values() for info in infos]


def _batches(garbage: dict[str, tuple[ObjectInfo, ...]]) -> Iterator[dict[str, tuple[ObjectInfo, ...]]]:
    rest = iter(garbage.items())
    while batch := dict(islice(rest, _BATCH_DIGESTS)):
        yield batch
