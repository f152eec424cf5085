"""
One pass of an encoder over a padded batch, and what each task reads of it: numbers per sequence or per token.

Numbers leave as float32, whatever the network computes in, and without the padding. The ways that choose among many
numbers on the device have files of their own: masks and pooling.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt

from airflow_provider_hfreg.inference.batch import Batch, BatchOutputs, company_of
from airflow_provider_hfreg.inference.frameworks import torch
from airflow_provider_hfreg.inference.generation_settings import Company
from airflow_provider_hfreg.inference.loading import LoadedPipeline
from airflow_provider_hfreg.inference.padding import padded
from airflow_provider_hfreg.pipelines.ragged import Ragged


class SinglePass(ABC):
    """A forward over a batch; a subclass says what is read of the network's outputs."""

    deterministic = True
    new_tokens = 0
    growth = 0
    copies = 1

    def __init__(self, loaded: LoadedPipeline) -> None:
        self._loaded = loaded
        self._accepts = frozenset(inspect.signature(loaded.network.forward).parameters)
        self.company = company_of(self._accepts)

    def run(self, batch: Batch) -> BatchOutputs:
        """Run one padded forward."""
        # Positions are counted from the left, and a classifier on a decoder finds the last token by the mask.
        inputs = padded(batch.columns, self._loaded.tokenizer, self._loaded.device, side="right")
        mask = inputs["attention_mask"].bool()
        accepted = {name: tensor for name, tensor in inputs.items() if name in self._accepts}
        if "use_cache" in self._accepts:
            accepted["use_cache"] = False  # a cache of a single pass is memory for nothing; the pipeline does the same
        with torch.inference_mode():
            return self.read(accepted, mask)

    @abstractmethod
    def read(self, inputs: dict[str, Any], mask: torch.Tensor) -> BatchOutputs:
        """
        Run the network and return what the task needs.

        :param inputs: for the network.
        :param mask: bool [sequences, longest]: where there are tokens.
        """

    @abstractmethod
    def empty(self) -> BatchOutputs:
        """Return what no sequence gives."""


class SequenceLogits(SinglePass):
    """A row of logits per sequence."""

    def read(self, inputs: dict[str, Any], mask: torch.Tensor) -> BatchOutputs:  # noqa: ARG002  the network has seen it
        """Return the logits of the labels."""
        return BatchOutputs(values={"logits": to_numpy(self._loaded.network(**inputs).logits)})

    def empty(self) -> BatchOutputs:
        """Return no row of as many labels as the network has."""
        return BatchOutputs(values={"logits": np.empty((0, self._loaded.network.config.num_labels), np.float32)})


class TokenLogits(SinglePass):
    """A row of logits per token."""

    def read(self, inputs: dict[str, Any], mask: torch.Tensor) -> BatchOutputs:
        """Return the logits of the labels of each token."""
        return BatchOutputs(ragged={"logits": per_token(self._loaded.network(**inputs).logits, mask)})

    def empty(self) -> BatchOutputs:
        """Return no token."""
        return BatchOutputs(ragged={"logits": no_values(self._loaded.network.config.num_labels)})


class SpanLogits(SinglePass):
    """How likely each token begins and ends a span."""

    def read(self, inputs: dict[str, Any], mask: torch.Tensor) -> BatchOutputs:
        """Return the logits of both."""
        outputs = self._loaded.network(**inputs)
        return BatchOutputs(
            ragged={"start": per_token(outputs.start_logits, mask), "end": per_token(outputs.end_logits, mask)}
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

    def read(self, inputs: dict[str, Any], mask: torch.Tensor) -> BatchOutputs:
        """Return the logits of the tokens, and of the aggregations where the network has some."""
        outputs = self._loaded.network(**inputs)
        aggregation = outputs.logits_aggregation
        return BatchOutputs(
            values={} if aggregation is None else {"aggregation": to_numpy(aggregation)},
            ragged={"logits": per_token(outputs.logits, mask)},
        )

    def empty(self) -> BatchOutputs:
        """Return no token, and no row of as many aggregations as the network has."""
        count = getattr(self._loaded.network.config, "num_aggregation_labels", 0)
        values = {"aggregation": np.empty((0, count), np.float32)} if count else {}
        return BatchOutputs(values=values, ragged={"logits": no_values()})


def to_numpy(tensor: torch.Tensor) -> npt.NDArray[np.float32]:
    """Return a tensor's numbers as float32 in main memory."""
    array: npt.NDArray[np.float32] = tensor.float().cpu().numpy()
    return array


def per_token(values: torch.Tensor, mask: torch.Tensor) -> Ragged:
    """
    Return the values of the tokens, without those of the padding.

    :param values: [sequences, longest, …].
    """
    return Ragged.of(mask.sum(dim=1).cpu().numpy(), to_numpy(values[mask]))


def no_values(*shape: int) -> Ragged:
    """Return no sequence, whose values would have this shape."""
    return Ragged.of([], np.empty((0, *shape), np.float32))
