"""
One window's sequences on their way: which are distinct, what they gave, and back to the rows they came from.

A row whose sequences did not all run has no result: half a row's windows or labels would be a wrong answer, not a part
of the right one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from airflow_provider_hfreg.inference.batching import distinct_sequences
from airflow_provider_hfreg.inference.forward import Batch, BatchOutputs, Forwarder
from airflow_provider_hfreg.inference.tokenization import Encoded, encode
from airflow_provider_hfreg.pipelines.base import IntArray, Outputs, Sequences
from airflow_provider_hfreg.pipelines.generation import kept_tokens
from airflow_provider_hfreg.signatures.rows import RowError


@dataclass
class Work:
    """
    The distinct sequences of a window; positions here are theirs.

    :param which: int64 [sequences of the task], the distinct sequence of each.
    :param encoded: token ids of the distinct sequences.
    :param streams: of the distinct sequences, what their random numbers depend on.
    """

    which: IntArray
    encoded: Encoded
    streams: Sequence[tuple[int, int]]
    tokens: int = 0
    padded_tokens: int = 0
    failed: dict[int, str] = field(default_factory=dict)
    _values: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    _generated: dict[int, Sequence[Sequence[int]]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.encoded.lengths)

    def batch(self, positions: IntArray) -> Batch:
        """Return the batch of these sequences."""
        columns = {name: [values[place] for place in positions] for name, values in self.encoded.columns.items()}
        return Batch(columns, [self.streams[place] for place in positions])

    def keep(self, positions: IntArray, outputs: BatchOutputs) -> None:
        """Take in what a batch gave."""
        for name, values in outputs.values.items():
            if name not in self._values:
                self._values[name] = np.empty((len(self), *values.shape[1:]), values.dtype)
            self._values[name][positions] = values
        self._generated.update(zip(positions.tolist(), outputs.generated, strict=False))
        lengths = self.encoded.lengths[positions]
        self.tokens += int(lengths.sum())
        self.padded_tokens += int(lengths.max()) * len(positions)

    def outputs(self, sequences: Sequences, empty: BatchOutputs) -> tuple[Outputs, list[RowError]]:
        """
        Return what the rows that worked gave, in the order of the task's sequences, and why the others did not.

        :param empty: stands in where not one sequence worked.
        """
        errors = self._errors(sequences.row)
        kept = ~np.isin(sequences.row, list(errors))
        places = self.which[kept]
        values = self._values or empty.values
        input_ids = self.encoded.columns["input_ids"]
        outputs = Outputs(
            row=sequences.row[kept],
            values={name: array[places] for name, array in values.items()},
            generated=[self._generated[place] for place in places.tolist()] if self._generated else (),
            input_ids=[input_ids[place] for place in places],
        )
        return outputs, [RowError(row, "model_error", message) for row, message in errors.items()]

    def truncated_rows(self, row: IntArray) -> int:
        """Count the rows of which a text was cut."""
        return len(np.unique(row[self.encoded.truncated[self.which]]))

    def _errors(self, row: IntArray) -> Mapping[int, str]:
        if not self.failed:
            return {}
        errors: dict[int, str] = {}
        for sequence in np.flatnonzero(np.isin(self.which, list(self.failed))):
            errors.setdefault(int(row[sequence]), self.failed[int(self.which[sequence])])
        return errors


def plan_work(
    sequences: Sequences, tokenizer: Any, forwarder: Forwarder, *, token_limit: int | None, rows: IntArray
) -> Work:
    """
    Encode a window's sequences, equal ones once where they must give equal outputs.

    :param rows: position of each row of the window in the run's whole input.
    """
    every = np.arange(len(sequences.row), dtype=np.int64)
    first, which = (
        distinct_sequences(sequences.text, sequences.text_pair) if forwarder.deterministic else (every, every)
    )
    pair = None if sequences.text_pair is None else sequences.text_pair.take(first)
    encoded = encode(tokenizer, sequences.text.take(first), pair, sequences.encoding, limit=token_limit)
    if token_limit is not None:
        kept = kept_tokens(
            encoded.lengths, limit=token_limit, new_tokens=forwarder.new_tokens, cut=sequences.prompt_cut
        )
        encoded = encoded.keep_last(kept)
    # A row's sequences stand together, so the distance from its first one numbers them.
    ordinal = every - np.searchsorted(sequences.row, sequences.row)
    streams = zip(rows[sequences.row][first].tolist(), ordinal[first].tolist(), strict=True)
    return Work(which, encoded, list(streams))
