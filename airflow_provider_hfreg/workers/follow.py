"""
What the sender of a run's shards does next, given what it saw: pure, so that every case is a line of a test.

It sees claims (a shard's etag and, where that changed, its content) and its own clock. It says what to send, and when
to give up. It never decides that a shard is done: a claim says so, and the part's own marker is read at the end.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from airflow_provider_hfreg.errors import HfregError, ShardAbandonedError, ShardFailedError, find_error_class
from airflow_provider_hfreg.workers.claims import Claim, ClaimError, ClaimState

MAX_DELIVERIES = 5
"""A shard that was begun this often, and ended never, stops the run."""

_SUSPECT = 3
"""A shard that was begun this often without an end waits until all others are done: what ends a worker takes those
with it that wait there, and a run that is given up is to have all else committed."""

_IGNORED = 3  # a shard that was sent this often, while a worker had nothing in hand, is one that workers do not take
_RETRY_S = 5.0  # before a shard that failed is sent again, times the delivery


@dataclass(frozen=True)
class Send:
    """
    Send a shard; the fields are those of the message.

    :param because: a sentence on what became of its last worker, where there was one.
    """

    shard: int
    delivery: int
    takes_over: str | None
    is_repeated: bool = False
    because: str = field(default="", compare=False)


@dataclass
class _Shard:
    claim: Claim | None = None
    etag: str | None = None  # of that claim
    changed_s: float = 0.0  # when that etag was first seen
    sent_s: float | None = None  # when the message for that claim's state was sent last
    unclaimed: int = 0  # how often that message was sent
    is_inherited: bool = False  # the claim was there before this try
    done: bool = False


class Follower:
    """
    The shards of one run on a pool.

    :param shards: indices of those that are missing, ascending.
    :param lapse_s: a running claim that stays unchanged for this long is lapsed.
    :param resend_s: a message that nobody claimed within this time is sent again.
    :param sender: of this try: a claim of its own that is there at the first look is none of an earlier try's, whoever
        followed until now.
    """

    def __init__(self, shards: Iterable[int], *, lapse_s: float, resend_s: float, sender: str = "") -> None:
        self._shards = {shard: _Shard() for shard in shards}
        self._lapse_s, self._resend_s, self._sender = lapse_s, resend_s, sender
        self._is_first = True
        self._overlooked: set[tuple[int, str]] = set()  # at the last roll call: shard, and a worker that is idle

    @property
    def open(self) -> int:
        """How many shards are not done."""
        return sum(not state.done for state in self._shards.values())

    def changed(self, etags: Iterable[tuple[int, str]]) -> list[int]:
        """Return which shards' claims are not the ones last seen: they are to be read, and :meth:`saw` told."""
        return [
            shard
            for shard, etag in etags
            if shard in self._shards and not self._shards[shard].done and self._shards[shard].etag != etag
        ]

    def saw(self, shard: int, claim: Claim, etag: str, now_s: float) -> bool:
        """Take a claim that changed, and tell whether its shard is done by that."""
        state = self._shards[shard]
        state.is_inherited = self._is_first and not self.was_followed(claim)
        # A claim of an earlier try that says "done" and whose part is missing is one more claim to take over.
        state.done = claim.state is ClaimState.DONE and not state.is_inherited
        state.claim, state.etag, state.changed_s = claim, etag, now_s
        state.sent_s, state.unclaimed = None, 0
        return state.done

    def was_followed(self, claim: Claim) -> bool:
        """Tell whether somebody followed this try until now, who has told what its claim says."""
        return self._is_first and claim.sender == self._sender

    def vanished(self, etags: Iterable[tuple[int, str]]) -> list[int]:
        """Return the open shards whose claims were there and are not any more: another try at the run finished them."""
        there = {shard for shard, _ in etags}
        return [shard for shard, state in self._shards.items() if state.etag and not state.done and shard not in there]

    def claimless(self) -> list[int]:
        """Return the open shards of which no claim was seen."""
        return [shard for shard, state in self._shards.items() if not state.done and state.claim is None]

    def forget(self, shard: int) -> None:
        """Take a shard for one that nobody claimed yet."""
        self._shards[shard] = _Shard()

    def lost(self, shard: int) -> None:
        """
        Take a shard that was done for one whose part is gone.

        Its claim stays, and is taken over by its etag as an earlier try's is: no worker takes a shard whose claim is
        there by a message that knows of none.
        """
        state = self._shards[shard]
        state.done, state.is_inherited = False, True

    def finished(self, shard: int) -> None:
        """Take a shard for done: its part is there."""
        self._shards[shard].done = True

    def resumed(self, now_s: float) -> None:
        """
        Give every running claim its full time again: for a while nobody looked.

        While storage was away its workers could not write either, and are none the worse for it.
        """
        for state in self._shards.values():
            if state.claim is not None and state.claim.state is ClaimState.RUNNING:
                state.changed_s = now_s

    def senders(self) -> set[str]:
        """Return whose messages the running shards came by: earlier tries' among them."""
        running = (state.claim for state in self._shards.values() if state.claim and not state.done)
        return {claim.sender for claim in running if claim.state is ClaimState.RUNNING and claim.sender}

    def ignored(self) -> list[int]:
        """Return shards that were sent several times and that nobody claimed."""
        return [shard for shard, state in self._shards.items() if not state.done and state.unclaimed >= _IGNORED]

    def overlooked(self, idle: Iterable[str], in_hand: Collection[int]) -> tuple[int, str] | None:
        """
        Take a roll call, and return an ignored shard and a worker that had nothing in hand at this one and the last.

        Between two messages a worker has nothing in hand for a moment, so one roll call proves nothing.

        :param idle: names of the workers that have nothing in hand.
        :param in_hand: shards of this run that a worker has in hand.
        """
        before = self._overlooked
        ignored = [shard for shard in self.ignored() if shard not in in_hand]
        self._overlooked = {(shard, worker) for worker in idle for shard in ignored}
        return min(before & self._overlooked, default=None)

    def looked(self) -> None:
        """All claims that were there have been told: what changes from now on is new."""
        self._is_first = False

    def last_change_s(self) -> float | None:
        """Return when a claim last changed, or None."""
        return max((state.changed_s for state in self._shards.values() if state.claim), default=None)

    def due(self, now_s: float, in_flight: int) -> list[Send]:
        """
        Return what to send now, the lowest shards first; :meth:`sent` is told of each that was.

        :param in_flight: how many shards may be sent and not done.
        :raises HfregError: a shard failed for good; the error is the worker's own where it is one of ours.
        """
        free = in_flight - sum(self._is_in_flight(state, now_s) for state in self._shards.values())
        is_rest_open = any(not state.done and not self._is_suspect(state, now_s) for state in self._shards.values())
        sends = []
        for shard, state in self._shards.items():
            if state.done or self._waits(state, now_s):
                continue
            if is_rest_open and self._is_suspect(state, now_s):
                continue
            delivery = self._next_delivery(shard, state)
            is_repeated = state.sent_s is not None
            if is_repeated or free > 0:
                free -= not is_repeated
                sends.append(Send(shard, delivery, state.etag, is_repeated, self._because(state)))
        return sends

    def sent(self, shard: int, now_s: float) -> None:
        """Take a shard's message for sent: a broker that does not answer has none."""
        state = self._shards[shard]
        state.sent_s, state.unclaimed = now_s, state.unclaimed + 1

    def _because(self, state: _Shard) -> str:
        claim = state.claim
        if claim is None:
            return ""
        if claim.error is not None:
            return claim.error.message
        told = {
            ClaimState.RUNNING: f"{claim.worker} had it and was silent for {self._lapse_s:g} s.",
            ClaimState.RETURNED: f"{claim.worker} handed it back.",
            ClaimState.DONE: f"{claim.worker} had done it, and its part is gone.",
        }
        return told.get(claim.state, "")

    def _waits(self, state: _Shard, now_s: float) -> bool:
        """Tell whether nothing is to be sent for a shard that is not done."""
        if state.sent_s is not None:
            return now_s - state.sent_s < self._resend_s
        return self._is_in_flight(state, now_s) or now_s < _not_before_s(state)

    def _is_suspect(self, state: _Shard, now_s: float) -> bool:
        """Tell whether a shard has ended one worker after the other, as far as is known, and is not under way."""
        claim = state.claim
        has_no_end = claim is not None and claim.state is ClaimState.RUNNING and claim.delivery >= _SUSPECT
        return has_no_end and (state.sent_s is not None or not self._is_in_flight(state, now_s))

    def _is_in_flight(self, state: _Shard, now_s: float) -> bool:
        """Tell whether a shard is sent and nobody answered yet, or a worker is at it."""
        if state.done or state.sent_s is not None:
            return not state.done
        is_running = state.claim is not None and state.claim.state is ClaimState.RUNNING
        return is_running and now_s - state.changed_s < self._lapse_s

    def _next_delivery(self, shard: int, state: _Shard) -> int:
        claim = state.claim
        is_given_up = claim is not None and (claim.state is ClaimState.FAILED or claim.delivery >= MAX_DELIVERIES)
        if claim is None or (state.is_inherited and is_given_up):
            return 1  # an earlier try ended by that, and somebody may have put it right
        if claim.state is ClaimState.RETURNED:
            return claim.delivery  # it was handed back in order
        if claim.state is ClaimState.FAILED and claim.error is not None:
            error = error_of(claim.error, f"Shard {shard} on {claim.worker}")
            if not error.retryable or claim.delivery >= MAX_DELIVERIES:
                raise error
        elif claim.state is ClaimState.RUNNING and claim.delivery >= MAX_DELIVERIES:
            raise ShardAbandonedError(
                f"Shard {shard} was begun {claim.delivery} times and never ended; {claim.worker} was the last to stop "
                "answering while it ran it. Something in it ends its workers, most likely for want of memory: read "
                "that worker's own log, then run again with a smaller token_budget or on a pool with more memory; the "
                "shards that are committed stay."
            )
        return claim.delivery + 1


def _not_before_s(state: _Shard) -> float:
    """Return the earliest time for another try of a shard that failed."""
    if state.claim is None or state.claim.state is not ClaimState.FAILED or state.is_inherited:
        return 0.0
    return state.changed_s + _RETRY_S * state.claim.delivery


def error_of(told: ClaimError, where: str) -> HfregError:
    """
    Return a worker's error as an exception of the same class, where that is one of ours.

    >>> error_of(ClaimError("ModelTooLargeError", "No."), "Shard 0 on w")
    ModelTooLargeError('Shard 0 on w: No.')
    >>> error_of(ClaimError("ZeroDivisionError", "division by zero"), "Shard 0 on w").retryable
    True
    """
    kind = find_error_class(told.kind)
    if kind is not None:
        return kind(f"{where}: {told.message}")
    return ShardFailedError(
        f"{where} failed with {told.kind}: {told.message} This is no error of the provider's own: its traceback is in "
        "the worker's log."
    )
