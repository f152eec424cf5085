"""
How long a lease and a marker are good, and for whom: the only place where time decides.

Writers and collectors never talk to each other; each knows the other by an object in the store. Both rules leave the
same gap between the last moment at which an owner acts and the first at which others disregard its object:

- An owner acts up to *half* the length after it *sent* the put, by a clock of its own that only counts elapsed time.
- Others disregard the object from *twice* the length after its date, both dates being the store's.

So a request may be on its way for one and a half lengths, or the dates of a store's machines (or of the hosts that
share a folder) differ by as much, before anything is lost. The defaults leave 22 and 90 minutes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from airflow_provider_hfreg.storage.base import ObjectStore

Clock = Callable[[], float]
"""Elapsed seconds from some moment."""


def elapsed_s() -> float:
    """Return seconds that go on while the machine sleeps, where the system counts them; ``monotonic`` stands still."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


@dataclass(frozen=True)
class Terms:
    """
    The lengths that this process writes into its leases and markers; those of others are read from theirs.

    :param lease_s: of a writer.
    :param marker_s: of a collector.
    """

    lease_s: float = 900.0
    marker_s: float = 3600.0

    def outlasting(self, request_s: float) -> Terms:
        """
        Return terms of which each is at least as long as a request with all its repetitions.

        Then a put or a delete that was sent at the last moment arrives, half a length before others would disregard
        what allowed it; the other half is left to clocks that differ.

        >>> Terms().outlasting(430), Terms().outlasting(1200.5)
        (Terms(lease_s=900.0, marker_s=3600.0), Terms(lease_s=1200.5, marker_s=3600.0))
        """
        return Terms(max(self.lease_s, request_s), max(self.marker_s, request_s))


def terms_of(store: ObjectStore) -> Terms:
    """Return the terms of who writes to a store: the usual ones, or longer where its requests may last longer."""
    return Terms().outlasting(store.unwrapped.request_s)


def may_act(age_s: float, length_s: float) -> bool:
    """
    Tell the owner of a lease or marker whether to rely on it still.

    >>> may_act(450, 900), may_act(451, 900)
    (True, False)

    :param age_s: since its last put was sent.
    """
    return age_s <= length_s / 2


def is_past(age_s: float, length_s: float) -> bool:
    """
    Tell others whether to disregard a lease or marker.

    >>> is_past(1800, 900), is_past(1801, 900)
    (False, True)

    :param age_s: between its date and that of an object put since, by the store's clock.
    """
    return age_s > 2 * length_s
