"""
One pass of an encoder over a batch, and what each task reads of it: numbers per sequence or per token.

Numbers leave as float32, whatever the network computes in, and without the padding. The ways that choose among many
numbers on the device have files of their own: masks and pooling.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from airflow_provider_hfreg.inference.arrangement import Arranged, arranged, only, to_numpy
from airflow_provider_hfreg.inference.batch import Batch, BatchOutputs, company_of
from airflow_provider_hfreg.inference.frameworks import torch
from airflow_provider_hfreg.inference.generation_settings import Company
from airflow_provider_hfreg.inference.loading import LoadedPipeline
from airflow_provider_hfreg.pipelines.ragged import Ragged


class SinglePass(ABC):
    """A forward over a batch; a subclass says what is read of the network's outputs."""

    deterministic = True
    new_tokens = 0
    growth = 0
    copies = 1
    turns = 1

    def __init__(self, loaded: LoadedPipeline) -> None:
        self._loaded = loaded
        self._accepts = loaded.accepts
        # By the class itself: one that hands on what it does not name may as well drop it, a mask too.
        self.company = Company.EQUAL_LENGTH if loaded.reads_padding else company_of(loaded.names)

    def run(self, batch: Batch) -> BatchOutputs:
        """
        Run one forward.

        :raises ValueError: as :meth:`arrange`.
        """
        with torch.inference_mode():
            return self.read(batch.arranged or self.arrange(batch))

    def arrange(self, batch: Batch) -> Arranged:
        """
        Put a batch on the device as the network gets it.

        :raises ValueError: a text has no token: padding would answer for it.
        """
        if not batch.columns["input_ids"].lengths.all():
            raise ValueError("the tokenizer makes no token of the text, so there is nothing to run")
        with torch.inference_mode():
            return arranged(batch.columns, self._loaded, self._accepts)

    @abstractmethod
    def read(self, batch: Arranged) -> BatchOutputs:
        """Run the network and return what the task needs."""

    def forward(self, batch: Arranged) -> Any:
        """Return the network's outputs."""
        # A cache of a single pass is memory for nothing; the pipeline does without, too.
        without = {"use_cache": False} if "use_cache" in self._accepts else {}
        outputs = self._loaded.network(**batch.inputs, **without)
        batch.launched()
        return outputs

    def forward_to(self, batch: Arranged, tokens: torch.Tensor) -> Any:
        """
        Return the network's outputs for some tokens, each as a sequence of one: [tokens, 1, …].

        :param tokens: int64, their numbers in the batch; the network's layout has a ``last`` module.
        """
        with only(self._loaded.network, self._loaded.layout, batch.places_of(tokens)):
            return self.forward(batch)

    @abstractmethod
    def empty(self) -> BatchOutputs:
        """Return what no sequence gives."""


class SequenceLogits(SinglePass):
    """A row of logits per sequence."""

    def read(self, batch: Arranged) -> BatchOutputs:
        """Return the logits of the labels."""
        # Where a `last` is known, the head reads the first token and no other: such networks alone are listed.
        outputs = (
            self.forward(batch)
            if self._loaded.layout.last is None
            else self.forward_to(batch, batch.tokens_at("first"))
        )
        return BatchOutputs(values={"logits": to_numpy(outputs.logits)})

    def empty(self) -> BatchOutputs:
        """Return no row of as many labels as the network has."""
        return BatchOutputs(values={"logits": np.empty((0, self._loaded.network.config.num_labels), np.float32)})


class TokenLogits(SinglePass):
    """A row of logits per token."""

    def read(self, batch: Arranged) -> BatchOutputs:
        """Return the logits of the labels of each token."""
        return BatchOutputs(ragged={"logits": batch.ragged(self.forward(batch).logits)})

    def empty(self) -> BatchOutputs:
        """Return no token."""
        return BatchOutputs(ragged={"logits": no_values(self._loaded.network.config.num_labels)})


class SpanLogits(SinglePass):
    """How likely each token begins and ends a span."""

    def read(self, batch: Arranged) -> BatchOutputs:
        """Return the logits of both."""
        outputs = self.forward(batch)
        return BatchOutputs(
            ragged={"start": batch.ragged(outputs.start_logits), "end": batch.ragged(outputs.end_logits)}
        )

    def empty(self) -> BatchOutputs:
        """Return no token."""
        return BatchOutputs(ragged={"start": no_values(), "end": no_values()})


class TableLogits(SinglePass):
    """How likely each token is part of the answer, and what is to be done with the cells (Tapas)."""

    def __init__(self, loaded: LoadedPipeline) -> None:
        super().__init__(loaded)
        if getattr(loaded.network.config, "allow_empty_column_selection", False):
            self.company = Company.EQUAL_LENGTH  # padding counts as cells of the empty column

    def read(self, batch: Arranged) -> BatchOutputs:
        """Return the logits of the tokens, and of the aggregations where the network has some."""
        outputs = self.forward(batch)
        aggregation = outputs.logits_aggregation
        return BatchOutputs(
            values={} if aggregation is None else {"aggregation": to_numpy(aggregation)},
            ragged={"logits": batch.ragged(outputs.logits)},
        )

    def empty(self) -> BatchOutputs:
        """Return no token, and no row of as many aggregations as the network has."""
        count = getattr(self._loaded.network.config, "num_aggregation_labels", 0)
        values = {"aggregation": np.empty((0, count), np.float32)} if count else {}
        return BatchOutputs(values=values, ragged={"logits": no_values()})


def no_values(*shape: int) -> Ragged:
    """Return no sequence, whose values would have this shape."""
    return Ragged.of([], np.empty((0, *shape), np.float32))
