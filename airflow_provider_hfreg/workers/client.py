"""
The sender's side: an execution that spreads a run over the workers of a pool.

I/O around :class:`~airflow_provider_hfreg.workers.follow.Follower`, which decides: list the claims, read those that
changed, send what is due. Whatever ends it before the last shard (an error, a cancel, a closed generator) stops the
shards that it sent.
"""

from __future__ import annotations

import contextlib
import logging
import time
import uuid
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from airflow_provider_hfreg.errors import (
    BrokerUnavailableError,
    HfregError,
    KeyNotFoundError,
    MessageRefusedError,
    NoWorkerError,
    RunCancelledError,
    StorageUnavailableError,
)
from airflow_provider_hfreg.runs import layout
from airflow_provider_hfreg.runs.asking import Ask
from airflow_provider_hfreg.runs.commit import Marker, find_marker
from airflow_provider_hfreg.runs.execution import Observe
from airflow_provider_hfreg.runs.plan import RunDocument
from airflow_provider_hfreg.workers.app import Broker
from airflow_provider_hfreg.workers.claims import Claim, ClaimState, read_claim
from airflow_provider_hfreg.workers.follow import Follower
from airflow_provider_hfreg.workers.messages import ShardMessage
from airflow_provider_hfreg.workers.pools import ExecutorPool, check_version
from airflow_provider_hfreg.workers.settings import WorkersSettings

_POLL_S = (0.5, 5.0)  # between two looks: the shortest while something moves, the longest while nothing does
_TICK_S = 0.25  # between two looks at ``cancelled``
_ROLL_CALL_S = 15.0  # without a change in any claim for this long, the workers are asked whether they live
_ROLL_CALLS_S = (1.0, 3.0, 5.0)  # how long each of three waits for answers
_PATIENCE_S = 120.0  # with a broker or a storage that was there and went away
_SHARDS_PER_WORKER = 2


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

    def check(self, document: RunDocument, ask: Ask) -> None:
        """
        Refuse what cannot run there, before anything of the run is written.

        :raises PoolMismatchError: the version cannot run on what the pool offers.
        :raises NoWorkerError: no worker of the pool answers.
        :raises BrokerUnavailableError: the broker does not.
        """
        check_version(self.pool, ask.version)
        if document.rows:
            with contextlib.closing(Broker(self.settings, self.pool)) as broker:
                _roll_call(broker, self.pool, document.batch_run_id)

    def execute(
        self, document: RunDocument, missing: Sequence[int], ask: Ask, observe: Observe
    ) -> Generator[Marker, None, None]:
        """
        Send shards and follow them.

        :raises NoWorkerError: the workers are gone, and no claim moves.
        :raises ShardAbandonedError: a shard ends its workers, again and again.
        :raises HfregError: a shard failed for good; the error is the worker's own.
        """
        if not missing:
            return
        with contextlib.closing(Broker(self.settings, self.pool)) as broker:
            following = _Following(document, missing, ask, broker=broker, on=self)
            try:
                yield from following.markers(observe)
            finally:
                following.end()


class _Following:
    """One try at a run."""

    def __init__(
        self,
        document: RunDocument,
        missing: Sequence[int],
        ask: Ask,
        *,
        broker: Broker,
        on: OnPool,
    ) -> None:
        self._document, self._log, self._output = document, ask.log, ask.output
        self._broker, self._pool, self._cancelled = broker, on.pool, on.cancelled
        self._lapse_s = on.settings.lapse_s
        self._follower = Follower(missing, lapse_s=self._lapse_s, resend_s=on.settings.resend_s)
        self._sender = uuid.uuid4().hex[:12]
        self._done: deque[int] = deque()  # shards whose claim says so, and whose marker is not read yet
        self._lines: dict[str, int] = {}  # of each attempt's log, how many were told
        self._in_flight = 0
        self._asked_s = 0.0
        self._away_s: float | None = None  # since when the broker or the storage is away

    def markers(self, observe: Observe) -> Generator[Marker, None, None]:
        """Yield the marker of each shard as it is committed."""
        pause_s = _POLL_S[0]
        while self._follower.open or self._done:
            moved = 0
            with self._patience():
                moved = self._look(observe)
                self._ask_workers()
                self._send()
            while self._done:
                marker = None
                with self._patience():
                    marker = find_marker(self._output, self._document, self._done[0])
                    self._done.popleft()
                if marker is None:
                    break
                yield marker
            pause_s = _POLL_S[0] if moved else min(_POLL_S[1], pause_s * 1.5)
            self._sleep(pause_s)

    def end(self) -> None:
        """Stop what is under way, or clear up where nothing is."""
        with contextlib.suppress(HfregError):
            if self._follower.open:
                self._output.put(layout.stopped_key(self._sender, self._document.batch_run_id), b"{}")
                self._broker.tell_to_look()
            else:
                folder = layout.claims_folder(self._document.batch_run_id)
                self._output.delete([info.key for info in self._output.list_infos(folder)])

    def _look(self, observe: Observe) -> int:
        """Read the claims that changed since the last look, and return how many these were."""
        run_id = self._document.batch_run_id
        found = [
            (shard, info.etag)
            for info in self._output.list_infos(layout.claims_folder(run_id))
            if (shard := layout.find_claim(info.key, run_id)) is not None
        ]
        changed = self._follower.changed(found)
        for shard in changed:
            with contextlib.suppress(KeyNotFoundError):
                claim, etag = read_claim(self._output, layout.claim_key(shard, run_id))
                if self._follower.saw(shard, claim, etag, time.monotonic()):
                    self._done.append(shard)
                self._tell(claim)
                if claim.state is not ClaimState.FAILED:  # whose rows will be read again, and whose error says more
                    observe(shard, claim.counts, ())
        self._follower.looked()
        return len(changed)

    def _tell(self, claim: Claim) -> None:
        """Write a worker's new log lines into this log."""
        told = max(self._lines.get(claim.attempt, 0), claim.log_first)
        for line in claim.log[told - claim.log_first :]:
            level, _, text = line.partition(" ")
            self._log.log(logging.getLevelNamesMapping().get(level, logging.INFO), "[%s] %s", claim.worker, text)
        self._lines[claim.attempt] = claim.log_first + len(claim.log)

    def _ask_workers(self) -> None:
        """Ask who is alive at the start, and when nothing moved for a while."""
        now_s = time.monotonic()
        moved_s = max(self._follower.last_change_s() or 0.0, self._asked_s)
        if self._in_flight and now_s - moved_s < _ROLL_CALL_S:
            return
        statuses = _roll_call(self._broker, self._pool, self._document.batch_run_id)
        self._asked_s = time.monotonic()
        self._in_flight = self._pool.shards_in_flight or _SHARDS_PER_WORKER * len(statuses)
        elsewhere = [status["running"]["batch_run_id"] for status in statuses if status["running"]]
        busy = [run_id for run_id in elsewhere if run_id != self._document.batch_run_id]
        if len(busy) == len(statuses):
            self._log.info(
                "Waiting: the %d workers of %r are busy with the runs %s.",
                len(statuses),
                self._pool.name,
                sorted(set(busy)),
            )

    def _send(self) -> None:
        for send in self._follower.due(time.monotonic(), self._in_flight):
            if send.delivery > 1:
                self._log.warning("Shard %d is sent again, for the %d. time.", send.shard, send.delivery)
            self._broker.send(
                ShardMessage(
                    output=self._output.url,
                    batch_run_id=self._document.batch_run_id,
                    shard=send.shard,
                    sender=self._sender,
                    delivery=send.delivery,
                    takes_over=send.takes_over,
                    lapse_s=self._lapse_s,
                )
            )

    @contextlib.contextmanager
    def _patience(self) -> Generator[None, None, None]:
        """Bear with a broker or a storage that restarts; a run of hours is not to end for a minute of theirs."""
        try:
            yield
        except (BrokerUnavailableError, StorageUnavailableError) as error:
            now_s = time.monotonic()
            self._away_s = self._away_s or now_s
            if now_s - self._away_s > _PATIENCE_S:
                raise
            self._log.warning("%s It is asked again.", error)
        else:
            self._away_s = None

    def _sleep(self, pause_s: float) -> None:
        end_s = time.monotonic() + pause_s
        while (left_s := end_s - time.monotonic()) > 0:
            if self._cancelled():
                raise RunCancelledError(
                    f"The run {self._document.batch_run_id} was stopped, as asked. The shards that are committed stay; "
                    "running again goes on with the others."
                )
            time.sleep(min(left_s, _TICK_S))


def _roll_call(broker: Broker, pool: ExecutorPool, batch_run_id: str) -> list[Mapping[str, Any]]:
    """
    Return what the pool's workers say of themselves.

    :raises NoWorkerError: none answers, asked several times: a busy one answers too.
    :raises MessageRefusedError: a worker refused this run's messages.
    """
    for timeout_s in _ROLL_CALLS_S:
        statuses = broker.statuses(timeout_s=timeout_s)
        if statuses:
            _check_not_refused(statuses, batch_run_id)
            return statuses
    raise NoWorkerError(
        f"No worker of the executor pool {pool.name!r} answers on its broker. Start one where the hardware is: "
        f"`airflow hfreg worker --pool {pool.name}`, or `python -m airflow_provider_hfreg.workers --pool {pool.name} "
        "--settings FILE`. A worker that computes answers too, so none is there."
    )


def _check_not_refused(statuses: Sequence[Mapping[str, Any]], batch_run_id: str) -> None:
    for status in statuses:
        for refused_run, reason in status["refused"]:
            if refused_run == batch_run_id:
                raise MessageRefusedError(f"The worker {status['worker']} refused this run: {reason}")
