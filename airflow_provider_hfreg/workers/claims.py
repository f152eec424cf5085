"""
Who works on a shard, how far, and how it ended: one small object each, the worker's word to the sender.

Invariants:

- A claim is taken by put-if-absent, or over an earlier one by compare-and-swap on the etag that the sender saw lapse,
  fail or come back: at most one worker holds it, whatever is delivered twice.
- Every later write is a compare-and-swap too. Who loses it has lost the claim, and stops.
- A lost answer is told from a lost claim by reading back: each take has an id of its own (``attempt``).
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from airflow_provider_hfreg.errors import CompareAndSwapLostError, KeyExistsError, KeyNotFoundError, UnknownFormatError
from airflow_provider_hfreg.runs.report import RowCounts
from airflow_provider_hfreg.storage.base import ObjectStore

_SWAP_ATTEMPTS = 3


class ClaimState(StrEnum):
    """Where a shard is."""

    RUNNING = "running"
    DONE = "done"  # its part is committed, by this worker or by another
    FAILED = "failed"  # with the claim's error
    RETURNED = "returned"  # the worker was asked to stop, and somebody else may go on


@dataclass(frozen=True)
class ClaimError:
    """
    Why a shard failed.

    :param kind: name of one of this package's error classes, or of another exception.
    """

    kind: str
    message: str


@dataclass(frozen=True)
class Claim:
    """
    What a claim says.

    :param attempt: of the take, unique.
    :param delivery: how many times the shard was begun, this one included.
    :param renewals: counts the writes, so that every one changes the etag.
    :param counts: what became so far of the shard's rows.
    :param lapse_s: after so long without a change its sender takes it for lapsed.
    :param log: the last lines of the worker's log about the shard; ``log_first`` is the number of the first of them.
    """

    worker: str
    sender: str
    delivery: int
    attempt: str = field(default_factory=lambda: uuid.uuid4().hex)
    state: ClaimState = ClaimState.RUNNING
    renewals: int = 0
    counts: RowCounts = field(default_factory=RowCounts)
    log: tuple[str, ...] = ()
    log_first: int = 0
    error: ClaimError | None = None
    lapse_s: float = 30.0

    def to_bytes(self) -> bytes:
        """Return the claim as JSON."""
        return json.dumps(asdict(self), ensure_ascii=False).encode()

    @classmethod
    def from_bytes(cls, content: bytes, *, where: str) -> Claim:
        """
        Rebuild what :meth:`to_bytes` gave.

        :raises UnknownFormatError: something else.
        """
        try:
            plain: Mapping[str, Any] = json.loads(content)
            error = plain["error"]
            known = {name: plain[name] for name in cls.__dataclass_fields__ if name in plain}
            return cls(
                **known
                | {
                    "state": ClaimState(plain["state"]),
                    "counts": RowCounts(**plain["counts"]),
                    "log": tuple(plain["log"]),
                    "error": None if error is None else ClaimError(**error),
                }
            )
        except (ValueError, TypeError, LookupError) as error:
            raise UnknownFormatError(
                f"{where} is no claim that this version of the package reads: {error!r}."
            ) from error


class HeldClaim:
    """
    A claim that this process holds, or has lost. Safe to use from two threads.

    :ivar is_lost: another worker took it over; nothing more is to be done for it.
    """

    def __init__(self, store: ObjectStore, key: str, claim: Claim, etag: str) -> None:
        self._store, self._key, self._etag = store, key, etag
        self._lock = threading.Lock()
        self.claim = claim
        self.is_lost = False

    def write(
        self,
        *,
        counts: RowCounts | None = None,
        log: tuple[int, Sequence[str]] | None = None,
        state: ClaimState = ClaimState.RUNNING,
        error: ClaimError | None = None,
    ) -> None:
        """
        Write the claim anew.

        :param log: the number of its first line, and the lines.
        :raises HfregError: it could not be written; it may be tried again.
        """
        with self._lock:
            if self.is_lost or self.claim.state is not ClaimState.RUNNING:
                return
            first, lines = (self.claim.log_first, self.claim.log) if log is None else (log[0], tuple(log[1]))
            claim = replace(
                self.claim,
                renewals=self.claim.renewals + 1,
                counts=counts or self.claim.counts,
                log=lines,
                log_first=first,
                state=state,
                error=error,
            )
            for _ in range(_SWAP_ATTEMPTS):
                try:
                    self._etag = self._store.replace_if_match(self._key, claim.to_bytes(), self._etag)
                except CompareAndSwapLostError:
                    standing = self._read_back()
                    if standing is None:
                        return
                    if standing == claim:
                        break
                else:
                    break
            else:
                raise CompareAndSwapLostError(f"{self._store.location(self._key)} changes under its only writer.")
            self.claim = claim

    def _read_back(self) -> Claim | None:
        """
        Tell an answer that was lost from a claim that was.

        :return: what stands, this write or an earlier one of ours; None where the claim is lost.
        """
        try:
            standing, self._etag = read_claim(self._store, self._key)
        except (KeyNotFoundError, UnknownFormatError):
            standing = None
        self.is_lost = standing is None or standing.attempt != self.claim.attempt
        return None if self.is_lost else standing


def take_claim(store: ObjectStore, key: str, claim: Claim, *, takes_over: str | None) -> HeldClaim | None:
    """
    Take a shard's claim, or return None where somebody else has it.

    :param takes_over: etag of the claim to replace; None: there must be none.
    """
    try:
        if takes_over is None:
            etag = store.put_if_absent(key, claim.to_bytes())
        else:
            etag = store.replace_if_match(key, claim.to_bytes(), takes_over)
    except (KeyExistsError, CompareAndSwapLostError):
        try:
            standing, etag = read_claim(store, key)
        except (KeyNotFoundError, UnknownFormatError):
            return None
        if standing.attempt != claim.attempt:
            return None
    return HeldClaim(store, key, claim, etag)


def silent_claim() -> Claim:
    """
    Return what stands for a claim that cannot be read: somebody's, who runs, and of whom nothing else is known.

    While it changes, a worker of another version may be at the shard; once it stands still it is taken over by its
    etag, as any claim that lapsed. What its worker committed is found then.
    """
    return Claim(worker="an unknown worker", sender="", delivery=0, attempt="")


def read_claim(store: ObjectStore, key: str) -> tuple[Claim, str]:
    """
    Return a claim and its etag.

    :raises UnknownFormatError: another version wrote it, or something else.
    """
    content, etag = store.get_with_etag(key)
    return Claim.from_bytes(content, where=store.location(key)), etag
