"""
What stands best in the place of a mask: the scores of the best tokens, for the masks alone.

A masked language model scores the whole vocabulary for every token, which for a hundred tokens is a hundred times the
work and the memory that one mask needs. Where the head judges each token by itself (the list below; both families), the
hidden states are gathered before it, or before the rest of the last layer where that is known; elsewhere its outputs
are gathered after it. The best are chosen on the device.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from airflow_provider_hfreg.inference.arrangement import Arranged, Layout, only, to_numpy
from airflow_provider_hfreg.inference.batch import BatchOutputs
from airflow_provider_hfreg.inference.frameworks import torch
from airflow_provider_hfreg.inference.loading import LoadedPipeline
from airflow_provider_hfreg.inference.single_pass import SinglePass
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

    def read(self, batch: Arranged) -> BatchOutputs:
        """Return scores and tokens of each mask, best first."""
        is_mask = batch.ids == self._loaded.tokenizer.mask_token_id
        scores = self._logits(batch, is_mask.nonzero().flatten()).float().softmax(dim=-1)
        if self._targets is not None:
            scores = scores[..., self._targets]
        best = scores.topk(min(self._top_k, scores.shape[-1]))
        tokens = best.indices if self._targets is None else self._targets[best.indices]
        here = is_mask.cpu().numpy()
        counts = Ragged.of(batch.lengths, here).where(here).lengths
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

    def _logits(self, batch: Arranged, masks: torch.Tensor) -> torch.Tensor:
        """
        Return the logits [masks, vocabulary].

        :param masks: int64, the numbers of the tokens.
        """
        network, head = self._loaded.network, _HEADS.get(type(self._loaded.network).__name__)
        logits: torch.Tensor
        if head is not None and self._loaded.layout.last is not None:
            logits = self.forward_to(batch, masks).logits[:, 0]
        elif head is not None:
            with only(network, Layout(last=head), batch.places_of(masks)):
                logits = self.forward(batch).logits[:, 0]
        else:
            logits = batch.per_token(self.forward(batch).logits)[masks]
        return logits
