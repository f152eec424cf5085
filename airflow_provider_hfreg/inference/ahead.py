"""
The next batch, arranged and on its way to the device while the device computes the one before it.

Kernels are launched and not waited for, so there is time between the launch of a pass and the reading of what it gave.
In it the next batch is put together and copied, on a stream of its own; the stream that computes waits for the copy
when the batch's turn has come. At most one batch is held. What runs next is the executor's to say: where it changed its
mind (memory ran out, a batch failed and is cut) the batch that is held is let go, and where one cannot be arranged it
is arranged again in its turn, so that the failure is its own.

On the CPU nothing is arranged ahead: there the processor that would do it computes.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Protocol

from airflow_provider_hfreg.inference.arrangement import Arranged
from airflow_provider_hfreg.inference.batch import Batch
from airflow_provider_hfreg.inference.frameworks import torch
from airflow_provider_hfreg.inference.single_pass import SinglePass
from airflow_provider_hfreg.pipelines.base import IntArray

log = logging.getLogger(__name__)


class SideStream(Protocol):
    """Where copies run beside what the device computes."""

    def entered(self) -> contextlib.AbstractContextManager[object]:
        """Copy there while this is entered."""

    def hand_over(self, batch: Arranged) -> None:
        """Let what computes wait for the batch, and keep the batch's memory until that was done with it."""


class Ahead:
    """
    Arranges batches, one of them ahead.

    :param forwarder: whose batches they are.
    :param batch_of: the batch of some sequences.
    :param following: tells which sequences are to run next, None for none.
    :param stream: to copy on.
    """

    def __init__(
        self,
        forwarder: SinglePass,
        batch_of: Callable[[IntArray], Batch],
        *,
        following: Callable[[], IntArray | None],
        stream: SideStream,
    ) -> None:
        self._forwarder, self._batch_of, self._following, self._stream = forwarder, batch_of, following, stream
        self._held: tuple[IntArray, Batch] | None = None

    def take(self, positions: IntArray) -> Batch:
        """Return the batch of these sequences, whose turn it is."""
        held, self._held = self._held, None
        if held is None or held[0] is not positions:
            return self._arrange(positions)
        self._stream.hand_over(held[1].arranged)
        return held[1]

    def _arrange(self, positions: IntArray) -> Batch:
        batch = self._batch_of(positions)
        return replace(batch, arranged=replace(self._forwarder.arrange(batch), launched=self._look))

    def _look(self) -> None:
        """Arrange the next batch, now that the device has been given all of the present one."""
        positions = self._following()
        if positions is None:
            return
        try:
            with self._stream.entered():
                self._held = positions, self._arrange(positions)
        except Exception as error:  # noqa: BLE001  not the failure of the batch that runs
            log.debug("The next batch was not arranged ahead: %s", error)

    def close(self) -> None:
        """Let go of what is held: of a run that ended before its last batch."""
        self._held = None


def side_stream(device: torch.device) -> SideStream | None:
    """Return a stream to copy on, None where nothing is arranged ahead."""
    return _CudaStream(device) if device.type == "cuda" else None


class _CudaStream:
    def __init__(self, device: torch.device) -> None:
        self._device, self._stream = device, torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        with torch.cuda.stream(self._stream):
            yield

    def hand_over(self, batch: Arranged) -> None:
        computes = torch.cuda.current_stream(self._device)
        computes.wait_stream(self._stream)
        for tensor in batch.tensors:
            tensor.record_stream(computes)  # else the next copy could be put where this one still is read
