"""
The likeliest spans of tokens, from how likely each token begins and ends one: all sequences of a window together.

A span is as likely as its first and its last token are. The pipeline forms every pair of a sequence's tokens, L × L;
here only those that are no longer than an answer may be, and of the beginnings only those that can be among the best.

Where that decides without doubt (the best differ by more than rounding does), it gives what the pipeline gives.
Where it does not (ties, fewer spans than asked for), the pipeline's own computation is done for that one sequence, so
that order and choice among equals are its own, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from airflow_provider_hfreg.pipelines.base import IntArray
from airflow_provider_hfreg.pipelines.ragged import Ragged
from airflow_provider_hfreg.pipelines.scores import Scores

BoolArray = npt.NDArray[np.bool_]

_EXCLUDED = np.float32(-10_000)  # the logit of a token that is no part of an answer, as the pipeline sets it
_DOUBT = np.float32(1 + 1e-5)
_BLOCK = 2_048  # sequences in one rectangle


@dataclass(frozen=True)
class SpanLogits:
    """
    What the model says about the tokens of a window's sequences.

    :param start: float32, a logit per token; ``end`` likewise.
    :param allowed: bool [tokens]: part of an answer.
    """

    start: Ragged
    end: Ragged
    allowed: BoolArray

    def __len__(self) -> int:
        return len(self.start)

    def take(self, sequences: IntArray) -> SpanLogits:
        """Return some sequences."""
        allowed = self.start.with_values(self.allowed).take(sequences).values
        return SpanLogits(self.start.take(sequences), self.end.take(sequences), allowed)


@dataclass(frozen=True)
class BestSpans:
    """
    Spans by sequence, within a sequence best first.

    :param first: int64 [spans]: the place of the first token in its sequence; ``last`` of the last one.
    """

    sequence: IntArray
    first: IntArray
    last: IntArray
    score: Scores


def best_spans(logits: SpanLogits, *, count: int, longest: int) -> tuple[BestSpans, Scores]:
    """
    Return the best spans of allowed tokens, and how likely each sequence has none.

    The first token of a sequence stands for "no answer" and is part of none.

    :param count: spans per sequence.
    :param longest: tokens of a span.
    :return: the spans; and float32 [sequences].
    """
    if not len(logits):
        none = np.empty(0, np.int64)
        return BestSpans(none, none, none, np.empty(0, np.float32)), np.empty(0, np.float32)
    parts = [
        _of_block(logits.take(block), count, longest)
        for block in np.split(np.arange(len(logits)), range(_BLOCK, len(logits), _BLOCK))
    ]
    sequence = np.concatenate([part.sequence + number * _BLOCK for number, (part, _) in enumerate(parts)])
    spans = BestSpans(
        sequence, *(np.concatenate([getattr(part, name) for part, _ in parts]) for name in ("first", "last", "score"))
    )
    return spans, np.concatenate([none for _, none in parts])


def _of_block(logits: SpanLogits, count: int, longest: int) -> tuple[BestSpans, Scores]:
    start, end = _shares(logits.start, logits.allowed), _shares(logits.end, logits.allowed)
    none = start[:, 0] * end[:, 0]
    start[:, :1] = end[:, :1] = 0
    first, last, score = _in_band(start, end, count, longest)
    clear = _is_clear(score, count)
    doubtful = [
        _in_all(logits.take(np.array([place])), place, count, longest) for place in np.flatnonzero(~clear).tolist()
    ]
    certain = BestSpans(
        np.repeat(np.flatnonzero(clear), count),
        first[clear, :count].ravel(),
        last[clear, :count].ravel(),
        score[clear, :count].ravel(),
    )
    return _allowed(_in_order([certain, *doubtful]), logits), none


def _shares(logits: Ragged, allowed: BoolArray) -> Scores:
    """Return the softmax of each sequence as a row, zeros behind it."""
    there = np.arange(logits.lengths.max(initial=0)) < logits.lengths[:, None]
    values = np.full(there.shape, -np.inf, np.float32)
    values[there] = np.where(allowed, logits.values, _EXCLUDED)
    with np.errstate(invalid="ignore"):
        powers = np.exp(values - values.max(axis=-1, keepdims=True, initial=-np.inf))
        shares: Scores = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def _in_band(start: Scores, end: Scores, count: int, longest: int) -> tuple[IntArray, IntArray, Scores]:
    """
    Return the ``count + 1`` best spans per row, best first; fewer columns where there are fewer.

    :param start: [sequences, tokens]; ``end`` likewise.
    """
    rows, width = start.shape
    band = min(longest, width)
    highest = np.zeros_like(start)
    for distance in range(band):
        within = highest[:, : width - distance]
        np.maximum(within, start[:, : width - distance] * end[:, distance:], out=within)
    # Each of the best spans begins where the best span is among the best: no more beginnings are needed than spans.
    first = _highest(highest, count + 1)
    last = first[:, :, None] + np.arange(band)
    behind = np.pad(end, ((0, 0), (0, band)))
    every = np.arange(rows)[:, None]
    scores = (start[every, first][:, :, None] * behind[every[:, :, None], last]).reshape(rows, -1)
    best = _highest(scores, count + 1)
    score = scores[every, best]
    return first[every, best // band], last.reshape(rows, -1)[every, best], score


def _highest(values: Scores, count: int) -> IntArray:
    """Return the places of the highest values of each row, highest first."""
    every = np.arange(len(values))[:, None]
    places = np.argpartition(-values, count - 1, axis=-1)[:, :count] if count < values.shape[1] else None
    if places is None:
        places = np.broadcast_to(np.arange(values.shape[1]), values.shape)
    order: IntArray = places[every, np.argsort(-values[every, places], axis=-1, kind="stable")]
    return order


def _is_clear(score: Scores, count: int) -> BoolArray:
    """Tell the rows of which the first ``count`` differ, and the next one is less."""
    if score.shape[1] <= count:
        return np.zeros(len(score), np.bool_)
    clear: BoolArray = np.all(score[:, :-1] > score[:, 1:] * _DOUBT, axis=-1)
    return clear


def _in_all(logits: SpanLogits, sequence: int, count: int, longest: int) -> BestSpans:
    """Return the best spans of one sequence, as the pipeline finds them among all pairs of its tokens."""
    start, end = _shares(logits.start, logits.allowed)[0], _shares(logits.end, logits.allowed)[0]
    start[:1] = end[:1] = 0
    candidates = np.tril(np.triu(start[:, None] * end[None, :]), longest - 1)
    scores = candidates.ravel()
    if count == 1:
        best = scores.argmax(keepdims=True)
    elif len(scores) < count:
        best = np.argsort(-scores)
    else:
        some = np.argpartition(-scores, min(count, len(scores) - 1))[:count]
        best = some[np.argsort(-scores[some])]
    first, last = np.unravel_index(best, candidates.shape)
    return BestSpans(np.full(len(best), sequence), first, last, scores[best])


def _in_order(parts: list[BestSpans]) -> BestSpans:
    """Put the spans of several parts into the order of their sequences."""
    joined = [
        np.concatenate([getattr(part, name) for part in parts]) for name in ("sequence", "first", "last", "score")
    ]
    order = np.argsort(joined[0], kind="stable")
    return BestSpans(*(values[order] for values in joined))


def _allowed(spans: BestSpans, logits: SpanLogits) -> BestSpans:
    """Leave out spans that begin or end where no answer may be; the first token of a sequence always may for that."""
    begins = logits.start.offsets[:-1]
    allowed = logits.allowed.copy()
    allowed[begins] |= np.logical_or.reduceat(logits.allowed, begins)
    begin = begins[spans.sequence]
    kept = allowed[begin + spans.first] & allowed[begin + spans.last]
    return BestSpans(spans.sequence[kept], spans.first[kept], spans.last[kept], spans.score[kept])
