"""
What stands best in the place of a mask: the scores of the best tokens, for the masks alone.

A masked language model scores the whole vocabulary for every token, which for a hundred tokens is a hundred times the
work and the memory that one mask needs. Where the head judges each token by itself (the list below; both families), the
hidden states are gathered before it; elsewhere its outputs are gathered after it. The best are chosen on the device.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from airflow_provider_hfreg.inference.batch import BatchOutputs
from airflow_provider_hfreg.inference.frameworks import torch
from airflow_provider_hfreg.inference.loading import LoadedPipeline
from airflow_provider_hfreg.inference.single_pass import SinglePass, to_numpy
from airflow_provider_hfreg.pipelines.ragged import Ragged

# The first part of the head, which sees the hidden states.
_HEADS: Mapping[str, str] = {
    "AlbertForMaskedLM": "predictions",
    "BertForMaskedLM": "cls",
    "CamembertForMaskedLM": "lm_head",
    "DistilBertForMaskedLM": "vocab_transform",
    "ElectraForMaskedLM": "generator_predictions",
    "MPNetForMaskedLM": "lm_head",
    "RobertaForMaskedLM": "lm_head",
    "XLMRobertaForMaskedLM": "lm_head",
}


class MaskLogits(SinglePass):
    """
    The best tokens for each mask.

    :param top_k: how many, at most as many as there are to choose from.
    :param target_ids: the tokens to choose from; None for all. Scores are shares of the whole vocabulary in any case.
    """

    def __init__(self, loaded: LoadedPipeline, *, top_k: int, target_ids: list[int] | None = None) -> None:
        super().__init__(loaded)
        self._top_k = top_k
        self._targets = None if target_ids is None else torch.tensor(target_ids, device=loaded.device)

    def read(self, inputs: dict[str, Any], mask: torch.Tensor) -> BatchOutputs:
        """Return scores and tokens of each mask, best first."""
        masked = (inputs["input_ids"] == self._loaded.tokenizer.mask_token_id) & mask
        logits = self._logits(inputs, masked).float()
        scores = logits.softmax(dim=-1)
        if self._targets is not None:
            scores = scores[..., self._targets]
        best = scores.topk(min(self._top_k, scores.shape[-1]))
        tokens = best.indices if self._targets is None else self._targets[best.indices]
        counts = masked.sum(dim=1).cpu().numpy()
        return BatchOutputs(
            ragged={
                "score": Ragged.of(counts, to_numpy(best.values)),
                "token": Ragged.of(counts, tokens.cpu().numpy()),
            }
        )

    def empty(self) -> BatchOutputs:
        """Return no mask."""
        shape = (0, self._top_k)
        return BatchOutputs(
            ragged={
                "score": Ragged.of([], np.empty(shape, np.float32)),
                "token": Ragged.of([], np.empty(shape, np.int64)),
            }
        )

    def _logits(self, inputs: dict[str, Any], masked: torch.Tensor) -> torch.Tensor:
        """Return the logits [masks, vocabulary]."""
        network = self._loaded.network
        head = _HEADS.get(type(network).__name__)
        if head is None:
            logits: torch.Tensor = network(**inputs).logits[masked]
            return logits
        with _before(getattr(network, head), masked):
            (logits,) = network(**inputs).logits
        return logits


@contextlib.contextmanager
def _before(head: torch.nn.Module, chosen: torch.Tensor) -> Iterator[None]:
    """Let ``head`` see only the chosen places, as one sequence."""
    hook = head.register_forward_pre_hook(lambda _head, arguments: (arguments[0][chosen][None], *arguments[1:]))
    try:
        yield
    finally:
        hook.remove()
