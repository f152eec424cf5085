"""
Sequences of different lengths in one flat array: what a model gives per token, without padding and without objects.

``values`` holds the values of all sequences end to end, ``offsets`` where each begins; a sequence may have none. All
operations are whole-array ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Ragged:
    """
    Values per sequence.

    :param values: [values of all sequences, …].
    :param offsets: int64 [sequences + 1]: the sequence ``i`` holds those from ``offsets[i]`` up to ``offsets[i + 1]``.
    """

    values: npt.NDArray[Any]
    offsets: IntArray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> IntArray:
        """Return how many values each sequence has."""
        return np.diff(self.offsets)

    @property
    def sequence(self) -> IntArray:
        """
        Return the sequence of each value.

        >>> Ragged.of([3, 0, 1], np.array([7, 8, 9, 7])).sequence.tolist()
        [0, 0, 0, 2]
        """
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths)

    @property
    def place(self) -> IntArray:
        """
        Return the place of each value in its sequence.

        >>> Ragged.of([3, 0, 1], np.array([7, 8, 9, 7])).place.tolist()
        [0, 1, 2, 0]
        """
        return np.arange(self.offsets[-1], dtype=np.int64) - np.repeat(self.offsets[:-1], self.lengths)

    def take(self, sequences: IntArray) -> Ragged:
        """
        Return some sequences, in the order given; one may be taken more than once.

        >>> taken = Ragged.of([2, 1], np.array([7, 8, 9])).take(np.array([1, 0, 1]))
        >>> taken.values.tolist(), taken.lengths.tolist()
        ([9, 7, 8, 9], [1, 2, 1])
        """
        if np.array_equal(sequences, np.arange(len(self))):
            return self  # which one row is, and all rows of a window without duplicates
        taken = Ragged.of(self.lengths[sequences], np.empty(0))
        places = np.repeat(self.offsets[:-1][sequences], taken.lengths) + taken.place
        return Ragged(self.values[places], taken.offsets)

    def where(self, kept: npt.NDArray[np.bool_]) -> Ragged:
        """
        Return the values for which ``kept`` holds.

        >>> some = Ragged.of([2, 1], np.array([7, 8, 9])).where(np.array([True, False, False]))
        >>> some.values.tolist(), some.lengths.tolist()
        ([7], [1, 0])
        """
        before = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept, dtype=np.int64)])
        return Ragged(self.values[kept], before[self.offsets])

    def last(self, kept: IntArray) -> Ragged:
        """
        Return the last values of each sequence, no more than so many.

        >>> Ragged.of([3, 1], np.array([7, 8, 9, 7])).last(np.array([2, 2])).values.tolist()
        [8, 9, 7]
        """
        return self.where(self.place >= np.repeat(self.lengths - kept, self.lengths))

    def with_values(self, values: npt.NDArray[Any]) -> Ragged:
        """Return other values of the same sequences."""
        return Ragged(values, self.offsets)

    @staticmethod
    def of(lengths: Sequence[int] | IntArray, values: npt.NDArray[Any]) -> Ragged:
        """Return values whose sequences have these lengths."""
        offsets = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        return Ragged(values, offsets)

    @staticmethod
    def of_lists(lists: Sequence[Sequence[Any]]) -> Ragged:
        """
        Return whole numbers that stand in one list per sequence, each of them or as many together.

        >>> Ragged.of_lists([[5, 6], [], [7]]).values.tolist()
        [5, 6, 7]
        >>> Ragged.of_lists([[[5, 6]], [[7, 8], [9, 9]]]).values.tolist()
        [[5, 6], [7, 8], [9, 9]]
        """
        lengths = [len(values) for values in lists]
        flat = itertools.chain.from_iterable(lists)
        first = next((value for values in lists for value in values), 0)
        if isinstance(first, Sequence):
            return Ragged.of(lengths, np.array(list(flat), np.int64))
        return Ragged.of(lengths, np.fromiter(flat, np.int64, sum(lengths)))

    def lists(self) -> list[list[Any]]:
        """
        Return one list of plain numbers per sequence.

        >>> Ragged.of([2, 0], np.array([5, 6])).lists()
        [[5, 6], []]
        """
        values = self.values.tolist()
        return [values[start:end] for start, end in itertools.pairwise(self.offsets.tolist())]

    @staticmethod
    def joined(parts: Iterable[Ragged]) -> Ragged:
        """Return the sequences of all parts, one part after the other; there is at least one."""
        present = list(parts)
        return Ragged.of(
            np.concatenate([part.lengths for part in present]), np.concatenate([part.values for part in present])
        )
