"""
The vectors of a text's tokens to one vector, on the device: only one row per text leaves it.

As sentence-transformers does it: padding never counts, special tokens do, and a vector is normalised to length 1 where
that is asked for. A text without a single token (an empty one, of a tokenizer that puts nothing around it) has no
vector: it fails, whatever runs beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from airflow_provider_hfreg.inference.batch import Batch, BatchOutputs
from airflow_provider_hfreg.inference.frameworks import torch
from airflow_provider_hfreg.inference.loading import LoadedPipeline
from airflow_provider_hfreg.inference.single_pass import SinglePass, to_numpy


class Embedding(SinglePass):
    """
    One vector per sequence.

    :param pooling: a name of :data:`POOLINGS`.
    :param normalize: to length 1.
    """

    def __init__(self, loaded: LoadedPipeline, *, pooling: str, normalize: bool) -> None:
        super().__init__(loaded)
        self._pool = POOLINGS[pooling]
        self._normalize = normalize

    def run(self, batch: Batch) -> BatchOutputs:
        """Run one padded forward."""
        if not all(map(len, batch.columns["input_ids"])):
            raise ValueError("the tokenizer makes no token of the text, so there is nothing to pool")
        return super().run(batch)

    def read(self, inputs: dict[str, Any], mask: torch.Tensor) -> BatchOutputs:
        """Return the pooled vectors."""
        vectors = self._pool(self._loaded.network(**inputs)[0].float(), mask)
        if self._normalize:
            vectors = torch.nn.functional.normalize(vectors, dim=1)
        return BatchOutputs(values={"embedding": to_numpy(vectors)})

    def empty(self) -> BatchOutputs:
        """Return no vector."""
        return BatchOutputs(values={"embedding": np.empty((0, 0), np.float32)})


def _mean(vectors: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    # Filled and not multiplied: what stands at the padding may be NaN, and NaN times zero is NaN.
    return vectors.masked_fill(~mask[..., None], 0).sum(dim=1) / mask.sum(dim=1, keepdim=True)


def _first(vectors: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:  # noqa: ARG001  padding is on the right
    return vectors[:, 0]


def _last(vectors: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return vectors[torch.arange(len(vectors), device=vectors.device), mask.sum(dim=1) - 1]


def _max(vectors: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return vectors.masked_fill(~mask[..., None], -torch.inf).amax(dim=1)


POOLINGS: Mapping[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "mean": _mean,
    "cls": _first,
    "max": _max,
    "last": _last,
}
"""Name → vectors [sequences, longest, size] and mask [sequences, longest] to vectors [sequences, size]."""
