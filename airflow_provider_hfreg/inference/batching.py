"""
Which sequences run together: pure decisions on lengths, no tensors.

The cost of a padded batch is its longest sequence times its count (as in text-embeddings-inference), so sequences are
sorted by length and cut where that product passes the token budget. A packed batch costs its tokens; there sorting puts
sequences of one length side by side, which attend in one call. Longest first: a budget too large for the device fails
on the first batch, not on the last.

Invariants, each a property in the tests: every position stands in exactly one batch; no batch of more than one sequence
costs more than the budget; a batch of one may, because it cannot be cut.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airflow_provider_hfreg.pipelines.base import IntArray


def cut_batches(
    lengths: IntArray,
    *,
    token_budget: int,
    new_tokens: int = 0,
    equal_lengths: bool = False,
    packed: bool = False,
    most_padding: int | None = None,
) -> list[IntArray]:
    """
    Return the positions of the sequences of each batch, longest batch first.

    :param lengths: tokens of each sequence.
    :param token_budget: bound of (longest + ``new_tokens``) × count.
    :param new_tokens: what each sequence may grow by while it runs (generation).
    :param equal_lengths: batch only sequences of one length, for models and settings that would see padding.
    :param packed: bound the sum of the lengths instead: there is no padding, and nothing grows.
    :param most_padding: tokens of padding that a sequence may need in a batch; with more, a batch of its own is
        cheaper. None: it never is.

    >>> [batch.tolist() for batch in cut_batches(np.array([3, 9, 4, 2]), token_budget=12)]
    [[1], [2, 0, 3]]
    >>> [batch.tolist() for batch in cut_batches(np.array([3, 9, 3, 2]), token_budget=12, equal_lengths=True)]
    [[1], [0, 2], [3]]
    >>> [batch.tolist() for batch in cut_batches(np.array([3, 9, 4, 2]), token_budget=12, packed=True)]
    [[1], [2, 0, 3]]
    >>> [batch.tolist() for batch in cut_batches(np.array([3, 9, 4, 2]), token_budget=99, most_padding=1)]
    [[1], [2, 0], [3]]
    """
    order = np.argsort(-lengths, kind="stable").astype(np.int64)
    descending = lengths[order]
    shortfall = -descending  # ascending, as a search needs it
    ends = np.cumsum(descending)
    batches = []
    start = 0
    while start < len(order):
        if packed:
            behind = int(np.searchsorted(ends, token_budget + ends[start] - descending[start], side="right"))
            batches.append(order[start : max(behind, start + 1)])
            start = max(behind, start + 1)
            continue
        longest = int(descending[start])
        count = max(1, token_budget // max(1, longest + new_tokens))
        padding = 0 if equal_lengths else most_padding
        if padding is not None:
            count = min(count, int(np.searchsorted(shortfall, padding - longest, side="right")) - start)
        batches.append(order[start : start + count])
        start += count
    return batches


def distinct_sequences(text: pa.StringArray, text_pair: pa.StringArray | None = None) -> tuple[IntArray, IntArray]:
    """
    Find equal sequences, so that each distinct one is run once.

    :return: positions of the first of each distinct sequence, ascending; and, for every sequence, which of those it is.

    >>> first, which = distinct_sequences(pa.array(["a", "b", "a"]), pa.array([None, None, ""]))
    >>> first.tolist(), which.tolist()
    ([0, 1, 2], [0, 1, 2])
    >>> first, which = distinct_sequences(pa.array(["a", "b", "a"]))
    >>> first.tolist(), which.tolist()
    ([0, 1], [0, 1, 0])
    """
    if len(text) == 1:
        return np.zeros(1, np.int64), np.zeros(1, np.int64)
    codes = _codes(text)
    if text_pair is not None:
        pair_codes = _codes(text_pair)
        codes = codes * (pair_codes.max(initial=0) + 1) + pair_codes
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    # np.unique orders by code; the sequences' own order keeps errors and logs in the order of the rows.
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return np.sort(first).astype(np.int64), rank[inverse]


def _codes(text: pa.StringArray) -> IntArray:
    """Number equal texts alike, from 1 in order of appearance; null is 0, which no text is."""
    indices = text.dictionary_encode().indices
    codes: IntArray = pc.fill_null(pc.add(indices.cast(pa.int64()), 1), 0).to_numpy(zero_copy_only=False)
    return codes
