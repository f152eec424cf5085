"""
The vectors of a text's tokens to one vector, on the device: only one row per text leaves it.

As sentence-transformers does it: padding never counts, special tokens do, and a vector is normalised to length 1 where
that is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from airflow_provider_hfreg.inference.arrangement import Arranged, to_numpy
from airflow_provider_hfreg.inference.batch import BatchOutputs
from airflow_provider_hfreg.inference.frameworks import torch
from airflow_provider_hfreg.inference.loading import LoadedPipeline
from airflow_provider_hfreg.inference.single_pass import SinglePass
from airflow_provider_hfreg.inference.transfer import to_device

POOLINGS = ("mean", "cls", "max", "last")
_EDGES: Mapping[str, str] = {"cls": "first", "last": "last"}  # poolings that take one token


class Embedding(SinglePass):
    """
    One vector per sequence.

    :param pooling: ``mean``, ``max``, ``cls`` (the first token's) or ``last``.
    :param normalize: to length 1.
    """

    def __init__(self, loaded: LoadedPipeline, *, pooling: str, normalize: bool) -> None:
        super().__init__(loaded)
        self._pooling = pooling
        self._normalize = normalize

    def read(self, batch: Arranged) -> BatchOutputs:
        """Return the pooled vectors."""
        edge = _EDGES.get(self._pooling)
        if edge is None:
            lengths = to_device(batch.lengths, self._loaded.device)
            flat = batch.per_token(self.forward(batch)[0]).float()
            vectors = torch.segment_reduce(flat, self._pooling, lengths=lengths)
        elif self._loaded.layout.last is None:
            vectors = batch.per_token(self.forward(batch)[0])[batch.tokens_at(edge)].float()
        else:
            vectors = self.forward_to(batch, batch.tokens_at(edge))[0][:, 0].float()
        if self._normalize:
            vectors = torch.nn.functional.normalize(vectors, dim=1)
        return BatchOutputs(values={"embedding": to_numpy(vectors)})

    def empty(self) -> BatchOutputs:
        """Return no vector."""
        return BatchOutputs(values={"embedding": np.empty((0, 0), np.float32)})
