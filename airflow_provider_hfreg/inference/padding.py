"""
Ragged token ids to rectangular tensors.

The mask is made here and not asked of the tokenizer: it is all ones before padding. One assignment per column fills the
whole batch, so there is no loop over sequences or tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from airflow_provider_hfreg.inference.frameworks import torch
from airflow_provider_hfreg.inference.transfer import to_device
from airflow_provider_hfreg.pipelines.ragged import Ragged


def padded(
    columns: Mapping[str, Ragged],
    padding: Mapping[str, int],
    device: torch.device,
    *,
    side: Literal["left", "right"],
) -> dict[str, Any]:
    """
    Return the model inputs of a batch, ``attention_mask`` among them.

    :param columns: the inputs of each sequence, unpadded; ``input_ids`` is one of them.
    :param padding: what each input is filled up with; nought where it is not named.
    :param side: where the padding goes: left for what is continued, right for what counts its positions from the left.
    """
    mask = _mask(columns["input_ids"].lengths, side)
    arrays = {name: _rectangle(ragged.values, mask, padding.get(name, 0)) for name, ragged in columns.items()}
    arrays["attention_mask"] = mask.astype(np.int64)
    return {name: to_device(array, device) for name, array in arrays.items()}


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


def _rectangle(values: npt.NDArray[np.int64], mask: npt.NDArray[np.bool_], fill: int) -> npt.NDArray[np.int64]:
    """
    Put the values of all sequences where the mask has their tokens; a token of a table has several.

    >>> _rectangle(np.array([[1, 2], [3, 4], [5, 6]]), _mask(np.array([1, 2]), "right"), 0).tolist()
    [[[1, 2], [0, 0]], [[3, 4], [5, 6]]]
    """
    array = np.full((*mask.shape, *values.shape[1:]), fill, dtype=np.int64)
    array[mask] = values
    return array
