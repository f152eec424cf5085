"""The blocking half of a trigger: one deferred run, opened, followed a step at a time, stopped. For threads alone."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from airflow_provider_hfreg.errors import HfregError
from airflow_provider_hfreg.hooks.pools import following_on

if TYPE_CHECKING:
    from airflow_provider_hfreg.runs.begun import BegunRun
    from airflow_provider_hfreg.runs.tally import Tally
    from airflow_provider_hfreg.triggers.deferral import Deferral
    from airflow_provider_hfreg.workers.following import Following

log = logging.getLogger(__name__)

_PATIENCE_S = 120.0  # with a storage that does not answer while the run is opened
_OPEN_PAUSE_S = 5.0
_PROGRESS_INTERVAL_S = 10.0


class Watch:
    """
    Follows a deferred run. Steps come one after the other; :meth:`stop` and :meth:`leave` may come beside one.

    It begins from storage alone, so it does not matter who followed the run before, or follows it too.
    """

    def __init__(self, deferral: Deferral) -> None:
        self._deferral = deferral
        self._stepping, self._opening = threading.Lock(), threading.RLock()
        self._is_left = self._is_to_close = False
        self._began_s = time.monotonic()
        self._followed: tuple[Following, BegunRun] | None = None
        self._tally: Tally | None = None

    def step(self) -> float | None:
        """
        Take a step, and return the seconds until the next; None: all shards are committed.

        :raises HfregError: the run ends with that.
        """
        try:
            with self._stepping:
                return self._step()
        finally:
            if self._is_to_close:
                self._close()

    def _step(self) -> float | None:
        try:
            following, begun = self._opened()
        except HfregError as error:
            if not error.retryable or time.monotonic() - self._began_s > _PATIENCE_S:
                raise
            log.warning("%s It is asked again.", error)
            return _OPEN_PAUSE_S
        tally = self._tally = self._tally or _tally_of(begun)
        step = following.step(tally.observe)
        for marker in step.markers:
            tally.commit(marker)
        return step.pause_s

    def stop(self) -> None:
        """Stop what is under way, or clear up where nothing is; a step beside it sends nothing more."""
        self._is_left = True
        try:
            with self._opening:  # not closed under it
                following, _ = self._opened()
                following.end()
        finally:
            if self._is_to_close:
                self._close()

    def leave(self) -> None:
        """Let go of everything but the shards, which go on; a step beside it is not waited for, and lets go itself."""
        self._is_left = self._is_to_close = True
        self._close()

    def _close(self) -> None:
        if not self._stepping.acquire(blocking=False):
            return  # that step comes here after it has let go of the lock
        try:
            with self._opening:
                followed, self._followed = self._followed, None
            if followed is not None:
                followed[0].close()
        finally:
            self._stepping.release()

    def _opened(self) -> tuple[Following, BegunRun]:
        with self._opening:
            if self._followed is None:
                self._followed = self._open()
            return self._followed

    def _open(self) -> tuple[Following, BegunRun]:
        begun = self._deferral.reopen(log)
        name, sender = self._deferral.executor_pool, self._deferral.sender
        return following_on(name, begun, sender=sender, cancelled=lambda: self._is_left), begun


def _tally_of(begun: BegunRun) -> Tally:
    # Apart from what stops the shards: it may refuse what is committed already, and then they are to be stopped.
    from airflow_provider_hfreg.runs.tally import Tally  # noqa: PLC0415 - pyarrow, not for a DAG's parse

    return Tally(begun, interval_s=_PROGRESS_INTERVAL_S)
