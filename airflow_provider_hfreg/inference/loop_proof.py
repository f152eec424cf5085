"""
What a network's scores are when rows leave a batch one by one, and when each prompt runs alone in ``generate``.

A loaded network is asked for both, once: only where they are the same does it generate with the loop of
:mod:`.decode_loop`. The prompts begin alike, are of several lengths, leave at several steps, and some wait for a place:
so rows move, prompts lose padding on their left and an encoder's texts some behind their ends. How far rounding carries
a network is its own: the scores of ``generate`` in one padded batch, which is what runs otherwise, tell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from airflow_provider_hfreg.inference.decode_loop import DecodeLoop
from airflow_provider_hfreg.inference.frameworks import torch, transformers
from airflow_provider_hfreg.inference.generation_settings import best_tokens
from airflow_provider_hfreg.inference.loading import LoadedPipeline
from airflow_provider_hfreg.inference.padding import padded
from airflow_provider_hfreg.pipelines.ragged import Ragged

_BEGINNING = 3  # tokens of all
_PROMPTS = (6, 17, 6, 1, 11)  # tokens of each, behind those
_STEPS = (4, 1, 2, 3, 2)  # after which each leaves: one is there while others join, and goes on beside them
_PLACES = 3
_FILLING = 8.0  # of padding: a network that looks at it (LED's decoder does) then differs by more than half precision
_AT_ONCE = 24  # tokens: some prompts are read together, some apart

Scores = Mapping[str, npt.NDArray[np.float64]]


def scores_alone(loaded: LoadedPipeline) -> Scores:
    """Return the scores of all steps of each prompt, run by ``generate`` alone."""
    found: dict[str, npt.NDArray[np.float64]] = {}
    for row, prompt in enumerate(_prompts(loaded)):
        found |= _scores(loaded, [prompt], [row], loop=None)
    return found


def scores_together(loaded: LoadedPipeline, *, waiting: bool) -> Scores:
    """
    Return the same scores, of all prompts in one batch that each leaves at its step.

    :param waiting: some of them for a place.
    """
    prompts = _prompts(loaded)
    loop = DecodeLoop(_PLACES if waiting else None, shared=_BEGINNING, at_once=_AT_ONCE, filling=_FILLING)
    return _scores(loaded, prompts, range(len(prompts)), loop=loop)


def scores_padded(loaded: LoadedPipeline) -> Scores:
    """Return the same scores and more, of all prompts in one batch that none leaves."""
    prompts = _prompts(loaded)
    return _scores(loaded, prompts, range(len(prompts)), loop=None)


def first_steps(scores: Scores) -> Scores:
    """Return the scores of the prompts alone: those of later steps follow tokens that a near tie may have changed."""
    return {name: numbers for name, numbers in scores.items() if name.endswith(" 0")}


class _Rows:
    """Which rows of the batch are there, and how many steps each has behind it."""

    def __init__(self, rows: Sequence[int]) -> None:
        self._rows = list(rows)
        self._steps = Counter[int]()

    def turn_to(self, rows: Sequence[int]) -> None:
        self._rows = list(rows)


class _Noted(_Rows, transformers.LogitsProcessor):  # type: ignore[misc]  # transformers is untyped
    """Notes each row's scores and changes nothing."""

    def __init__(self, rows: Sequence[int]) -> None:
        super().__init__(rows)
        self.scores: dict[str, npt.NDArray[np.float64]] = {}

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:  # noqa: ARG002  as it is called
        for row, numbers in zip(self._rows, scores.cpu().double().numpy(), strict=True):
            self.scores[f"{row} {self._steps[row]}"] = numbers
        self._steps.update(self._rows)
        return scores


class _LeavesAtItsStep(_Rows, transformers.StoppingCriteria):  # type: ignore[misc]  # as above
    """Ends each row after its number of steps."""

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:  # noqa: ARG002  as above
        self._steps.update(self._rows)
        return torch.tensor([self._steps[row] >= _STEPS[row] for row in self._rows], device=input_ids.device)


def _scores(
    loaded: LoadedPipeline, prompts: Sequence[Sequence[int]], rows: Sequence[int], *, loop: DecodeLoop | None
) -> Scores:
    network = loaded.network
    side: Literal["left", "right"] = "right" if network.config.is_encoder_decoder else "left"
    inputs = padded({"input_ids": Ragged.of_lists(prompts)}, loaded.padding, loaded.device, side=side)
    noted = _Noted(rows)
    with torch.inference_mode():
        network.generate(
            **inputs,
            **best_tokens(network.generation_config),
            max_new_tokens=max(_STEPS) + 1,
            eos_token_id=None,
            stop_strings=None,
            pad_token_id=loaded.padding["input_ids"],
            logits_processor=transformers.LogitsProcessorList([noted]),
            stopping_criteria=transformers.StoppingCriteriaList([_LeavesAtItsStep(rows)]),
            **({} if loop is None else loop.arguments(network, inputs)),
        )
    return noted.scores


def _prompts(loaded: LoadedPipeline) -> list[list[int]]:
    known = known_tokens(loaded)
    draw = np.random.default_rng(0)
    beginning = draw.integers(known, size=_BEGINNING).tolist()
    longest = max(_PROMPTS) if loaded.token_limit is None else loaded.token_limit - _BEGINNING - max(_STEPS) - 1
    return [beginning + draw.integers(known, size=max(1, min(count, longest))).tolist() for count in _PROMPTS]


def known_tokens(loaded: LoadedPipeline) -> int:
    """Count the tokens that the network has vectors for: a tokenizer may have been given more."""
    return min(len(loaded.tokenizer), int(loaded.network.get_input_embeddings().weight.shape[0]))
