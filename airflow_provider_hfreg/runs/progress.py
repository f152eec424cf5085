"""
How far a run is: numbers for whoever asks, and a line in the log at a steady pace.

The speed is that of the rows computed here and now; shards found committed count as done and not as fast.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from airflow_provider_hfreg.runs.report import RowCounts

Clock = Callable[[], float]
Log = logging.Logger | logging.LoggerAdapter[Any]


@dataclass(frozen=True)
class Progress:
    """
    A moment of a run.

    :param rows_done: read and accounted for, quarantined ones included.
    :param rows_per_s: of the rows computed by this process; 0 before the first.
    :param eta_s: None as long as nothing can be said.
    """

    shards_done: int
    shards_total: int
    rows_done: int
    rows_total: int
    rows_quarantined: int
    rows_per_s: float
    eta_s: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the numbers as plain JSON values."""
        return asdict(self)

    def to_text(self) -> str:
        """
        Return the line of a log.

        >>> Progress(3, 12, 150_000, 600_000, 2, 812.4, 554.0).to_text()
        '3 of 12 shards, 150,000 of 600,000 rows (25 %), 812 rows/s, 9 min 14 s left, 2 quarantined'
        """
        share = 100 * self.rows_done // self.rows_total if self.rows_total else 100
        left = "" if self.eta_s is None else f", {duration(self.eta_s)} left"
        quarantined = f", {self.rows_quarantined:,} quarantined" if self.rows_quarantined else ""
        speed = f"{self.rows_per_s:,.0f}" if self.rows_per_s >= 10 else f"{self.rows_per_s:.2f}"
        return (
            f"{self.shards_done} of {self.shards_total} shards, {self.rows_done:,} of {self.rows_total:,} rows "
            f"({share} %), {speed} rows/s{left}{quarantined}"
        )


def duration(seconds: float) -> str:
    """
    Return a duration for people.

    >>> duration(9.6), duration(75), duration(7500)
    ('10 s', '1 min 15 s', '2 h 05 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


class ProgressLog:
    """
    Counts what is done, and says so about every ``interval_s``. Safe to ask from another thread.

    :param clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        shards_total: int,
        rows_total: int,
        log: Log,
        interval_s: float = 10.0,
        clock: Clock = time.monotonic,
    ) -> None:
        self._shards_total, self._rows_total = shards_total, rows_total
        self._log, self._interval_s, self._clock = log, interval_s, clock
        self._lock = threading.Lock()
        self._began_s = self._said_s = clock()
        self._shards = 0
        self._resumed = self._computed = RowCounts()
        self._current: dict[int, RowCounts] = {}  # by shard

    def resume(self, shards: int, counts: RowCounts) -> None:
        """Take what was committed before, and say it."""
        with self._lock:
            self._shards, self._resumed = shards, counts
        if shards:
            self._log.info(
                "resuming: %d of %d shards (%d rows) already committed", shards, self._shards_total, counts.rows_in
            )

    def rows(self, shard: int, counts: RowCounts) -> None:
        """Take what became so far of the rows of a shard under way."""
        with self._lock:
            self._current[shard] = counts
        self._say_if_due()

    def shard(self, shard: int, counts: RowCounts) -> None:
        """Take a committed shard, in place of its rows so far; ``counts`` are those of the part that stands."""
        with self._lock:
            self._shards += 1
            self._computed += counts
            self._current.pop(shard, None)
        self._say_if_due()

    def now(self) -> Progress:
        """Return the numbers of this moment."""
        with self._lock:
            computed = sum(self._current.values(), self._computed)
            done = self._resumed + computed
            elapsed_s = self._clock() - self._began_s
            rows_per_s = computed.rows_in / elapsed_s if elapsed_s > 0 else 0.0
            left = self._rows_total - done.rows_in
            return Progress(
                self._shards,
                self._shards_total,
                done.rows_in,
                self._rows_total,
                done.rows_quarantined,
                rows_per_s,
                left / rows_per_s if rows_per_s else None,
            )

    def _say_if_due(self) -> None:
        now_s = self._clock()
        with self._lock:
            is_due = now_s - self._said_s >= self._interval_s
            if is_due:
                self._said_s = now_s
        if is_due:
            self._log.info("%s", self.now().to_text())
