"""
The thread beside a shard: writes its claim at a steady pace, and sees whether the shard is to stop.

What it cannot write now it writes at the next beat: a storage that is away for a minute costs the claim at most, never
the shard, since the part is put if absent.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from airflow_provider_hfreg.errors import HfregError
from airflow_provider_hfreg.runs.report import RowCounts
from airflow_provider_hfreg.workers.claims import ClaimError, ClaimState, HeldClaim

log = logging.getLogger(__name__)

_END_ATTEMPTS = 5


class Renewal:
    """
    Renews a claim while it is entered.

    :param is_stopped: asks storage whether the sender stopped the shard.
    :param tail: gives the log lines to show.
    """

    def __init__(
        self,
        held: HeldClaim,
        *,
        is_stopped: Callable[[], bool],
        tail: Callable[[], tuple[int, Sequence[str]]],
        interval_s: float,
    ) -> None:
        self._held = held
        self._is_stopped, self._tail, self._interval_s = is_stopped, tail, interval_s
        self._counts = RowCounts()
        self._wake = threading.Event()
        self._is_over = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="hfreg-renewal", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over = True
        self._wake.set()
        self._thread.join(timeout=self._interval_s)

    def must_stop(self) -> bool:
        """Tell whether the sender stopped the shard, or another worker has it now."""
        return self._stopped.is_set() or self._held.is_lost

    def look(self) -> None:
        """Beat now."""
        self._wake.set()

    def observe(self, counts: RowCounts) -> None:
        """Take what became so far of the shard's rows; written at the next beat."""
        self._counts = counts

    def end(self, state: ClaimState, *, counts: RowCounts | None = None, error: ClaimError | None = None) -> None:
        """Write how the shard ended; where storage does not answer in a few attempts, the claim is left to lapse."""
        for attempt in range(_END_ATTEMPTS):
            try:
                self._held.write(counts=counts or self._counts, log=self._tail(), state=state, error=error)
            except HfregError as failure:
                log.warning("The end of a shard (%s) could not be written: %s", state, failure)
                time.sleep(min(self._interval_s, 2.0**attempt))
            else:
                return

    def _beat(self) -> None:
        while True:
            self._wake.wait(self._interval_s)
            self._wake.clear()
            if self._is_over or self._held.is_lost:
                return
            try:
                self._held.write(counts=self._counts, log=self._tail())
                if self._is_stopped():
                    self._stopped.set()
            except HfregError as failure:
                log.warning("A claim could not be renewed, and will be at the next beat: %s", failure)
