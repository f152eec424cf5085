"""
Running batches one after the other: smaller when memory runs out, one by one when a sequence is at fault.

Pure control: it knows neither torch nor tasks, and is tried with plain functions. What it promises:

- Out of memory halves the token budget for everything that is left, and the budget stays halved for the next window.
- Any other failure is bisected down to the sequences at fault; the others go on.
- Before a failure is blamed on a sequence, the model must have run at least once: a network that cannot run at all
  raises, instead of quarantining every row of a table, one by one, for hours.
- Between batches it asks whether it should stop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from airflow_provider_hfreg.errors import (
    DeviceLostError,
    DeviceMemoryError,
    HfregError,
    InferenceError,
    RunCancelledError,
)
from airflow_provider_hfreg.pipelines.base import IntArray

Cut = Callable[[IntArray, int], Sequence[IntArray]]


@dataclass
class Executor:
    """
    Runs batches and remembers, from window to window, what it learnt about the device and the model.

    :param token_budget: of a batch; halved for good when memory runs out.
    :param is_out_of_memory: tells that failure from others.
    :param is_fatal: tells a failure after which the device answers nothing any more.
    :param proven: the model has run, so that a failure is a sequence's own.
    """

    token_budget: int
    is_out_of_memory: Callable[[Exception], bool]
    is_fatal: Callable[[Exception], bool]
    proven: bool = False
    _pending: list[IntArray] = field(default_factory=list, init=False, repr=False)

    def run(
        self,
        sequences: IntArray,
        *,
        cut: Cut,
        forward: Callable[[IntArray], None],
        prove: Callable[[], None],
        cancelled: Callable[[], bool],
    ) -> dict[int, str]:
        """
        Run all ``sequences``.

        :param cut: their positions and a token budget to batches, in the order in which they run.
        :param forward: runs one batch and keeps what it gave.
        :param prove: runs the shortest sequence there is; raises if the model cannot.
        :return: why each failed sequence failed.
        :raises DeviceMemoryError: one sequence alone does not fit.
        :raises InferenceError: the model cannot run.
        :raises RunCancelledError: ``cancelled`` said so.
        """
        failed: dict[int, str] = {}
        self._pending = list(reversed(cut(sequences, self.token_budget)))
        while self._pending:
            if cancelled():
                raise RunCancelledError("Stopped between two batches, as asked. What was committed stays.")
            batch = self._pending.pop()
            error = _failure_of(forward, batch)
            if error is None:
                self.proven = True
            elif self.is_out_of_memory(error):
                self._shrink(batch, cut, error)
            else:
                self._blame(batch, error, failed, prove)
        return failed

    def find_next(self) -> IntArray | None:
        """Return the batch that runs after the present one, unless that fails; None where there is none."""
        return self._pending[-1] if self._pending else None

    def _shrink(self, batch: IntArray, cut: Cut, error: Exception) -> None:
        if len(batch) == 1:
            raise DeviceMemoryError(
                f"Out of memory with a single sequence in the batch: {error}. Use a device with more memory, or "
                "truncate the texts (max_length)."
            ) from error
        self.token_budget = max(1, self.token_budget // 2)
        waiting = self._pending[::-1]
        smaller = cut(np.concatenate([batch, *waiting]), self.token_budget)
        if len(smaller[0]) >= len(batch):
            # It was smaller than its budget, and is as it was under half of it.
            middle = len(batch) // 2
            later = cut(np.concatenate(waiting), self.token_budget) if waiting else []
            smaller = [batch[:middle], batch[middle:], *later]
        self._pending = list(reversed(smaller))

    def _blame(self, batch: IntArray, error: Exception, failed: dict[int, str], prove: Callable[[], None]) -> None:
        if self.is_fatal(error):
            raise device_lost(error) from error
        if not self.proven:
            _prove(prove)
            self.proven = True
        if len(batch) == 1:
            failed[int(batch[0])] = f"{type(error).__name__}: {error}"
            return
        middle = len(batch) // 2
        self._pending += [batch[middle:], batch[:middle]]


def device_lost(error: Exception) -> DeviceLostError:
    """Return what to raise from a failure after which the device answers nothing any more."""
    return DeviceLostError(f"The device failed and answers nothing any more: {error}. Start the process again.")


def _failure_of(forward: Callable[[IntArray], None], batch: IntArray) -> Exception | None:
    try:
        forward(batch)
    except HfregError:
        raise
    except Exception as error:  # noqa: BLE001  whatever a network raises belongs to this batch, and is told with it
        # The traceback holds the batch's tensors alive, which is the memory that the next attempt needs.
        return error.with_traceback(None)
    return None


def _prove(prove: Callable[[], None]) -> None:
    try:
        prove()
    except Exception as error:
        raise InferenceError(
            f"The model cannot run even the shortest text with these parameters: {type(error).__name__}: {error}. "
            "No row is at fault."
        ) from error
