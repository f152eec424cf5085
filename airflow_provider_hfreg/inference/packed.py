"""
The packed layout: the sequences of a batch in one row, end to end, and an attention that keeps them apart.

The attention is registered with transformers under :data:`PACKED`, by its public ``AttentionInterface``; a network that
is switched to it hands it queries, keys and values of the whole row, and the lengths that :func:`end_to_end` put among
its inputs. On the CPU, sequences of one length run together, so that many short ones are few calls; sorted batches hold
them side by side. On a GPU each call is a launch, and a batch has hundreds of lengths: there a kernel of torch's takes
all of them at once, in the numbers that it knows (:func:`find_way`).

**Silently wrong in a network that does not ask the interface, has windows or biases of its own, or drops the lengths**
(DeBERTa, MPNet, ModernBERT; every encoder of 4.57). Which may be switched, and how that is proven for each one that is
loaded, is the matter of :mod:`.fitting`; nothing here decides it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from airflow_provider_hfreg.inference.frameworks import torch, transformers
from airflow_provider_hfreg.inference.transfer import to_device
from airflow_provider_hfreg.pipelines.ragged import Ragged

PACKED = "hfreg_packed"
CUT = "hfreg_cut"
_LARGEST_HEAD = 256  # that the kernel takes
_HEAD_STEP = 8  # it takes multiples of
_KERNEL_CAPABILITY = (8, 0)  # of a GPU, that the kernel needs


class Way(Enum):
    """How the sequences of a row attend to themselves."""

    RUNS = "run by run"
    KERNEL = "all at once"


@dataclass(frozen=True)
class Cut:
    """
    Where a row is cut.

    :param runs: of equal lengths, as :func:`runs_of` gives them.
    :param starts: int32 [sequences + 1], on the device: where each begins, and the end; None where the runs do.
    :param longest: tokens of the longest sequence.
    """

    runs: Sequence[tuple[int, int]]
    starts: torch.Tensor | None = None
    longest: int = 0


def find_way(device: str, dtype: torch.dtype, head_size: int, *, has_kernel: bool) -> Way | None:
    """
    Return the way to be tried, None where padding is the better one.

    On a GPU in float32, where the kernel cannot be, a launch for each of some hundred lengths in every layer would take
    longer than the padding of a sorted batch. (A judgement: nothing of it has been measured.)

    >>> find_way("cpu", torch.float32, 64, has_kernel=False)
    <Way.RUNS: 'run by run'>
    >>> find_way("cuda", torch.bfloat16, 64, has_kernel=True)
    <Way.KERNEL: 'all at once'>
    >>> find_way("cuda", torch.float32, 64, has_kernel=True) is None
    True

    :param device: its type.
    :param head_size: numbers of a token in one head.
    :param has_kernel: as :func:`has_kernel` tells.
    """
    if device == "cpu":
        return Way.RUNS
    fits = dtype in {torch.float16, torch.bfloat16} and head_size % _HEAD_STEP == 0 and head_size <= _LARGEST_HEAD
    return Way.KERNEL if device == "cuda" and has_kernel and fits else None


@functools.cache
def find_kernel() -> Callable[..., Any] | None:
    """Return torch's attention for sequences of all lengths; None where it has none, or one that takes no scale."""
    try:
        from torch.nn.attention.varlen import varlen_attn  # of no use without a GPU
    except ImportError:
        return None
    kernel: Callable[..., Any] = varlen_attn
    return kernel if "scale" in inspect.signature(kernel).parameters else None


def has_kernel(device: torch.device) -> bool:
    """Tell whether torch has the kernel, and the device can run it."""
    return (
        device.type == "cuda"
        and find_kernel() is not None
        and torch.cuda.get_device_capability(device) >= _KERNEL_CAPABILITY
    )


def end_to_end(columns: Mapping[str, Ragged], network: Any, way: Way = Way.RUNS) -> dict[str, Any]:
    """
    Return the model inputs of a batch: of each one row of all tokens, the position of each, and how they are cut.

    :param columns: the inputs of each sequence, unpadded; ``input_ids`` is one of them.
    :param network: switched to :data:`PACKED`; its table of positions says from where it counts.
    """
    lengths = columns["input_ids"].lengths
    flat = {name: ragged.values for name, ragged in columns.items()}
    flat["position_ids"] = _positions(flat["input_ids"], lengths, _position_padding(network))
    inputs: dict[str, Any] = {name: to_device(values[None], network.device) for name, values in flat.items()}
    return {**inputs, CUT: cut_of(lengths, way, network.device)}


def cut_of(lengths: npt.NDArray[np.int64], way: Way, device: torch.device) -> Cut:
    """
    Return how a row of sequences of these lengths is cut.

    One small copy to the device for a batch, however many layers read it.

    >>> cut_of(np.array([5, 5, 2]), Way.KERNEL, torch.device("cpu")).starts.tolist()
    [0, 5, 10, 12]
    """
    if way is Way.RUNS:
        return Cut(runs_of(lengths))
    starts = np.concatenate([np.zeros(1, np.int32), np.cumsum(lengths, dtype=np.int32)])
    return Cut((), to_device(starts, device), int(lengths.max(initial=0)))


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
    cut: Cut | None = given.get(CUT)
    if cut is None:
        plain = transformers.AttentionInterface()["sdpa"]
        attended: tuple[torch.Tensor, None] = plain(module, query, key, value, attention_mask, scaling=scaling, **given)
        return attended
    if cut.starts is not None:
        return _all_at_once(query, key, value, cut, scaling), None
    parts = []
    start = 0
    for length, count in cut.runs:
        end = start + length * count
        of_run = [states[0, :, start:end] for states in (query, key, value)]
        q, k, v = (states.reshape(len(states), count, length, -1).transpose(0, 1) for states in of_run)
        run = torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=scaling)
        parts.append(run.transpose(1, 2).flatten(0, 1))
        start = end
    return torch.cat(parts)[None], None


def _all_at_once(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, cut: Cut, scaling: float | None
) -> torch.Tensor:
    kernel = find_kernel()
    if kernel is None:
        raise RuntimeError("this torch has no attention for sequences of all lengths")
    q, k, v = (states[0].transpose(0, 1) for states in (query, key, value))  # [tokens, heads, size]
    attended: torch.Tensor = kernel(q, k, v, cut.starts, cut.starts, cut.longest, cut.longest, scale=scaling)
    return attended[None]


def register() -> None:
    """
    Make :data:`PACKED` known to transformers; again makes no difference.

    With the mask of ``sdpa``: whoever calls a switched network by himself, with padding, gets what he would have got.
    """
    transformers.AttentionInterface.register(PACKED, attend)
    transformers.AttentionMaskInterface.register(PACKED, transformers.AttentionMaskInterface()["sdpa"])
