"""The blocking half of a trigger: one deferred run, opened, followed a step at a time, stopped. For threads alone."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from airflow_provider_hfreg.errors import HfregError
from airflow_provider_hfreg.hooks.pools import following_on

if TYPE_CHECKING:
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
        self._stepping, self._opening = threading.Lock(), threading.Lock()
        self._is_left = False
        self._began_s = time.monotonic()
        self._followed: tuple[Following, Tally] | None = None

    def step(self) -> float | None:
        """
        Take a step, and return the seconds until the next; None: all shards are committed.

        :raises HfregError: the run ends with that.
        """
        with self._stepping:
            try:
                following, tally = self._opened()
            except HfregError as error:
                if not error.retryable or time.monotonic() - self._began_s > _PATIENCE_S:
                    raise
                log.warning("%s It is asked again.", error)
                return _OPEN_PAUSE_S
            step = following.step(tally.observe)
            for marker in step.markers:
                tally.commit(marker)
            return step.pause_s

    def stop(self) -> None:
        """Stop what is under way, or clear up where nothing is; a step beside it sends nothing more."""
        self._is_left = True
        following, _ = self._opened()
        following.end()

    def leave(self) -> None:
        """Let go of everything but the shards, which go on."""
        self._is_left = True
        with self._stepping, self._opening:
            followed, self._followed = self._followed, None
        if followed is not None:
            followed[0].close()

    def _opened(self) -> tuple[Following, Tally]:
        with self._opening:
            if self._followed is None:
                self._followed = self._open()
            return self._followed

    def _open(self) -> tuple[Following, Tally]:
        from airflow_provider_hfreg.runs.tally import Tally  # noqa: PLC0415 - pyarrow, not for a DAG's parse

        begun = self._deferral.reopen(log)
        tally = Tally(begun, interval_s=_PROGRESS_INTERVAL_S)
        name, sender = self._deferral.executor_pool, self._deferral.sender
        return following_on(name, begun, sender=sender, cancelled=lambda: self._is_left), tally
