"""
Ragged token ids to rectangular tensors.

The mask is made here and not asked of the tokenizer: it is all ones before padding. One assignment per column fills the
whole batch, so there is no loop over sequences.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from airflow_provider_hfreg.inference.frameworks import torch


def padded(
    columns: Mapping[str, Sequence[Sequence[Any]]],
    tokenizer: Any,
    device: torch.device,
    *,
    side: Literal["left", "right"],
) -> dict[str, Any]:
    """
    Return the model inputs of a batch, ``attention_mask`` among them.

    :param columns: one unpadded list per sequence and input; ``input_ids`` is one of them.
    :param side: where the padding goes: left for what is continued, right for what counts its positions from the left.
    """
    lengths = np.fromiter((len(ids) for ids in columns["input_ids"]), np.int64, len(columns["input_ids"]))
    mask = _mask(lengths, side)
    fill = {"input_ids": tokenizer.pad_token_id or 0, "token_type_ids": getattr(tokenizer, "pad_token_type_id", 0)}
    arrays = {name: _rectangle(values, mask, fill.get(name, 0)) for name, values in columns.items()}
    arrays["attention_mask"] = mask.astype(np.int64)
    return {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}


def _mask(lengths: npt.NDArray[np.int64], side: Literal["left", "right"]) -> npt.NDArray[np.bool_]:
    """
    Tell which places hold a token.

    >>> _mask(np.array([1, 2]), "left").astype(int).tolist()
    [[0, 1], [1, 1]]
    """
    width = int(lengths.max(initial=0))
    places = np.arange(width)
    mask: npt.NDArray[np.bool_] = places < lengths[:, None] if side == "right" else places >= width - lengths[:, None]
    return mask


def _rectangle(values: Sequence[Sequence[Any]], mask: npt.NDArray[np.bool_], fill: int) -> npt.NDArray[np.int64]:
    """
    Put the values of each sequence where the mask has its tokens; a token of a table has several.

    >>> _rectangle([[[1, 2]], [[3, 4], [5, 6]]], _mask(np.array([1, 2]), "right"), 0).tolist()
    [[[1, 2], [0, 0]], [[3, 4], [5, 6]]]
    """
    flat = itertools.chain.from_iterable(values)
    several = isinstance(next((of_token for tokens in values for of_token in tokens), 0), list)
    numbers = np.array(list(flat), np.int64) if several else np.fromiter(flat, np.int64, int(mask.sum()))
    array = np.full((*mask.shape, *numbers.shape[1:]), fill, dtype=np.int64)
    array[mask] = numbers
    return array
