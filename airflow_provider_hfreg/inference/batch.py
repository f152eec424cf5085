"""
What goes into one pass through the network and what comes out, and the face of whatever runs it.

Each way of :class:`~airflow_provider_hfreg.pipelines.base.Forward` is one class with the small face of
:class:`Forwarder`, so that the engine batches, isolates and retries without knowing what it runs, and another runtime
can stand in for torch later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy.typing as npt

from airflow_provider_hfreg.inference.generation_settings import Company
from airflow_provider_hfreg.pipelines.ragged import Ragged

TokenIds = Sequence[Sequence[int]]
"""Generated ids: a list for each text of a sequence."""


@dataclass(frozen=True)
class Batch:
    """
    Sequences that run together.

    :param columns: the tokenizer's model inputs, unpadded; ``input_ids`` is one of them.
    :param streams: per sequence, the position of its row in the run's whole input and which of the row's sequences it
        is: what its random numbers depend on.
    :param token_budget: padded tokens that may be there at a time; None where all of the batch may.
    :param cancelled: asked at each step of a pass that has many.
    :param arranged: what :meth:`~.single_pass.SinglePass.arrange` gave for it, where that was called before.
    """

    columns: Mapping[str, Ragged]
    streams: Sequence[tuple[int, int]]
    token_budget: int | None = None
    cancelled: Callable[[], bool] = lambda: False
    arranged: Any = None


@dataclass(frozen=True)
class BatchOutputs:
    """
    What one batch gave, first axis its sequences; see :class:`~airflow_provider_hfreg.pipelines.base.Outputs`.

    :param padded_tokens: that the network read, padding and all, where it did not read the batch as one.
    """

    values: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    ragged: Mapping[str, Ragged] = field(default_factory=dict)
    generated: Sequence[TokenIds] = ()
    padded_tokens: int | None = None


class Forwarder(Protocol):
    """
    One way to run a batch.

    ``deterministic``: equal sequences give equal outputs, so each is run once. ``new_tokens``: how many tokens a
    sequence may bring. ``growth``: those among them that follow in its own positions, none where a decoder of its own
    writes them. ``copies``: rows of the tensor that a sequence takes. ``company``: which sequences may share a batch.
    ``turns``: how many budgets' worth of sequences a batch may hold, because they take turns in it.
    """

    deterministic: bool
    new_tokens: int
    growth: int
    copies: int
    company: Company
    turns: int

    def empty(self) -> BatchOutputs:
        """Return what a batch of no sequences gives."""

    def run(self, batch: Batch) -> BatchOutputs:
        """Run one batch; any exception is about this batch."""


def company_of(accepts: frozenset[str]) -> Company:
    """
    Return which sequences may share a batch: a network that takes no mask would read the padding.

    :param accepts: names of the network's arguments.
    """
    return Company.ANY if "attention_mask" in accepts else Company.EQUAL_LENGTH
