"""
Following a run on a pool, a step at a time: by a task that waits, or by a trigger whose event loop must not.

I/O around :class:`~airflow_provider_hfreg.workers.follow.Follower`, which decides: list the claims, read those that
changed, send what is due. Nothing is kept here that storage does not know, apart from what makes it faster: whoever
follows the same try after this one, or beside it for a while, comes to the same end.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_hfreg.errors import (
    BrokerUnavailableError,
    HfregError,
    KeyNotFoundError,
    NoWorkerError,
    ShardIgnoredError,
    StorageUnavailableError,
    UnknownFormatError,
)
from airflow_provider_hfreg.runs import layout
from airflow_provider_hfreg.runs.begun import BegunRun
from airflow_provider_hfreg.runs.commit import Marker, find_marker
from airflow_provider_hfreg.runs.execution import Observe
from airflow_provider_hfreg.workers.app import Broker
from airflow_provider_hfreg.workers.claims import Claim, ClaimState, read_claim, silent_claim
from airflow_provider_hfreg.workers.follow import Follower
from airflow_provider_hfreg.workers.messages import ShardMessage, plan_digest
from airflow_provider_hfreg.workers.pace import next_pause_s
from airflow_provider_hfreg.workers.pools import ExecutorPool
from airflow_provider_hfreg.workers.roll_call import check_not_cancelled, roll_call
from airflow_provider_hfreg.workers.run_log import RunLog
from airflow_provider_hfreg.workers.settings import WorkersSettings

_LONGEST_PAUSE_S = 5.0  # between two looks
_AWAY_PAUSE_S = 0.5  # the shortest, while something does not answer
_ROLL_CALL_S = 15.0  # without a change in any claim for this long, the workers are asked whether they live
_NEWCOMERS_S = 60.0  # and as often as this, for workers that came
_PATIENCE_S = 120.0  # with a broker or a storage that was there and went away
_SHARDS_PER_WORKER = 2


@dataclass(frozen=True)
class Step:
    """
    What one step came to.

    :param markers: of the shards that were found committed.
    :param pause_s: until the next step; None: there is none, all shards are committed.
    """

    markers: tuple[Marker, ...]
    pause_s: float | None


class Following:
    """
    One try at a run, from one process. It holds a connection to the broker: to be closed.

    :param sender: as whom; given where another process may follow the same try, before, after or beside this one.
    :param workers: how many were heard of a moment ago; 0: they are asked.
    :param cancelled: asked at each step, before whatever takes a while or cannot be taken back.
    """

    def __init__(
        self,
        begun: BegunRun,
        settings: WorkersSettings,
        pool: ExecutorPool,
        *,
        sender: str | None = None,
        workers: int = 0,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        self._document, self._request, self._log, self._output = begun.document, begun.request, begun.log, begun.output
        self._pool, self._cancelled = pool, cancelled
        self._lapse_s = settings.lapse_s
        self._longest_pause_s = min(_LONGEST_PAUSE_S, self._lapse_s / 6)
        self._pause_s = 0.0
        self._is_shared = sender is not None
        self._sender = sender or uuid.uuid4().hex[:12]
        self._follower = Follower(begun.missing, lapse_s=self._lapse_s, resend_s=settings.resend_s, sender=self._sender)
        self._plan = plan_digest(self._output.get(layout.run_key(self._document.batch_run_id)))
        self._sent: set[str] = set()  # ids of messages, by which workers say what they refused
        self._done: deque[int] = deque()  # shards whose claim says so, and whose marker is not read yet
        self._in_flight = self._allowed(workers)
        self._are_counted = False  # the workers: so far it is only known that there is one
        self._asked_s = self._looked_s = self._changed_s = time.monotonic()
        self._run_log = RunLog(self._log)
        self._away_s: float | None = None  # since when the broker, the workers or the storage are away
        self._broker = Broker(settings, pool)

    def step(self, observe: Observe) -> Step:
        """
        Look, ask, send, read what was committed. Blocks for seconds where workers are asked.

        :raises RunCancelledError: it is to stop.
        :raises NoWorkerError: the workers are gone, and no claim moves.
        :raises ShardIgnoredError: a worker that has nothing else to do does not take a shard.
        :raises MessageRefusedError: a worker refuses what it is sent.
        :raises ShardAbandonedError: a shard ends its workers, again and again.
        :raises HfregError: a shard failed for good; the error is the worker's own.
        """
        check_not_cancelled(self._cancelled)
        markers: list[Marker] = []
        moved = 0
        with self._patience():  # one for all of it: what fails is away until all of it works
            moved = self._look(observe)
            while self._done and (marker := self._read_marker()) is not None:
                markers.append(marker)
            if self._follower.open:
                self._ask_workers()
                self._send()
        if not self._follower.open and not self._done:
            return Step(tuple(markers), None)
        self._pause_s = self._next_pause_s(moved=moved > 0)
        return Step(tuple(markers), self._pause_s)

    def _next_pause_s(self, *, moved: bool) -> float:
        now_s = time.monotonic()
        since_change_s = now_s - self._changed_s
        if moved:
            self._changed_s = now_s
        pause_s = next_pause_s(self._pause_s, since_change_s, moved=moved, longest_s=self._longest_pause_s)
        return pause_s if self._away_s is None else max(_AWAY_PAUSE_S, pause_s)

    def _allowed(self, workers: int) -> int:
        """Return how many shards may be sent and not done."""
        return (self._pool.shards_in_flight or _SHARDS_PER_WORKER * workers) if workers else 0

    def close(self) -> None:
        """Let the broker go, and the shards be."""
        self._broker.close()

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
            self._follower.lost(shard)
        return marker

    def _look(self, observe: Observe) -> int:
        """Read the claims that changed since the last look, and return how many these were."""
        run_id = self._document.batch_run_id
        infos = list(self._output.list_infos(layout.claims_folder(run_id)))
        if self._is_shared and any(info.key == layout.stopped_key(self._sender, run_id) for info in infos):
            # By another process that followed this try, and had no right to: this one was not told to stop.
            self._sender = uuid.uuid4().hex[:12]
        etags = {shard: info.etag for info in infos if (shard := layout.find_claim(info.key, run_id)) is not None}
        now_s = time.monotonic()
        if now_s - self._looked_s > self._lapse_s / 2:
            self._follower.resumed(now_s)
        self._looked_s = now_s
        vanished = self._follower.vanished(etags.items())
        for shard in vanished:
            self._follower.forget(shard)
        self._find_finished(vanished)
        changed = self._follower.changed(etags.items())
        for shard in changed:
            with contextlib.suppress(KeyNotFoundError):
                claim, etag = self._read_claim(shard, etags[shard])
                if self._follower.saw(shard, claim, etag, now_s):
                    self._done.append(shard)
                if self._follower.was_followed(claim):
                    self._run_log.skip(claim)
                self._run_log.tell(claim)
                if claim.state is not ClaimState.FAILED:  # whose rows will be read again, and whose error says more
                    observe(shard, claim.counts, ())
        self._follower.looked()
        return len(changed)

    def _find_finished(self, shards: Sequence[int]) -> bool:
        """
        Take shards for done whose parts are there and whose claims are not: who follows beside cleared up.

        Then it had all of them, so the others are looked for too, up to the first that is not there: sent, they would
        be dropped as late, and asked for only when they are sent again.
        """
        found = [shard for shard in shards if self._is_finished(shard)]
        for shard in self._follower.claimless() if found else ():
            if not self._is_finished(shard):
                break
        return bool(found)

    def _is_finished(self, shard: int) -> bool:
        if find_marker(self._output, self._document, shard) is None:
            return False
        self._follower.finished(shard)
        self._done.append(shard)
        return True

    def _read_claim(self, shard: int, listed_etag: str) -> tuple[Claim, str]:
        key = layout.claim_key(shard, self._document.batch_run_id)
        try:
            return read_claim(self._output, key)
        except UnknownFormatError as error:
            self._log.warning("%s Once it has not changed for %.0f s, it is taken over.", error, self._lapse_s)
            return silent_claim(), listed_etag

    def _ask_workers(self) -> None:
        """
        Ask who is alive: at the start, when nothing moved for a while, and now and then for newcomers.

        How many there are is asked when the first shards are sent, so that nobody waits for all answers with idle
        hands, and only where there are more shards than those.
        """
        now_s = time.monotonic()
        moved_s = max(self._follower.last_change_s() or 0.0, self._asked_s)
        is_still = now_s - moved_s >= _ROLL_CALL_S
        is_to_be_counted = not self._are_counted and len(self._sent) > 0 and self._follower.open > self._in_flight
        if self._in_flight and not is_still and not is_to_be_counted and now_s - self._asked_s < _NEWCOMERS_S:
            return
        statuses: list[Mapping[str, Any]] = []
        is_any_enough = not self._in_flight
        try:
            statuses = roll_call(
                self._broker, self._pool, sent=self._sent, is_any_enough=is_any_enough, cancelled=self._cancelled
            )
        except NoWorkerError:
            if is_still or not self._in_flight:
                raise
        self._asked_s = time.monotonic()
        self._are_counted = not is_any_enough
        if statuses:
            self._in_flight = self._allowed(len(statuses))
            self._check_heard(statuses)

    def _check_heard(self, statuses: Sequence[Mapping[str, Any]]) -> None:
        run_id = self._document.batch_run_id
        held = [one for status in statuses for one in status["in_hand"]]
        idle = [status["worker"] for status in statuses if not status["in_hand"]]
        overlooked = self._follower.overlooked(idle, {one["shard"] for one in held if one["batch_run_id"] == run_id})
        if overlooked is not None:
            raise ShardIgnoredError(
                f"Shard {overlooked[0]} was sent several times and no worker of {self._pool.name!r} took it, though "
                f"{overlooked[1]} has nothing else to do. Its log says why; most likely it does not get through to "
                f"{self._output.url}, or its clock is another. Running again goes on with what is missing."
            )
        others = {one["batch_run_id"] for one in held} - {run_id}
        is_waiting = bool(others) and not idle and not self._follower.senders()
        told = f"the {len(statuses)} workers of {self._pool.name!r} are busy with the runs {', '.join(sorted(others))}."
        self._run_log.waits(told if is_waiting else None, time.monotonic())

    def _send(self) -> None:
        for send in self._follower.due(self._looked_s, self._in_flight):
            check_not_cancelled(self._cancelled)
            if send.is_repeated and send.takes_over is None and self._find_finished([send.shard]):
                return
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
                trust_remote_code=self._request.trust_remote_code,
                lapse_s=self._lapse_s,
            )
            self._sent.add(self._broker.send(message))
            self._follower.sent(send.shard, time.monotonic())
            if send.delivery > 1:
                self._log.warning(
                    "Shard %d is sent again, for the %d. time. %s", send.shard, send.delivery, send.because
                )

    @contextlib.contextmanager
    def _patience(self) -> Generator[None, None, None]:
        """Bear with what restarts: a run of hours is not to end for a minute of a broker, of storage or of workers."""
        try:
            yield
        except (BrokerUnavailableError, StorageUnavailableError, NoWorkerError) as error:
            now_s = time.monotonic()
            self._away_s = self._away_s or now_s
            # Claims tell that there were workers, also to who followed only now.
            was_there = self._in_flight or self._follower.last_change_s() is not None
            never_there = isinstance(error, NoWorkerError) and not was_there
            if never_there or now_s - self._away_s > _PATIENCE_S:
                raise
            self._log.warning("%s It is asked again.", error)
        else:
            self._away_s = None
