"""What a followed run's own log is told: its workers' lines, each once, and what it waits for, now and then."""

from __future__ import annotations

import logging

from airflow_provider_hfreg.runs.progress import Log
from airflow_provider_hfreg.workers.claims import Claim

_REMIND_S = 600.0  # between two lines that say the same of waiting


class RunLog:
    """
    The log of one try at a run.

    :param log: written to.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._lines: dict[str, int] = {}  # of each attempt, how many were told
        self._waits_for: str | None = None
        self._told_s = 0.0

    def skip(self, claim: Claim) -> None:
        """Take a claim's lines for told: by who followed the run before."""
        self._lines[claim.attempt] = claim.log_first + len(claim.log)

    def tell(self, claim: Claim) -> None:
        """Write the lines of a claim that are new."""
        told = max(self._lines.get(claim.attempt, 0), claim.log_first)
        for line in claim.log[told - claim.log_first :]:
            level, _, text = line.partition(" ")
            self._log.log(logging.getLevelNamesMapping().get(level, logging.INFO), "[%s] %s", claim.worker, text)
        self.skip(claim)

    def waits(self, what: str | None, now_s: float) -> None:
        """
        Write what the run waits for; the same again after ten minutes, for whoever looks at the log's end.

        :param what: a sentence; None: it does not wait now.
        :param now_s: of a clock that only goes forward.
        """
        if what is not None and (what != self._waits_for or now_s - self._told_s >= _REMIND_S):
            self._log.info("Waiting: %s", what)
            self._told_s = now_s
        self._waits_for = what
