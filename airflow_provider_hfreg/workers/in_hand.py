"""
Which messages a worker has in hand, and what it does with each: its word against being taken for idle.

Between taking a message and claiming its shard there may be an hour: a model of many GiB is fetched, or another run's
shard computes first. No claim tells of that time, and whoever sent the shard asks.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from airflow_provider_hfreg.workers.messages import ShardMessage


class Doing(StrEnum):
    """What becomes of a message."""

    FETCHING = "fetching"  # rows and the model's files
    WAITING = "waiting"  # for the device
    RUNNING = "running"


@dataclass
class Held:
    """A message in hand."""

    message: ShardMessage
    doing: Doing = Doing.FETCHING

    def to_json(self) -> Mapping[str, Any]:
        """Return what a worker's status says of it."""
        return {"batch_run_id": self.message.batch_run_id, "shard": self.message.shard, "doing": str(self.doing)}


class InHand:
    """The messages that a worker's threads hold. Safe to use from all of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: list[Held] = []

    @contextlib.contextmanager
    def holding(self, message: ShardMessage) -> Iterator[Held]:
        """Have a message in hand while entered."""
        held = Held(message)
        with self._lock:
            self._held.append(held)
        try:
            yield held
        finally:
            with self._lock:
                self._held = [other for other in self._held if other is not held]

    def has(self, message: ShardMessage) -> bool:
        """
        Tell whether the same message is in hand, be it as the first or as a repeated one.

        >>> in_hand, first = InHand(), ShardMessage("file:///out", "run", "plan", 0, "sender")
        >>> with in_hand.holding(first):
        ...     in_hand.has(replace(first, is_repeated=True)), in_hand.has(replace(first, takes_over="etag"))
        (True, False)
        >>> in_hand.has(first)
        False
        """
        wanted = replace(message, is_repeated=False)
        with self._lock:
            return any(replace(held.message, is_repeated=False) == wanted for held in self._held)

    def to_json(self) -> list[Mapping[str, Any]]:
        """Return what a worker's status says of all of them."""
        with self._lock:
            return [held.to_json() for held in self._held]
