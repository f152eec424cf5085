"""
From main memory to the device: the one place that copies there.

What is decided on numbers (which rows stay, how long the longest is) is decided in main memory, where they are known:
asking a GPU for one would wait for all that it has been given to do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from airflow_provider_hfreg.inference.frameworks import torch


def to_device(values: npt.NDArray[np.generic], device: torch.device) -> torch.Tensor:
    """
    Return an array as a tensor on the device.

    On the CPU they share memory. To a GPU it is copied by way of pinned memory, beside what both are doing: the copy is
    there before whatever the caller asks of the tensor, and the pinned memory is kept until it was read.
    """
    tensor = torch.from_numpy(values)
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


class Lengths:
    """
    How many tokens each row has: in main memory, where sizes are decided, and on the device, where masks are made.

    >>> lengths = Lengths.of([4, 2, 3], torch.device("cpu")).plus(1)
    >>> lengths.longest, lengths.shortest, lengths.there.tolist(), len(lengths)
    (5, 3, [5, 3, 4], 3)
    >>> lengths.at([2, 0]).and_those_of(lengths.at(slice(1, 2))).here.tolist()
    [4, 5, 3]
    """

    def __init__(self, here: npt.NDArray[np.int64], there: torch.Tensor) -> None:
        self.here, self.there = here, there

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> Lengths:
        """Return lengths that are known in main memory."""
        here = np.array(lengths, np.int64)
        return cls(here, to_device(here, device))

    @classmethod
    def counted(cls, mask: torch.Tensor) -> Lengths:
        """Return how many tokens each row of a mask has; waits for the device."""
        there = mask.sum(dim=1)
        return cls(there.cpu().numpy(), there)

    def __len__(self) -> int:
        return len(self.here)

    @property
    def longest(self) -> int:
        """The most tokens that a row has; 0 without any row."""
        return int(self.here.max(initial=0))

    @property
    def shortest(self) -> int:
        """The fewest tokens that a row has; there is one."""
        return int(self.here.min())

    def at(self, rows: slice | Sequence[int]) -> Lengths:
        """Return those of some rows."""
        if isinstance(rows, slice):
            return Lengths(self.here[rows], self.there[rows])
        return Lengths(self.here[rows], self.there[index_of(rows, self.there.device)])

    def plus(self, count: int) -> Lengths:
        """Return the lengths of rows that each got so many tokens more."""
        return Lengths(self.here + count, self.there + count)

    def and_those_of(self, others: Lengths) -> Lengths:
        """Return these, and behind them those of other rows."""
        return Lengths(np.concatenate([self.here, others.here]), torch.cat([self.there, others.there]))


def index_of(rows: Sequence[int], device: torch.device) -> torch.Tensor:
    """Return an index of rows on the device: one that is a list would be copied there at once, and waited for."""
    return to_device(np.array(rows, np.int64), device)
