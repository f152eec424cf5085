"""
One window's sequences on their way: which are distinct, what they gave, and back to the rows they came from.

A text may have become several sequences, and equal texts became the same ones. A row whose sequences did not all run
has no result: half a row's windows or labels would be a wrong answer, not a part of the right one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from airflow_provider_hfreg.inference.batch import Batch, BatchOutputs, Forwarder
from airflow_provider_hfreg.inference.batching import distinct_sequences
from airflow_provider_hfreg.inference.tokenization import Encoded
from airflow_provider_hfreg.pipelines.base import IntArray, Outputs, Sequences
from airflow_provider_hfreg.pipelines.generation import kept_tokens
from airflow_provider_hfreg.pipelines.ragged import Ragged
from airflow_provider_hfreg.signatures.rows import RowError

Encode = Callable[[Sequences, IntArray], Encoded]
"""The texts of a task at some positions, which are distinct, to token ids."""


@dataclass
class Work:
    """
    The distinct sequences of a window; positions here are theirs.

    :param row: int64 [sequences as the task sees them]: the row of each.
    :param which: int64, of the same: the distinct sequence of each.
    :param encoded: token ids of the distinct sequences.
    :param streams: of the distinct sequences, what their random numbers depend on.
    :param unencoded: rows with a text that the tokenizer cannot encode, and why.
    """

    row: IntArray
    which: IntArray
    encoded: Encoded
    streams: Sequence[tuple[int, int]]
    unencoded: Mapping[int, str]
    tokens: int = 0
    padded_tokens: int = 0
    failed: dict[int, str] = field(default_factory=dict)
    _values: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    _ragged: dict[str, list[tuple[IntArray, Ragged]]] = field(default_factory=dict)
    _generated: dict[int, Sequence[Sequence[int]]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.encoded.lengths)

    def batch(self, positions: IntArray, token_budget: int, cancelled: Callable[[], bool]) -> Batch:
        """Return the batch of these sequences."""
        columns = {name: ragged.take(positions) for name, ragged in self.encoded.columns.items()}
        return Batch(columns, [self.streams[place] for place in positions], token_budget, cancelled)

    def keep(self, positions: IntArray, outputs: BatchOutputs, *, packed: bool) -> None:
        """
        Take in what a batch gave.

        :param packed: it had no padding.
        """
        for name, values in outputs.values.items():
            if name not in self._values:
                self._values[name] = np.empty((len(self), *values.shape[1:]), values.dtype)
            self._values[name][positions] = values
        for name, ragged in outputs.ragged.items():
            self._ragged.setdefault(name, []).append((positions, ragged))
        self._generated.update(zip(positions.tolist(), outputs.generated, strict=False))
        lengths = self.encoded.lengths[positions]
        self.tokens += int(lengths.sum())
        padded_tokens = int(lengths.sum() if packed else lengths.max() * len(positions))
        self.padded_tokens += padded_tokens if outputs.padded_tokens is None else outputs.padded_tokens

    def outputs(self, empty: BatchOutputs) -> tuple[Outputs, list[RowError]]:
        """
        Return what the rows that worked gave, in the order of the task's sequences, and why the others did not.

        :param empty: stands in where not one sequence worked.
        """
        errors = self._errors()
        kept = ~np.isin(self.row, list(errors))
        places = self.which[kept]
        values = self._values or empty.values
        outputs = Outputs(
            row=self.row[kept],
            values={name: array[places] for name, array in values.items()},
            ragged={name: self._gather(name, places, nothing) for name, nothing in empty.ragged.items()},
            facts={fact: ragged.take(places) for fact, ragged in self.encoded.facts.items()},
            generated=[self._generated[place] for place in places.tolist()] if self._generated else (),
            input_ids=self.encoded.columns["input_ids"].take(places),
        )
        return outputs, [RowError(row, code, message) for row, (code, message) in errors.items()]

    def truncated_rows(self) -> int:
        """Count the rows of which a text was cut."""
        return len(np.unique(self.row[self.encoded.truncated[self.which]]))

    def _gather(self, name: str, places: IntArray, nothing: Ragged) -> Ragged:
        """Put what the batches gave into the order of ``places``; all of those have run."""
        if name not in self._ragged:
            return nothing
        ran = np.concatenate([positions for positions, _ in self._ragged[name]])
        where = np.empty(len(self), np.int64)
        where[ran] = np.arange(len(ran))
        return Ragged.joined(ragged for _, ragged in self._ragged[name]).take(where[places])

    def _errors(self) -> Mapping[int, tuple[str, str]]:
        """Return the rows that failed, each with a code and a message: the first of its sequences tells."""
        errors = {row: ("tokenizer_error", message) for row, message in self.unencoded.items()}
        for sequence in np.flatnonzero(np.isin(self.which, list(self.failed))):
            errors.setdefault(int(self.row[sequence]), ("model_error", self.failed[int(self.which[sequence])]))
        return errors


def plan_work(
    sequences: Sequences, forwarder: Forwarder, *, encode: Encode, token_limit: int | None, rows: IntArray
) -> Work:
    """
    Encode a window's texts, equal ones once where they must give equal outputs.

    :param token_limit: tokens that the model can read; None where nothing bounds them.
    :param rows: position of each row of the window in the run's whole input.
    """
    every = np.arange(len(sequences.row), dtype=np.int64)
    first, distinct = (
        distinct_sequences(sequences.text, sequences.text_pair) if forwarder.deterministic else (every, every)
    )
    encoded = encode(sequences, first)
    if token_limit is not None:
        kept = kept_tokens(encoded.lengths, limit=token_limit, new_tokens=forwarder.growth, cut=sequences.prompt_cut)
        encoded = encoded.keep_last(kept)
    # A row's texts stand together, so the distance from its first one numbers them.
    ordinal = every - np.searchsorted(sequences.row, sequences.row)
    streams = zip(rows[sequences.row][first].tolist(), ordinal[first].tolist(), strict=True)
    of_text = Ragged.of(np.bincount(encoded.text, minlength=len(first)), np.arange(len(encoded.text), dtype=np.int64))
    sequence = of_text.take(distinct)
    return Work(
        row=np.repeat(sequences.row, sequence.lengths),
        which=sequence.values,
        encoded=encoded,
        streams=[stream for stream, count in zip(streams, of_text.lengths.tolist(), strict=True) for _ in range(count)],
        unencoded={
            int(sequences.row[text]): encoded.failed[int(distinct[text])]
            for text in np.flatnonzero(np.isin(distinct, list(encoded.failed)))[::-1]
        },
    )
