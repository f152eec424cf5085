"""
The sender's side: an execution that spreads a run over the workers of a pool, and waits for them.

Whatever ends it before the last shard (an error, a cancel, a closed generator) stops the shards that it sent.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Generator

from airflow_provider_hfreg.runs.asking import Ask
from airflow_provider_hfreg.runs.begun import BegunRun
from airflow_provider_hfreg.runs.commit import Marker
from airflow_provider_hfreg.runs.execution import Observe, check_consent
from airflow_provider_hfreg.runs.plan import RunDocument
from airflow_provider_hfreg.workers.app import Broker
from airflow_provider_hfreg.workers.following import Following
from airflow_provider_hfreg.workers.pools import ExecutorPool, check_run
from airflow_provider_hfreg.workers.roll_call import check_not_cancelled, roll_call
from airflow_provider_hfreg.workers.settings import WorkersSettings

_TICK_S = 0.25  # between two looks at ``cancelled``
_ANSWER_HOLDS_S = 60.0  # a query may be staged for hours after a worker answered


class OnPool:
    """
    Executes the shards of runs on an executor pool.

    :param settings: broker and keys; the same keys as the workers'.
    :param pool: one of theirs.
    :param cancelled: asked several times a second.
    """

    def __init__(
        self, settings: WorkersSettings, pool: ExecutorPool, *, cancelled: Callable[[], bool] = lambda: False
    ) -> None:
        self.settings, self.pool, self.cancelled = settings, pool, cancelled
        self._workers = 0  # 1: one answered when the run was checked, a moment before it is executed
        self._answered_s = -math.inf

    def check_ahead(self, ask: Ask) -> None:
        """
        Refuse what cannot run there whatever the rows are: as :meth:`check`, of a run that has some.

        :raises HfregError: as :meth:`check`.
        """
        self._check_request(ask)
        self._call()

    def check(self, document: RunDocument, ask: Ask) -> None:
        """
        Refuse what cannot run there, before anything of the run is written.

        :raises UnsafeModelError: the version runs Python files of its own, and the run does not consent to it.
        :raises PoolMismatchError: the version cannot run on what the pool offers, or not as the run asks for it.
        :raises NoWorkerError: no worker of the pool answers.
        :raises BrokerUnavailableError: the broker does not.
        """
        self._check_request(ask)
        if document.rows and time.monotonic() - self._answered_s > _ANSWER_HOLDS_S:
            self._call()

    def _check_request(self, ask: Ask) -> None:
        check_consent(ask.version, ask.request)
        check_run(self.pool, ask.version, ask.request)

    def _call(self) -> None:
        with contextlib.closing(Broker(self.settings, self.pool)) as broker:
            self._workers = len(roll_call(broker, self.pool, is_any_enough=True, cancelled=self.cancelled))
        self._answered_s = time.monotonic()

    def execute(self, begun: BegunRun, ask: Ask, observe: Observe) -> Generator[Marker, None, None]:  # noqa: ARG002 - an Execution
        """
        Send shards and follow them.

        :raises HfregError: see :meth:`~airflow_provider_hfreg.workers.following.Following.step`.
        """
        if not begun.missing:
            return
        following = Following(begun, self.settings, self.pool, workers=self._workers, cancelled=self.cancelled)
        with contextlib.closing(following):
            try:
                while True:
                    step = following.step(observe)
                    yield from step.markers
                    if step.pause_s is None:
                        return
                    self._sleep(step.pause_s)
            finally:
                following.end()

    def _sleep(self, pause_s: float) -> None:
        end_s = time.monotonic() + pause_s
        while (left_s := end_s - time.monotonic()) > 0:
            check_not_cancelled(self.cancelled)
            time.sleep(min(left_s, _TICK_S))
