"""
A writer's word to the collectors: these digests are mine until I have published.

Invariants:

- The lease is in the store before the writer looks for any blob, and until its manifest is. A collector that did not
  see the manifest's put has seen the lease.
- It is put anew by a thread, however long an upload lasts. Once a put was not answered within half the length it has
  lapsed for good, whatever comes later: a collector may have disregarded it in between.
- Nothing is published after that: :meth:`Lease.check`.

Who may not delete below ``gc/leases/`` can log all the same: the lease then stays, and is disregarded when it is past.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from airflow_provider_hfreg.errors import (
    HfregError,
    KeyNotFoundError,
    LeaseLapsedError,
    UnknownFormatError,
    VersionExistsError,
)
from airflow_provider_hfreg.storage.base import ObjectInfo, ObjectStore
from airflow_provider_hfreg.versions.documents import document_json, field_of, read_document
from airflow_provider_hfreg.versions.layout import Layout, digest_hex
from airflow_provider_hfreg.versions.terms import Clock, elapsed_s, is_past, may_act

_log = logging.getLogger(__name__)
_RENEWALS = 8  # in one length: three may fail before it lapses


class Lease:
    """
    Taken on entering, dropped on leaving.

    :param transaction: letters and digits; unique.
    :param digests: all that the manifest will name.
    """

    def __init__(
        self,
        store: ObjectStore,
        transaction: str,
        digests: Iterable[str],
        length_s: float,
        *,
        clock: Clock = elapsed_s,
    ) -> None:
        self._store = store
        self._key = Layout.lease(transaction)
        self._digests = sorted(set(digests))
        self._length_s = length_s
        self._clock = clock
        self._renewed_at = clock()
        self._renewals = 0
        self._has_lapsed = False
        self._is_committing = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="hfreg-lease", daemon=True)

    def __enter__(self) -> Self:
        self._renewed_at = self._clock()
        self._put()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(timeout=self._length_s / _RENEWALS)
        if error is None or isinstance(error, VersionExistsError) or not self._is_committing:
            self._drop()
        # Else the manifest may yet arrive: the lease must outlive the put that is on its way.

    @property
    def is_good(self) -> bool:
        """Whether it may be relied on now."""
        return not self._has_lapsed and self._may_act()

    def check(self) -> None:
        """
        Return if a manifest may be put now; called right before each put.

        :raises LeaseLapsedError: it may not.
        """
        if not self.is_good:
            raise LeaseLapsedError(
                f"Nothing was published: {self._store.location(self._key)} could not be renewed for more than "
                f"{self._length_s / 2:,.0f} s, and a collector may have deleted files meanwhile. Log again: what is "
                "still there is not uploaded again."
            )
        self._is_committing = True

    def renew(self) -> None:
        """Put it anew, unless it has lapsed."""
        if not self.is_good:
            self._has_lapsed = True
            return
        sent_at = self._clock()
        self._put()
        self._has_lapsed = not self._may_act()  # the put may have arrived as late as its answer
        self._renewed_at = sent_at

    def _may_act(self) -> bool:
        return may_act(self._clock() - self._renewed_at, self._length_s)

    def _keep(self) -> None:
        while not self._over.wait(self._length_s / _RENEWALS) and not self._has_lapsed:
            try:
                self.renew()
            except HfregError as error:
                _log.warning("A lease could not be renewed, and will be tried again: %s", error)

    def _put(self) -> None:
        document = {"digests": self._digests, "length_s": self._length_s, "renewals": self._renewals}
        self._store.put(self._key, document_json(document))
        self._renewals += 1

    def _drop(self) -> None:
        try:
            self._store.delete([self._key])
        except HfregError as error:
            _log.info("A lease stays, and will be disregarded in %d s: %s", 2 * self._length_s, error)


@dataclass(frozen=True)
class FoundLease:
    """Another's lease, as a collector sees it."""

    key: str
    modified: datetime
    digests: frozenset[str]
    length_s: float

    def is_past(self, now: datetime) -> bool:
        """Tell whether to disregard it; ``now`` is a date of the store."""
        return is_past((now - self.modified).total_seconds(), self.length_s)


def find_lease(store: ObjectStore, info: ObjectInfo) -> FoundLease | None:
    """
    Read a lease that a listing showed; None if it was dropped since: then its manifest, if any, is in the store.

    :raises UnknownFormatError: it cannot be understood, so nobody can say what it protects.
    """
    try:
        plain = read_document(store.get(info.key), store.location(info.key))
    except KeyNotFoundError:
        return None
    try:
        digests = frozenset(field_of(plain, "digests", list, []))
        for digest in digests:
            digest_hex(digest)
        return FoundLease(info.key, info.modified, digests, length_of(plain))
    except (TypeError, UnknownFormatError) as error:
        raise UnknownFormatError(f"{store.location(info.key)} is no lease of this package: {error} in it.") from error


def length_of(plain: Mapping[str, Any]) -> float:
    """
    Return how long a lease or marker is good.

    :raises TypeError: it does not say so.
    """
    return float(field_of(plain, "length_s", int | float))
