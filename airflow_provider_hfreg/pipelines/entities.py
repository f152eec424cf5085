"""
Labelled tokens to entities, over all texts of a window at once: the aggregation strategies of token classification.

Three steps, each a whole-array one. Tokens become *units*: themselves, or whole words whose tokens agree on one label
(``first``, ``average``, ``max``). Units of one tag that follow each other become entities, a ``B-`` always beginning a
new one. Where a long text was read in overlapping sequences, of overlapping entities the longest stays.

The module knows no tokenizer and no text; ties go as in transformers (the first label, the first token, the earlier
entity).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from airflow_provider_hfreg.pipelines.base import IntArray
from airflow_provider_hfreg.pipelines.scores import Scores

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Spans:
    """
    Runs of tokens that have one label: tokens themselves, words or entities.

    :param first: int64 [spans], ascending: the first token of each.
    :param last: int64 [spans]: its last token.
    :param label: int64 [spans].
    :param score: float32 [spans].
    """

    first: IntArray
    last: IntArray
    label: IntArray
    score: Scores

    def __len__(self) -> int:
        return len(self.first)

    def take(self, places: IntArray | BoolArray) -> Spans:
        """Return some of them."""
        return Spans(self.first[places], self.last[places], self.label[places], self.score[places])


def tokens_as_spans(scores: Scores) -> Spans:
    """
    Return each token with its best label.

    :param scores: [tokens, labels].
    """
    every = np.arange(len(scores), dtype=np.int64)
    label = _best(scores)
    return Spans(every, every, label, scores[every, label])


def words_as_spans(scores: Scores, starts_word: BoolArray, strategy: str) -> Spans:
    """
    Return each word with the label that its tokens agree on.

    :param starts_word: bool [tokens]; the first is True.
    :param strategy: ``first``: the first token's; ``max``: that of the token with the highest score; ``average``: the
        best of the mean scores.
    """
    first = np.flatnonzero(starts_word)
    count = np.diff(np.append(first, len(scores)))
    judged: Scores = scores[_highest(scores, first, count) if strategy == "max" else first]
    if strategy == "average" and len(first):
        judged = _means(scores, first, count)
    label = _best(judged)
    return Spans(first, first + count - 1, label, judged[np.arange(len(first)), label])


def grouped(units: Spans, starts_sequence: BoolArray, labels: Sequence[str]) -> Spans:
    """
    Join units that follow each other under one tag; the score of an entity is the mean of its units' scores.

    >>> units = tokens_as_spans(np.eye(3, dtype=np.float32)[[0, 1, 2, 2, 1]])
    >>> entities = grouped(units, np.zeros(5, bool), ["O", "B-LOC", "I-LOC"])
    >>> entities.first.tolist(), entities.last.tolist(), entities.label.tolist()
    ([0, 1, 4], [0, 3, 4], [0, 1, 1])

    :param starts_sequence: bool [units]: the unit is the first of its sequence.
    """
    tags = [label[2:] if label.startswith(("B-", "I-")) else label for label in labels]
    tag = np.array([tags.index(name) for name in tags], np.int64)[units.label]
    begins = np.array([label.startswith("B-") for label in labels], np.bool_)[units.label]
    new = starts_sequence | begins
    new[1:] |= tag[1:] != tag[:-1]
    new[:1] = True
    first = np.flatnonzero(new)
    count = np.diff(np.append(first, len(units)))
    score = _means(units.score, first, count)
    return Spans(units.first[first], units.last[first + count - 1], units.label[first], score)


def without_overlaps(start: IntArray, end: IntArray, score: Scores) -> list[int]:
    """
    Return which entities of one text stay, by ascending start: of overlapping ones the longest, then the likeliest.

    >>> without_overlaps(np.array([0, 4, 5, 9]), np.array([3, 6, 9, 10]), np.array([1, 1, 1, 1], np.float32))
    [0, 2, 3]

    :param start: int64 [entities]: the first character of each; ``end`` the one after its last.
    """
    order = np.argsort(start, kind="stable").tolist()
    starts, ends, scores = start.tolist(), end.tolist(), score.tolist()
    stay = []
    previous = order[0]
    for entity in order:
        if not starts[previous] <= starts[entity] < ends[previous]:
            stay.append(previous)
            previous = entity
            continue
        longer = (ends[entity] - starts[entity]) - (ends[previous] - starts[previous])
        if longer > 0 or (longer == 0 and scores[entity] > scores[previous]):
            previous = entity
    return [*stay, previous]


def _means(values: Scores, first: IntArray, count: IntArray) -> Scores:
    """
    Return the mean of each run of ``values``, summed from the first to the last, in float32.

    ``np.add.reduceat`` adds the first to the sum of the others. Where two labels are equally likely but for that
    rounding, another label would win than the one that the pipeline names.

    :param values: float32 [tokens] or [tokens, labels].
    """
    total = values[first]
    for place in range(1, count.max(initial=0)):
        longer = np.flatnonzero(count > place)
        total[longer] += values[first[longer] + place]
    means: Scores = (total / count.reshape(-1, *[1] * (values.ndim - 1))).astype(np.float32)
    return means


def _best(scores: Scores) -> IntArray:
    best: IntArray = scores.argmax(axis=-1) if len(scores) else np.empty(0, np.int64)
    return best


def _highest(scores: Scores, first: IntArray, count: IntArray) -> IntArray:
    """Return, for each word, its first token with the highest score."""
    if not len(first):
        return first
    best = scores.max(axis=-1)
    word = np.repeat(np.arange(len(first)), count)
    highest = np.flatnonzero(best == np.maximum.reduceat(best, first)[word])
    chosen: IntArray = highest[np.unique(word[highest], return_index=True)[1]]
    return chosen
