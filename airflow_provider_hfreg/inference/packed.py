"""
The packed layout: the sequences of a batch in one row, end to end, and an attention that keeps them apart.

The attention is registered with transformers under :data:`PACKED`, by its public ``AttentionInterface``; a network that
is switched to it hands it queries, keys and values of the whole row, and the lengths that :func:`end_to_end` put among
its inputs. Sequences of one length run together, so that many short ones are few calls. Sorted batches hold them side
by side.

**Silently wrong in a network that does not ask the interface, has windows or biases of its own, or drops the lengths**
(DeBERTa, MPNet, ModernBERT; every encoder of 4.57). Which may be switched, and how that is proven for each one that is
loaded, is the matter of :mod:`.fitting`; nothing here decides it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from airflow_provider_hfreg.inference.frameworks import torch, transformers
from airflow_provider_hfreg.pipelines.ragged import Ragged

PACKED = "hfreg_packed"
_RUNS = "hfreg_runs"


def end_to_end(columns: Mapping[str, Ragged], network: Any) -> dict[str, Any]:
    """
    Return the model inputs of a batch: of each one row of all tokens, the position of each, and how they are cut.

    :param columns: the inputs of each sequence, unpadded; ``input_ids`` is one of them.
    :param network: switched to :data:`PACKED`; its table of positions says from where it counts.
    """
    lengths = columns["input_ids"].lengths
    flat = {name: ragged.values for name, ragged in columns.items()}
    flat["position_ids"] = _positions(flat["input_ids"], lengths, _position_padding(network))
    inputs: dict[str, Any] = {name: torch.from_numpy(values)[None].to(network.device) for name, values in flat.items()}
    return {**inputs, _RUNS: runs_of(lengths)}


def runs_of(lengths: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """
    Return the runs of equal lengths as (length, count).

    >>> runs_of(np.array([5, 5, 2, 5]))
    [(5, 2), (2, 1), (5, 1)]
    """
    starts = np.flatnonzero(np.diff(lengths, prepend=-1))
    counts = np.diff(starts, append=len(lengths))
    return list(zip(lengths[starts].tolist(), counts.tolist(), strict=True))


def _position_padding(network: Any) -> int | None:
    """Return the padding's place in the table of positions, where the network counts from the one after it."""
    embeddings = getattr(network.base_model, "embeddings", None)
    place: int | None = getattr(getattr(embeddings, "position_embeddings", None), "padding_idx", None)
    return place


def _positions(
    ids: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], padding: int | None
) -> npt.NDArray[np.int64]:
    """
    Return the position of each token in its sequence, as the network counts them by itself.

    >>> _positions(np.array([7, 8, 9]), np.array([2, 1]), None).tolist()
    [0, 1, 0]
    >>> _positions(np.array([7, 1, 8, 9]), np.array([3, 1]), 1).tolist()  # RoBERTa: a text may spell its pad token
    [2, 1, 3, 2]
    """
    starts = np.cumsum(lengths) - lengths
    if padding is None:
        place: npt.NDArray[np.int64] = np.arange(len(ids)) - np.repeat(starts, lengths)
        return place
    counted = ids != padding
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(counted, dtype=np.int64)])
    positions: npt.NDArray[np.int64] = (before[1:] - np.repeat(before[starts], lengths)) * counted + padding
    return positions


def attend(  # noqa: PLR0917  transformers' signature
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    scaling: float | None = None,
    **given: Any,
) -> tuple[torch.Tensor, None]:
    """
    Let each sequence of the row attend to itself; without the lengths, compute what ``sdpa`` does.

    :param query: [1, heads, tokens, size], as ``key`` and ``value``.
    :return: [1, tokens, heads, size].
    """
    if _RUNS not in given:
        plain = transformers.AttentionInterface()["sdpa"]
        attended: tuple[torch.Tensor, None] = plain(module, query, key, value, attention_mask, scaling=scaling, **given)
        return attended
    parts = []
    start = 0
    for length, count in given[_RUNS]:
        end = start + length * count
        of_run = [states[0, :, start:end] for states in (query, key, value)]
        q, k, v = (states.reshape(len(states), count, length, -1).transpose(0, 1) for states in of_run)
        run = torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=scaling)
        parts.append(run.transpose(1, 2).flatten(0, 1))
        start = end
    return torch.cat(parts)[None], None


def register() -> None:
    """
    Make :data:`PACKED` known to transformers; again makes no difference.

    With the mask of ``sdpa``: whoever calls a switched network by himself, with padding, gets what he would have got.
    """
    transformers.AttentionInterface.register(PACKED, attend)
    transformers.AttentionMaskInterface.register(PACKED, transformers.AttentionMaskInterface()["sdpa"])
