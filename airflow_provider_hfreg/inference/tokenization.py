"""
Texts to token ids: one call of the tokenizer's own batch encoding per window, without padding.

Padding is the batches' matter, which are cut by the true lengths found here. Sequences with and without a second text
are two calls, because a tokenizer takes pairs for all or for none, and "no pair" is not "an empty pair".
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from airflow_provider_hfreg.pipelines.base import IntArray

_UNBOUNDED = 10**9  # tokenizers without a limit say 10**30


@dataclass(frozen=True)
class Encoded:
    """
    Token ids of many sequences.

    :param columns: ``input_ids`` and the tokenizer's other model inputs, one list per sequence, unpadded; no mask.
    :param lengths: int64 [sequences], tokens of each.
    :param truncated: bool [sequences], whether the text was cut.
    """

    columns: Mapping[str, Sequence[Sequence[int]]]
    lengths: IntArray
    truncated: npt.NDArray[np.bool_]

    def keep_last(self, kept: IntArray) -> Encoded:
        """Return the sequences without their beginnings: the last ``kept`` tokens of each."""
        cut = kept < self.lengths
        if not cut.any():
            return self
        starts = (self.lengths - kept).tolist()
        columns = {
            name: [ids[start:] for ids, start in zip(values, starts, strict=True)]
            for name, values in self.columns.items()
        }
        return Encoded(columns, kept, self.truncated | cut)


def encode(
    tokenizer: Any,
    text: pa.StringArray,
    text_pair: pa.StringArray | None,
    encoding: Mapping[str, Any],
    *,
    limit: int | None,
) -> Encoded:
    """
    Encode sequences in their order.

    :param encoding: the task's keyword arguments for the tokenizer.
    :param limit: tokens that the model can read, used where ``truncation`` is asked for without ``max_length``.
    """
    arguments = {name: value for name, value in encoding.items() if name not in ("padding", "return_tensors")}
    if arguments.get("truncation") and arguments.get("max_length") is None and limit is not None:
        arguments["max_length"] = limit
    texts = text.to_pylist()
    if text_pair is None or text_pair.null_count == len(texts):
        return _encode_alike(tokenizer, texts, None, arguments)
    pairs = text_pair.to_pylist()
    single = [index for index, pair in enumerate(pairs) if pair is None]
    paired = [index for index, pair in enumerate(pairs) if pair is not None]
    return _interleaved(
        (single, _encode_alike(tokenizer, [texts[index] for index in single], None, arguments)),
        (paired, _encode_alike(tokenizer, [texts[index] for index in paired], [pairs[i] for i in paired], arguments)),
    )


def token_limit(tokenizer: Any, positions: int | None) -> int | None:
    """
    Return how many tokens a text may have: the tokenizer's limit or the network's table of positions, the lesser.

    :param positions: of the network; None where it has no such table.
    """
    limits = [limit for limit in (tokenizer.model_max_length, positions) if limit is not None and limit < _UNBOUNDED]
    return min(limits, default=None)


def _encode_alike(tokenizer: Any, texts: list[str], pairs: list[str] | None, arguments: Mapping[str, Any]) -> Encoded:
    if not texts:
        return Encoded({"input_ids": []}, np.empty(0, np.int64), np.empty(0, np.bool_))
    encoding = tokenizer(texts, pairs, padding=False, return_attention_mask=False, **arguments)
    columns = {name: encoding[name] for name in encoding if name in {"input_ids", *tokenizer.model_input_names}}
    return Encoded(
        columns,
        np.fromiter((len(ids) for ids in columns["input_ids"]), np.int64, len(texts)),
        np.array(_truncated(tokenizer, encoding, texts, pairs, arguments), np.bool_),
    )


def _truncated(
    tokenizer: Any, encoding: Any, texts: list[str], pairs: list[str] | None, arguments: Mapping[str, Any]
) -> list[bool]:
    longest = arguments.get("max_length")
    if not arguments.get("truncation") or longest is None:
        return [False] * len(texts)
    full = [len(ids) >= longest for ids in encoding["input_ids"]]
    if getattr(tokenizer, "is_fast", False):
        return [bool(cut and encoding.encodings[index].overflowing) for index, cut in enumerate(full)]
    # A slow tokenizer tells nothing about what it cut: those of full length are encoded once more, whole.
    whole = {**arguments, "truncation": False, "max_length": None}
    seconds = itertools.repeat(None) if pairs is None else pairs
    return [
        cut and len(tokenizer(text, pair, **whole)["input_ids"]) > longest
        for cut, text, pair in zip(full, texts, seconds, strict=False)
    ]


def _interleaved(*parts: tuple[list[int], Encoded]) -> Encoded:
    """Put the sequences of two calls back into one order; both gave the same inputs, being of one tokenizer."""
    order = np.argsort(np.concatenate([np.array(indices, np.int64) for indices, _ in parts]))
    present = [encoded for indices, encoded in parts if indices]
    columns = {name: [ids for encoded in present for ids in encoded.columns[name]] for name in present[0].columns}
    return Encoded(
        {name: [values[index] for index in order] for name, values in columns.items()},
        np.concatenate([encoded.lengths for encoded in present])[order],
        np.concatenate([encoded.truncated for encoded in present])[order],
    )
