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
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from typing import Any

from airflow_provider_hfreg import __version__
from airflow_provider_hfreg.errors import (
    BrokerUnavailableError,
    HfregError,
    KeyNotFoundError,
    MessageRefusedError,
    NoWorkerError,
    RunCancelledError,
    StorageUnavailableError,
    WorkerError,
)
from airflow_provider_hfreg.runs import layout
from airflow_provider_hfreg.runs.asking import Ask
from airflow_provider_hfreg.runs.commit import Marker, find_marker
from airflow_provider_hfreg.runs.execution import Observe
from airflow_provider_hfreg.runs.plan import RunDocument
from airflow_provider_hfreg.workers.app import Broker
from airflow_provider_hfreg.workers.claims import Claim, ClaimState, read_claim
from airflow_provider_hfreg.workers.follow import Follower
from airflow_provider_hfreg.workers.messages import PROTOCOL, ShardMessage, plan_digest
from airflow_provider_hfreg.workers.pools import ExecutorPool, check_version
from airflow_provider_hfreg.workers.settings import WorkersSettings

_POLL_S = (0.5, 5.0)  # between two looks: the shortest while something moves, the longest while nothing does
_TICK_S = 0.25  # between two looks at ``cancelled``
_ROLL_CALL_S = 15.0  # without a change in any claim for this long, the workers are asked whether they live
_NEWCOMERS_S = 60.0  # and as often as this, for workers that came
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
        self._workers = 0  # that answered when the run was checked, a moment before it is executed

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
                self._workers = len(roll_call(broker, self.pool, cancelled=self.cancelled))

    def execute(
        self, document: RunDocument, missing: Sequence[int], ask: Ask, observe: Observe
    ) -> Generator[Marker, None, None]:
        """
        Send shards and follow them.

        :raises NoWorkerError: the workers are gone, and no claim moves.
        :raises MessageRefusedError: a worker refuses what it is sent.
        :raises ShardAbandonedError: a shard ends its workers, again and again.
        :raises HfregError: a shard failed for good; the error is the worker's own.
        """
        check_version(self.pool, ask.version)  # a run that began elsewhere is resumed here
        if not missing:
            return
        with contextlib.closing(Broker(self.settings, self.pool)) as broker:
            following = _Following(document, missing, ask, broker=broker, on=self, workers=self._workers)
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
        workers: int,
    ) -> None:
        self._document, self._request, self._log, self._output = document, ask.request, ask.log, ask.output
        self._broker, self._pool, self._cancelled = broker, on.pool, on.cancelled
        self._lapse_s = on.settings.lapse_s
        self._longest_pause_s = min(_POLL_S[1], self._lapse_s / 6)
        self._follower = Follower(missing, lapse_s=self._lapse_s, resend_s=on.settings.resend_s)
        self._plan = plan_digest(ask.output.get(layout.run_key(document.batch_run_id)))
        self._sender = uuid.uuid4().hex[:12]
        self._sent: set[str] = set()  # ids of messages, by which workers say what they refused
        self._done: deque[int] = deque()  # shards whose claim says so, and whose marker is not read yet
        self._lines: dict[str, int] = {}  # of each attempt's log, how many were told
        self._in_flight = self._pool.shards_in_flight or _SHARDS_PER_WORKER * workers if workers else 0
        self._asked_s = self._looked_s = time.monotonic()
        self._away_s: float | None = None  # since when the broker, the workers or the storage are away

    def markers(self, observe: Observe) -> Generator[Marker, None, None]:
        """Yield the marker of each shard as it is committed."""
        pause_s = _POLL_S[0]
        while True:
            moved = 0
            with self._patience():
                moved = self._look(observe)
                self._ask_workers()
                self._send()
            while self._done:
                marker = None
                with self._patience():
                    marker = self._read_marker()
                if marker is None:
                    break
                yield marker
            if not self._follower.open and not self._done:
                return
            pause_s = _POLL_S[0] if moved else min(self._longest_pause_s, pause_s * 1.5)
            self._sleep(pause_s)

    def end(self) -> None:
        """Stop what is under way, or clear up where nothing is."""
        run_id = self._document.batch_run_id
        with contextlib.suppress(HfregError):
            if self._follower.open:
                for sender in {self._sender, *self._follower.senders()}:
                    self._output.put(layout.stopped_key(sender, run_id), b"{}")
                self._broker.tell_to_look()
            else:
                self._output.delete([info.key for info in self._output.list_infos(layout.claims_folder(run_id))])

    def _read_marker(self) -> Marker | None:
        shard = self._done[0]
        marker = find_marker(self._output, self._document, shard)
        self._done.popleft()
        if marker is None:
            self._log.warning("Shard %d was done and its part is gone: it is computed anew.", shard)
            self._follower.forget(shard)
        return marker

    def _look(self, observe: Observe) -> int:
        """Read the claims that changed since the last look, and return how many these were."""
        run_id = self._document.batch_run_id
        found = [
            (shard, info.etag)
            for info in self._output.list_infos(layout.claims_folder(run_id))
            if (shard := layout.find_claim(info.key, run_id)) is not None
        ]
        now_s = time.monotonic()
        if now_s - self._looked_s > self._lapse_s / 2:
            self._follower.resumed(now_s)
        self._looked_s = now_s
        for shard in self._follower.vanished(found):
            self._follower.forget(shard)
            if find_marker(self._output, self._document, shard) is not None:
                self._follower.finished(shard)
                self._done.append(shard)
        changed = self._follower.changed(found)
        for shard in changed:
            with contextlib.suppress(KeyNotFoundError):
                claim, etag = read_claim(self._output, layout.claim_key(shard, run_id))
                if self._follower.saw(shard, claim, etag, now_s):
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
        """Ask who is alive: at the start, when nothing moved for a while, and now and then for newcomers."""
        now_s = time.monotonic()
        moved_s = max(self._follower.last_change_s() or 0.0, self._asked_s)
        is_still = now_s - moved_s >= _ROLL_CALL_S
        if self._in_flight and not is_still and now_s - self._asked_s < _NEWCOMERS_S:
            return
        statuses: list[Mapping[str, Any]] = []
        try:
            statuses = roll_call(self._broker, self._pool, sent=self._sent, cancelled=self._cancelled)
        except NoWorkerError:
            if is_still or not self._in_flight:
                raise
        self._asked_s = time.monotonic()
        if statuses:
            self._in_flight = self._pool.shards_in_flight or _SHARDS_PER_WORKER * len(statuses)
            self._check_heard(statuses)

    def _check_heard(self, statuses: Sequence[Mapping[str, Any]]) -> None:
        running = [status["running"] for status in statuses]
        ignored = self._follower.ignored()
        if ignored and None in running:
            raise WorkerError(
                f"Shard {ignored[0]} was sent several times and no worker of {self._pool.name!r} took it, though "
                f"{statuses[running.index(None)]['worker']} is idle. Its log says why; most likely it cannot write to "
                f"{self._output.url}."
            )
        others = {run["batch_run_id"] for run in running if run} - {self._document.batch_run_id}
        if others and None not in running and not self._follower.senders():
            self._log.info(
                "Waiting: the %d workers of %r are busy with the runs %s.",
                len(statuses),
                self._pool.name,
                ", ".join(sorted(others)),
            )

    def _send(self) -> None:
        for send in self._follower.due(self._looked_s, self._in_flight):
            if send.delivery > 1:
                self._log.warning(
                    "Shard %d is sent again, for the %d. time. %s", send.shard, send.delivery, send.because
                )
            message = ShardMessage(
                output=self._output.url,
                batch_run_id=self._document.batch_run_id,
                plan=self._plan,
                shard=send.shard,
                sender=self._sender,
                delivery=send.delivery,
                takes_over=send.takes_over,
                is_repeated=send.is_repeated,
                on_row_error=self._request.on_row_error,
                max_row_errors=self._request.max_row_errors,
                token_budget=self._request.token_budget,
                lapse_s=self._lapse_s,
            )
            self._sent.add(self._broker.send(message))

    @contextlib.contextmanager
    def _patience(self) -> Generator[None, None, None]:
        """Bear with what restarts: a run of hours is not to end for a minute of a broker, of storage or of workers."""
        try:
            yield
        except (BrokerUnavailableError, StorageUnavailableError, NoWorkerError) as error:
            now_s = time.monotonic()
            self._away_s = self._away_s or now_s
            never_there = isinstance(error, NoWorkerError) and not self._in_flight
            if never_there or now_s - self._away_s > _PATIENCE_S:
                raise
            self._log.warning("%s It is asked again.", error)
        else:
            self._away_s = None

    def _sleep(self, pause_s: float) -> None:
        end_s = time.monotonic() + pause_s
        while (left_s := end_s - time.monotonic()) > 0:
            check_not_cancelled(self._cancelled)
            time.sleep(min(left_s, _TICK_S))


def check_not_cancelled(cancelled: Callable[[], bool]) -> None:
    """
    Raise if the run is to stop.

    :raises RunCancelledError: it is.
    """
    if cancelled():
        raise RunCancelledError(
            "The run was stopped, as asked. The shards that are committed stay; running again goes on with the others."
        )


def roll_call(
    broker: Broker, pool: ExecutorPool, *, sent: Collection[str] = (), cancelled: Callable[[], bool] = lambda: False
) -> list[Mapping[str, Any]]:
    """
    Return what the pool's workers say of themselves.

    :param sent: ids of messages, which none of them may have refused.
    :raises NoWorkerError: none answers, asked several times: a busy one answers too.
    :raises MessageRefusedError: a worker refused a message, or speaks another protocol.
    """
    for timeout_s in _ROLL_CALLS_S:
        check_not_cancelled(cancelled)
        statuses = broker.statuses(timeout_s=timeout_s)
        if statuses:
            _check_obedient(statuses, sent)
            return statuses
    raise NoWorkerError(
        f"No worker of the executor pool {pool.name!r} answers on its broker. Start one where the hardware is: "
        f"`airflow hfreg worker --pool {pool.name}`, or `python -m airflow_provider_hfreg.workers --pool {pool.name} "
        "--settings FILE`. A worker that computes answers too, so none is there."
    )


def _check_obedient(statuses: Sequence[Mapping[str, Any]], sent: Collection[str]) -> None:
    for status in statuses:
        if status["protocol"] != PROTOCOL:
            raise MessageRefusedError(
                f"The worker {status['worker']} has airflow-provider-hfreg {status['version']} and here is "
                f"{__version__}; they do not understand each other. Install one version on both."
            )
        for refused, reason in status.get("refused", ()):
            if refused in sent:
                raise MessageRefusedError(f"The worker {status['worker']} refused a shard: {reason}")
