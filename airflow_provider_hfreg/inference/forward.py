"""
The way that a task asks for, under the parameters of one run; and generation, the one way of many passes.

The ways of a single pass are in :mod:`.single_pass`, :mod:`.masks` and :mod:`.pooling`; their common face is
:class:`~airflow_provider_hfreg.inference.batch.Forwarder`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from airflow_provider_hfreg.errors import RunCancelledError
from airflow_provider_hfreg.inference.batch import Batch, BatchOutputs, Forwarder, company_of
from airflow_provider_hfreg.inference.decode_loop import DecodeLoop, at_once_on
from airflow_provider_hfreg.inference.frameworks import torch, transformers
from airflow_provider_hfreg.inference.generation_settings import (
    SAMPLING_OFF,
    Company,
    GenerationSettings,
    names,
    settings_for,
)
from airflow_provider_hfreg.inference.loading import LoadedPipeline
from airflow_provider_hfreg.inference.masks import MaskLogits
from airflow_provider_hfreg.inference.padding import padded
from airflow_provider_hfreg.inference.pooling import Embedding
from airflow_provider_hfreg.inference.sampling import DrawToken, stream_seed
from airflow_provider_hfreg.inference.single_pass import SequenceLogits, SpanLogits, TableLogits, TokenLogits
from airflow_provider_hfreg.pipelines.base import Forward, IntArray, TaskContext
from airflow_provider_hfreg.pipelines.ragged import Ragged

_TURNS = 4  # the rows of as many batches take turns: the last ones of a batch go on alone, so there are fewer of those


def forwarder_for(loaded: LoadedPipeline, context: TaskContext, *, seed: int) -> Forwarder:
    """Return the way that the task asks for, under the parameters of one run."""
    settings = context.parameters
    ways: Mapping[Forward, Callable[[], Forwarder]] = {
        Forward.SEQUENCE_LOGITS: lambda: SequenceLogits(loaded),
        Forward.TOKEN_LOGITS: lambda: TokenLogits(loaded),
        Forward.SPAN_LOGITS: lambda: SpanLogits(loaded),
        Forward.MASK_LOGITS: lambda: MaskLogits(loaded, top_k=settings["top_k"], target_ids=settings.get("target_ids")),
        Forward.TABLE: lambda: TableLogits(loaded),
        Forward.EMBEDDING: lambda: Embedding(loaded, pooling=settings["pooling"], normalize=settings["normalize"]),
        Forward.GENERATE: lambda: _generation(loaded, context, seed),
    }
    return ways[loaded.task.forward]()


def _generation(loaded: LoadedPipeline, context: TaskContext, seed: int) -> Forwarder:
    settings = settings_for(
        context.parameters,
        context.generation,
        loaded.network.generation_config,
        pad_token_id=loaded.tokenizer.pad_token_id,
    )
    prefix = context.parameters.get("prefix")
    if prefix and not loaded.network.config.is_encoder_decoder:
        special = bool(context.parameters.get("add_special_tokens"))
        settings = settings.without_prefix(len(loaded.tokenizer.encode(prefix, add_special_tokens=special)))
    return GenerateForwarder(loaded, settings, seed)


class GenerateForwarder:
    """
    New token ids per sequence: greedy, by beams, or drawn with each sequence's own generator.

    What comes back for a sequence is what it would have got alone: padding that only the batch made is cut off. Rows
    that have ended leave their batch where the network and the settings allow it (:mod:`.decode_loop`).
    """

    def __init__(self, loaded: LoadedPipeline, settings: GenerationSettings, seed: int) -> None:
        self._loaded = loaded
        self._settings = settings
        self._seed = seed
        self._decoder_only = not loaded.network.config.is_encoder_decoder
        self._texts_each = int(settings["num_return_sequences"])
        company = settings.company_of(decoder_only=self._decoder_only)
        if company is Company.ANY:
            company = Company.EQUAL_LENGTH if loaded.reads_padding else company_of(loaded.names)
        self.company = company
        self.deterministic = not settings.samples
        self.new_tokens = settings.new_tokens
        self.growth = self.new_tokens if self._decoder_only else 0
        self.copies = max(self._texts_each, int(settings["num_beams"]))
        # Beam sampling and the settings that run alone draw from torch's global generator, seeded for each sequence.
        self._draws = settings.samples and self.company is not Company.NONE
        # Of several texts of one prompt, none with an end, those that stopped go on as long as the last one does.
        goes_on = self._texts_each > 1 and bool(settings["stop_strings"]) and not settings.end_tokens
        self._rows_leave = loaded.rows_leave and settings.rows_may_leave and not goes_on
        waits = self._rows_leave and loaded.rows_wait and settings.rows_may_wait and self.company is Company.ANY
        self.turns = _TURNS if waits else 1
        # Made here and not at each batch: it asks the tokenizer, in which another thread may be by then.
        stops = settings["stop_strings"]
        self._stop = None if stops is None else transformers.StopStringCriteria(loaded.tokenizer, stops)

    def empty(self) -> BatchOutputs:
        """Return no texts."""
        return BatchOutputs()

    def run(self, batch: Batch) -> BatchOutputs:
        """Generate for one batch; see the class."""
        given = batch.columns["input_ids"]
        prompts = self._prompts(given.take(np.repeat(np.arange(len(given)), self._rows_each)))
        side: Literal["left", "right"] = "left" if self._decoder_only else "right"
        inputs = padded({"input_ids": prompts}, self._loaded.padding, self._loaded.device, side=side)
        start = inputs["input_ids"].shape[1] if self._decoder_only else 1
        stop = None if self._stop is None or self._settings.searches else StopStrings(self._stop, start)
        cancelling = _Cancelling(batch.cancelled)
        criteria: list[Any] = [cancelling] if self._stop is None else [cancelling, stop or self._stop]
        places = self._places(inputs["input_ids"].shape[1], batch)
        at_once = at_once_on(self._loaded.device)
        loop = DecodeLoop(places, at_once=at_once, check=cancelling.check) if self._rows_leave else None
        with torch.inference_mode(), self._random_numbers(batch):
            tokens = self._loaded.network.generate(
                **inputs,
                **self._arguments(),
                logits_processor=self._draw_tokens(batch),
                stopping_criteria=transformers.StoppingCriteriaList(criteria),
                **({} if loop is None else loop.arguments(self._loaded.network, inputs)),
            )
        texts = tokens[:, start:].cpu().numpy()
        stopped = {} if stop is None else stop.tokens_until_stop
        lengths = np.array(loop.lengths) if loop else _lengths(texts, self._settings.end_tokens, stopped)
        return BatchOutputs(
            generated=self._by_sequence(texts, lengths, given),
            padded_tokens=loop.padded_tokens if loop else None,
        )

    @property
    def _rows_each(self) -> int:
        """Rows of the tensor per sequence: drawn texts of one prompt are rows of their own, beams are not."""
        return self._texts_each if self._draws else 1

    def _places(self, longest: int, batch: Batch) -> int | None:
        """Return how many rows of the tensor the budget allows at a time, None for all."""
        if batch.token_budget is None or self.turns == 1:
            return None
        return max(1, batch.token_budget // (longest + self.new_tokens))

    def _prompts(self, ids: Ragged) -> Ragged:
        """Return the prompts; an empty one starts from the model's first token, as ``generate`` does without input."""
        empty = ids.lengths == 0
        if not self._decoder_only or not empty.any():
            return ids
        values = np.insert(ids.values, ids.offsets[:-1][empty], self._start())
        return Ragged.of(np.maximum(ids.lengths, 1), values)

    def _start(self) -> int:
        start = self._settings["bos_token_id"]
        if start is None:
            raise ValueError("the text is empty and the model has no token to begin with (bos_token_id)")
        return int(start)

    def _arguments(self) -> dict[str, Any]:
        arguments: dict[str, Any] = {**self._settings.given, "return_dict_in_generate": False}
        if self._draws:
            off = {name: value for name, value in SAMPLING_OFF.items() if name in names()}
            arguments |= {**off, "do_sample": False, "num_return_sequences": 1}
        if self._stop is not None:
            arguments["stop_strings"] = None
        return arguments

    def _draw_tokens(self, batch: Batch) -> Any:
        if not self._draws:
            return None
        seeds = [
            stream_seed(self._seed, row, ordinal * self._texts_each + copy)
            for row, ordinal in batch.streams
            for copy in range(self._texts_each)
        ]
        return transformers.LogitsProcessorList([DrawToken(self._settings, seeds, self._loaded.device)])

    @contextlib.contextmanager
    def _random_numbers(self, batch: Batch) -> Iterator[None]:
        """Seed torch's global generator for a sequence that runs alone, and leave it as it was."""
        if not self._settings.samples or self._draws:
            yield
            return
        with torch.random.fork_rng(devices=[self._loaded.device] if self._loaded.device.type == "cuda" else []):
            torch.manual_seed(stream_seed(self._seed, *batch.streams[0]))
            yield

    def _by_sequence(self, texts: IntArray, lengths: IntArray, prompts: Ragged) -> list[list[list[int]]]:
        """Group the texts of each sequence; alone, a shorter one would be padded to the longest of its group."""
        longest = lengths.reshape(len(prompts), self._texts_each).max(axis=1)
        starts = self._decoder_only & (prompts.lengths == 0)  # what an empty prompt starts with is part of its text
        grouped = texts.reshape(len(prompts), self._texts_each, -1)
        return [
            [([self._start()] if begins else []) + text.tolist() for text in group[:, :length]]
            for group, length, begins in zip(grouped, longest, starts, strict=True)
        ]


class _Cancelling(transformers.StoppingCriteria):  # type: ignore[misc]  # transformers is untyped
    """Ends a batch at its next step once somebody asks for that: hundreds of tokens of it may be to come."""

    def __init__(self, cancelled: Callable[[], bool]) -> None:
        self._cancelled = cancelled

    def check(self) -> None:
        """
        Ask whether to go on.

        :raises RunCancelledError: somebody said no.
        """
        if self._cancelled():
            raise RunCancelledError("Stopped while texts were generated, as asked. What was committed stays.")

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:  # noqa: ARG002  as called
        """Ask, and end no row."""
        self.check()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


class StopStrings(transformers.StoppingCriteria):  # type: ignore[misc]  # transformers is untyped
    """
    Transformers' own stop strings, and after how many new tokens each row met one.

    A stopped row is padded while the batch goes on, and a pad token may look like an end of text: the place is noted.
    """

    def __init__(self, criteria: Any, start: int) -> None:
        self._criteria = criteria
        self._start = start
        self.tokens_until_stop: dict[int, int] = {}

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """Tell which rows have met a stop string."""
        met: torch.Tensor = self._criteria(input_ids, scores, **kwargs)
        for row in met.nonzero().flatten().tolist():
            self.tokens_until_stop.setdefault(row, input_ids.shape[1] - self._start)
        return met


def _lengths(texts: IntArray, end_tokens: Sequence[int], stopped: Mapping[int, int]) -> IntArray:
    """
    Return how many tokens of each row are its own and not padding, its end token included.

    :param texts: [rows, columns].
    :param stopped: rows that a stop string ended, and after how many tokens.

    >>> _lengths(np.array([[5, 2, 2], [5, 6, 7], [5, 6, 2]]), [2], {2: 2}).tolist()
    [2, 3, 2]
    """
    behind = np.ones((len(texts), 1), np.bool_)
    ends = np.concatenate([np.isin(texts, list(end_tokens)), behind], axis=1).argmax(axis=1)
    lengths: IntArray = np.minimum(ends + 1, texts.shape[1])
    for row, length in stopped.items():
        lengths[row] = min(lengths[row], length)
    return lengths
