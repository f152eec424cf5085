"""
Drawing tokens so that a row's text depends on the run's seed and the row's position, and on nothing else.

``generate`` draws a whole batch from one global generator: the same row gets another text in another batch, and a
resumed run could never repeat itself. Here every sequence has a generator of its own, and a logits processor applies
the family's own warpers, draws, and leaves only the drawn token, so that ``generate``, told to be greedy, has nothing
to choose. The distribution is the pipeline's; the numbers are not the same.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from airflow_provider_hfreg.inference.frameworks import torch, transformers
from airflow_provider_hfreg.inference.generation_settings import GenerationSettings
from airflow_provider_hfreg.inference.transfer import to_device

_BLOCK = 64  # numbers drawn at a time from each generator


def stream_seed(seed: int, row: int, ordinal: int) -> int:
    """
    Return the seed of one sequence's generator: 63 bits, unrelated between neighbours.

    :param seed: of the run.
    :param row: position of the row in the run's whole input.
    :param ordinal: which of the row's texts.

    >>> stream_seed(1, 2, 0) == stream_seed(1, 2, 0), stream_seed(1, 2, 0) == stream_seed(1, 0, 2)
    (True, False)
    """
    digest = hashlib.sha256(f"{seed}/{row}/{ordinal}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class DrawToken(transformers.LogitsProcessor):  # type: ignore[misc]  # transformers is untyped
    """
    Leave one token per row, drawn with the row's own generator.

    :param settings: of the run; unset ones are the family's.
    :param seeds: one per row of the batch, as :func:`stream_seed` gives them.
    """

    def __init__(self, settings: GenerationSettings, seeds: Sequence[int], device: torch.device) -> None:
        self._warpers = _warpers(settings, device)
        # In main memory on every device: a row's numbers are the same on all of them.
        self._generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        self._numbers = np.empty((len(seeds), _BLOCK), np.float32)
        self._drawn = [0] * len(seeds)
        self._rows: Sequence[int] = range(len(seeds))
        self._device = device

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return scores under which each row's drawn token is the only one possible."""
        for warper in self._warpers:
            scores = warper(input_ids, scores)
        # In float64: a float32 number below 1 times the total stays below the total, so no filtered token is met.
        mass = torch.softmax(scores.double(), dim=-1).cumsum(dim=-1)
        drawn = torch.searchsorted(mass, self._next() * mass[:, -1:], right=True)
        return torch.full_like(scores, -torch.inf).scatter_(1, drawn, 0.0)

    def turn_to(self, rows: Sequence[int]) -> None:
        """Draw for these rows of the batch from now on."""
        self._rows = list(rows)

    def _next(self) -> torch.Tensor:
        for row in self._rows:
            if self._drawn[row] % _BLOCK == 0:
                self._numbers[row] = torch.rand(_BLOCK, generator=self._generators[row], device="cpu").numpy()
        places = [self._drawn[row] % _BLOCK for row in self._rows]
        numbers = self._numbers[list(self._rows), places, None].astype(np.float64)
        for row in self._rows:
            self._drawn[row] += 1
        return to_device(numbers, self._device)


def _warpers(settings: GenerationSettings, device: torch.device) -> list[Any]:
    """Return the family's warpers in the family's order, those that do something."""
    generation = transformers.generation
    known: Mapping[str, tuple[Callable[[Any], bool], Any]] = {
        "temperature": (lambda value: value != 1.0, generation.TemperatureLogitsWarper),
        "top_h": (lambda _: True, getattr(generation, "TopHLogitsWarper", None)),
        "top_k": (lambda value: value != 0, generation.TopKLogitsWarper),
        "top_p": (lambda value: value < 1.0, generation.TopPLogitsWarper),
        "min_p": (lambda _: True, generation.MinPLogitsWarper),
        "typical_p": (lambda value: value < 1.0, generation.TypicalLogitsWarper),
        "epsilon_cutoff": (lambda value: 0.0 < value < 1.0, generation.EpsilonLogitsWarper),
        "eta_cutoff": (
            lambda value: 0.0 < value < 1.0,
            functools.partial(generation.EtaLogitsWarper, device=str(device)),
        ),
    }
    values = ((settings[name], acts, build) for name, (acts, build) in known.items())
    return [build(value) for value, acts, build in values if value is not None and acts(value)]
