"""
Texts to token ids: one call of the tokenizer's own batch encoding per window, without padding.

Padding is the batches' matter, which are cut by the true lengths found here. Texts with and without a second text are
two calls, because a tokenizer takes pairs for all or for none, and "no pair" is not "an empty pair".

A tokenizer fails as a whole where it cannot encode one text (a question that fills the window of its context). Such a
call is bisected, and the texts at fault are told; whether the tokenizer works at all is tried first, on the shortest
text there is.

Of a text that is cut to a few hundred tokens anyway, a tokenizer is given the beginning: whole, one of 48 MB would take
it 8 GB, and a book in each row as long as a hundred rows.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from airflow_provider_hfreg.errors import InferenceError
from airflow_provider_hfreg.pipelines.base import IntArray, TokenFact
from airflow_provider_hfreg.pipelines.ragged import Ragged

_FACTS_OF_ALL = frozenset({TokenFact.SPECIAL, TokenFact.TYPES})  # the others only fast tokenizers know
_UNBOUNDED = 10**9  # tokenizers without a limit say 10**30
_CHARACTERS_PER_TOKEN = 64  # of a text's beginning that is enough, mostly; real texts have 1 to 6


@dataclass(frozen=True)
class Encoded:
    """
    Token ids of many texts, each one sequence or, where the call asked for what overflows, several.

    :param columns: ``input_ids`` and the tokenizer's other model inputs, unpadded; no mask.
    :param truncated: bool [sequences], whether the text was cut.
    :param text: int64 [sequences], ascending: the text of each.
    :param facts: about the tokens, what was asked and is known.
    :param failed: texts that have no sequence, and why.
    """

    columns: Mapping[str, Ragged]
    truncated: npt.NDArray[np.bool_]
    text: IntArray
    facts: Mapping[TokenFact, Ragged] = field(default_factory=dict)
    failed: Mapping[int, str] = field(default_factory=dict)

    @functools.cached_property
    def lengths(self) -> IntArray:
        """Return the tokens of each sequence."""
        return self.columns["input_ids"].lengths

    def keep_last(self, kept: IntArray) -> Encoded:
        """Return the sequences without their beginnings: the last ``kept`` tokens of each. Facts are not kept."""
        cut = kept < self.lengths
        if not cut.any():
            return self
        columns = {name: ragged.last(kept) for name, ragged in self.columns.items()}
        return replace(self, columns=columns, truncated=self.truncated | cut, facts={})


def encode(
    tokenizer: Any,
    text: pa.StringArray,
    text_pair: pa.StringArray | None,
    encoding: Mapping[str, Any],
    *,
    limit: int | None,
    facts: frozenset[TokenFact] = frozenset(),
) -> Encoded:
    """
    Encode texts in their order.

    :param encoding: the task's keyword arguments for the tokenizer.
    :param limit: tokens that the model can read, used where ``truncation`` is asked for without ``max_length``.
    :raises InferenceError: the tokenizer cannot encode any text with these arguments.
    """
    arguments = {name: value for name, value in encoding.items() if name not in ("padding", "return_tensors")}
    if arguments.get("truncation") and arguments.get("max_length") is None and limit is not None:
        arguments["max_length"] = limit
    call = _Call(tokenizer, arguments, facts)
    texts = text.to_pylist()
    every = np.arange(len(texts), dtype=np.int64)
    if text_pair is None or text_pair.null_count == len(texts):
        return call.encode(texts, None)
    pairs = text_pair.to_pylist()
    without = text_pair.is_null().to_numpy(zero_copy_only=False)
    single, paired = every[without], every[~without]
    return _joined(
        (single, call.encode([texts[place] for place in single], None)),
        (paired, call.encode([texts[place] for place in paired], [pairs[place] for place in paired])),
    )


def token_limit(tokenizer: Any, positions: int | None) -> int | None:
    """
    Return how many tokens a text may have: the tokenizer's limit or the network's table of positions, the lesser.

    :param positions: of the network; None where it has no such table.
    """
    limits = [limit for limit in (tokenizer.model_max_length, positions) if limit is not None and limit < _UNBOUNDED]
    return min(limits, default=None)


def beginning(text: str, characters: int) -> str:
    """
    Return no more than so many characters of a text, up to a white space if there is one in their second half.

    >>> beginning("a good film indeed", 14), beginning("a good film", 14), beginning("x" * 20, 14)
    ('a good film', 'a good film', 'xxxxxxxxxxxxxx')
    """
    if len(text) <= characters:
        return text
    blank = next((place for place in range(characters, characters // 2, -1) if text[place].isspace()), characters)
    return text[:blank]


@dataclass(frozen=True)
class _Call:
    """A tokenizer and how it is called."""

    tokenizer: Any
    arguments: Mapping[str, Any]
    facts: frozenset[TokenFact]

    def encode(self, texts: list[str], pairs: list[str] | None, *, proven: bool = False) -> Encoded:
        """Encode texts that all have a second one, or none; half of them at a time where it fails."""
        if not texts:
            return self._nothing({})
        try:
            return self._encode(texts, pairs)
        except BaseException as error:  # what is caught, _is_about_texts says
            if not _is_about_texts(error):
                raise
            message = f"{type(error).__name__}: {error}"
        if not proven:
            self._prove(paired=pairs is not None)
        if len(texts) == 1:
            if "too short" in message and self.arguments.get("truncation") == "only_first":
                # The second text alone is too long, so no cut helps: the pair runs whole, as in zero-shot's pipeline.
                return replace(self, arguments={**self.arguments, "truncation": False}).encode(texts, pairs)
            return self._nothing({0: message})
        every, middle = np.arange(len(texts)), len(texts) // 2
        first, second = slice(None, middle), slice(middle, None)
        return _joined(
            (every[first], self.encode(texts[first], pairs and pairs[first], proven=True)),
            (every[second], self.encode(texts[second], pairs and pairs[second], proven=True)),
        )

    def _encode(self, texts: list[str], pairs: list[str] | None) -> Encoded:
        encoding = self._tokenized(texts, pairs)
        read = {"input_ids", *self.tokenizer.model_input_names}
        columns = {name: Ragged.of_lists(encoding[name]) for name in encoding if name in read}
        source = encoding.get("overflow_to_sample_mapping")
        count = len(columns["input_ids"])
        truncated = [False] * count if source is not None else self._truncated(encoding, texts, pairs)
        return Encoded(
            columns,
            np.array(truncated, np.bool_),
            np.arange(count, dtype=np.int64) if source is None else np.array(source, np.int64),
            facts=_facts(encoding, self.facts),
        )

    def _tokenized(self, texts: list[str], pairs: list[str] | None) -> Any:
        def call(given: list[str]) -> Any:
            arguments = self._all_arguments()
            return self.tokenizer(given, pairs, padding=False, return_attention_mask=False, **arguments)

        longest = self._cut_at_the_end(paired=pairs is not None)
        if longest is None or all(len(text) <= _CHARACTERS_PER_TOKEN * longest for text in texts):
            return call(texts)
        begun = [beginning(text, _CHARACTERS_PER_TOKEN * longest) for text in texts]
        encoding = call(begun)
        # What is kept was read far from where the text was cut, or the text is read whole: blanks give no tokens.
        is_sure = [
            len(given) == len(text) or sum(map(len, encoding.encodings[place].overflowing)) >= longest
            for place, (given, text) in enumerate(zip(begun, texts, strict=True))
        ]
        if all(is_sure):
            return encoding
        return call([given if sure else text for given, text, sure in zip(begun, texts, is_sure, strict=True)])

    def _cut_at_the_end(self, *, paired: bool) -> int | None:
        """Return to how many tokens the first text is cut, wherever its own beginning alone decides what is kept."""
        strategies = ("only_first",) if paired else ("only_first", "longest_first", True)
        is_so = (
            _is_fast(self.tokenizer)
            and self.arguments.get("truncation") in strategies  # of pairs the longest first: both lengths count
            and not self.arguments.get("return_overflowing_tokens")
            and self.tokenizer.truncation_side == "right"
        )
        return self.arguments.get("max_length") if is_so else None

    def _nothing(self, failed: Mapping[int, str]) -> Encoded:
        none = np.empty(0, np.int64)
        facts = {fact: _flat(fact, []) for fact in self.facts if fact in _FACTS_OF_ALL or _is_fast(self.tokenizer)}
        return Encoded({"input_ids": Ragged.of([], none)}, np.empty(0, np.bool_), none, facts, failed)

    def _all_arguments(self) -> dict[str, Any]:
        asked = {}
        if TokenFact.SPECIAL in self.facts:
            asked["return_special_tokens_mask"] = True
        if TokenFact.CHARACTERS in self.facts and _is_fast(self.tokenizer):
            asked["return_offsets_mapping"] = True
        return {**self.arguments, **asked}

    def _truncated(self, encoding: Any, texts: list[str], pairs: list[str] | None) -> list[bool]:
        longest = self.arguments.get("max_length")
        if not self.arguments.get("truncation") or longest is None:
            return [False] * len(texts)
        full = [len(ids) >= longest for ids in encoding["input_ids"]]
        if _is_fast(self.tokenizer):
            return [bool(cut and encoding.encodings[index].overflowing) for index, cut in enumerate(full)]
        # A slow tokenizer tells nothing about what it cut: those of full length are encoded once more, whole.
        whole = {**self.arguments, "truncation": False, "max_length": None}
        seconds = itertools.repeat(None) if pairs is None else pairs
        return [
            cut and len(self.tokenizer(text, pair, **whole)["input_ids"]) > longest
            for cut, text, pair in zip(full, texts, seconds, strict=False)
        ]

    def _prove(self, *, paired: bool) -> None:
        try:
            self._encode(["a"], ["a"] if paired else None)
        except BaseException as error:
            if not _is_about_texts(error):
                raise
            raise InferenceError(
                f"The tokenizer cannot encode even the shortest text with {self.arguments}: "
                f"{type(error).__name__}: {error}. No row is at fault."
            ) from error


def _is_fast(tokenizer: Any) -> bool:
    return bool(getattr(tokenizer, "is_fast", False))


def _is_about_texts(error: BaseException) -> bool:
    """Tell a failure of the tokenizer; a panic of its Rust part is no Exception, as interrupts are none."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def _facts(encoding: Any, asked: frozenset[TokenFact]) -> dict[TokenFact, Ragged]:
    """Return what was asked about the tokens and the tokenizer knows."""
    lists: Mapping[TokenFact, Callable[[], Any]] = {
        TokenFact.SPECIAL: lambda: encoding.get("special_tokens_mask"),
        TokenFact.CHARACTERS: lambda: encoding.get("offset_mapping"),
        TokenFact.WORD: lambda: encoding.encodings and [each.word_ids for each in encoding.encodings],
        TokenFact.TEXT: lambda: encoding.encodings and [each.sequence_ids for each in encoding.encodings],
        TokenFact.TYPES: lambda: encoding.get("token_type_ids"),
    }
    found = {fact: lists[fact]() for fact in asked}
    return {fact: _flat(fact, values) for fact, values in found.items() if values is not None}


def _flat(fact: TokenFact, lists: Sequence[Sequence[Any]]) -> Ragged:
    values = itertools.chain.from_iterable(lists)
    lengths = [len(of_sequence) for of_sequence in lists]
    if fact is TokenFact.CHARACTERS:
        flat = np.fromiter(itertools.chain.from_iterable(values), np.int64, 2 * sum(lengths)).reshape(-1, 2)
        return Ragged.of(lengths, flat)
    if fact in (TokenFact.WORD, TokenFact.TEXT):
        numbers = np.array(
            list(values), np.float64
        )  # which makes NaN of None, at a third of what asking each one costs
        return Ragged.of(lengths, np.nan_to_num(numbers, nan=-1).astype(np.int64))
    return Ragged.of(lengths, np.array(list(values), np.bool_ if fact is TokenFact.SPECIAL else np.int64))


def _joined(*parts: tuple[IntArray, Encoded]) -> Encoded:
    """Put what several calls gave into the texts' order; all gave the same inputs and facts, being of one tokenizer."""
    failed = {int(texts[text]): message for texts, encoded in parts for text, message in encoded.failed.items()}
    present = [(texts, encoded) for texts, encoded in parts if len(encoded.lengths)] or [parts[0]]
    text = np.concatenate([texts[encoded.text] for texts, encoded in present])
    order = np.argsort(text, kind="stable")
    encodeds = [encoded for _, encoded in present]
    return Encoded(
        {name: Ragged.joined(each.columns[name] for each in encodeds).take(order) for name in encodeds[0].columns},
        np.concatenate([encoded.truncated for encoded in encodeds])[order],
        text[order],
        {fact: Ragged.joined(encoded.facts[fact] for encoded in encodeds).take(order) for fact in encodeds[0].facts},
        failed,
    )
