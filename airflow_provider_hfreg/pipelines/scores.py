"""
Logits to scores and places to labels, as the pipelines of classification do: the same float32 operations in the same
order, so that equal logits give equal scores to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from airflow_provider_hfreg.signatures.rows import RowError

Scores = npt.NDArray[np.float32]


def softmax(logits: npt.NDArray[Any]) -> Scores:
    """
    Return shares along the last axis.

    >>> softmax(np.array([[0.0, 0.0], [1.0, np.inf]])).tolist()
    [[0.5, 0.5], [nan, nan]]
    """
    values: Scores = logits.astype(np.float32, copy=False)
    with np.errstate(over="ignore", invalid="ignore"):
        powers = np.exp(values - np.max(values, axis=-1, keepdims=True))
        shares: Scores = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def label_names(config: Mapping[str, Any], count: int) -> list[Any]:
    """
    Return the label of each place; a configuration from JSON has its ids as text.

    >>> label_names({"id2label": {"1": "B-PER"}}, 2)
    ['LABEL_0', 'B-PER']
    """
    names = {int(index): name for index, name in (config.get("id2label") or {}).items()}
    return [names.get(index, f"LABEL_{index}") for index in range(count)]


def not_a_number(rows: Sequence[int]) -> tuple[RowError, ...]:
    """Return an error for each row for which the model gave no numbers."""
    return tuple(RowError(row, "not_a_number", _NOT_A_NUMBER) for row in rows)


_NOT_A_NUMBER = (
    "the model gave no finite numbers for this text (NaN, or infinity): its weights may be damaged, or overflow in "
    "their dtype (float16 does where bfloat16 or float32 does not)"
)
