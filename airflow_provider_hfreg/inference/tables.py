"""
Questions about tables to token ids: Tapas' tokenizer, which reads a pandas frame and questions about it.

It is written in Python. All questions about one table are one call, which tokenises the table once; where that fails
each is a call, and what fails then is that pair's own failure. Where a table is too large, it drops rows from the end
and tokens from long cells.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa

from airflow_provider_hfreg.inference.tokenization import Encoded
from airflow_provider_hfreg.pipelines.base import TokenFact
from airflow_provider_hfreg.pipelines.ragged import Ragged

if TYPE_CHECKING:
    import pandas as pd

_TYPES = 7  # of a token


def encode_tables(tokenizer: Any, query: pa.StringArray, table: pa.StringArray, encoding: Mapping[str, Any]) -> Encoded:
    """
    Encode pairs of a question and a table in their order.

    :param table: JSON objects {column: [texts]}, columns of one length.
    :param encoding: the task's keyword arguments for the tokenizer, which knows itself how much the model reads.
    """
    places: dict[str, list[int]] = {}
    for place, one_table in enumerate(table.to_pylist()):
        places.setdefault(one_table, []).append(place)
    queries = query.to_pylist()
    pairs: dict[int, _Pair | str] = {}
    for one_table, of_table in places.items():
        asked = [queries[place] for place in of_table]
        pairs |= zip(of_table, _about_one_table(tokenizer, one_table, asked, encoding), strict=True)
    text = sorted(place for place, pair in pairs.items() if isinstance(pair, _Pair))
    good = [pair for place in text if isinstance(pair := pairs[place], _Pair)]
    ids = Ragged.of_lists([pair.input_ids for pair in good])
    types = ids.with_values(
        np.array([of_token for pair in good for of_token in pair.types], np.int64).reshape(-1, _TYPES)
    )
    return Encoded(
        {"input_ids": ids, "token_type_ids": types},
        np.array([pair.is_cut for pair in good], np.bool_),
        np.array(text, np.int64),
        facts={TokenFact.TYPES: types},
        failed={place: pair for place, pair in pairs.items() if isinstance(pair, str)},
    )


@dataclass(frozen=True)
class _Pair:
    """A question and its table as tokens, each with its types."""

    input_ids: list[int]
    types: list[list[int]]
    is_cut: bool


def _about_one_table(tokenizer: Any, table: str, queries: list[str], encoding: Mapping[str, Any]) -> list[_Pair | str]:
    """Return the questions with the table, or for each that fails why."""
    frame = table_frame(table)
    words = _Words(tokenizer, frame)

    def encoded(asked: list[str]) -> list[_Pair | str]:
        # It writes what it makes of the questions into the list that it is given.
        told = tokenizer(frame, list(asked), return_attention_mask=False, padding=False, **encoding)
        return [
            _Pair(ids, types, bool(encoding.get("truncation")) and words.are_missing(len(ids), one))
            for one, ids, types in zip(asked, told["input_ids"], told["token_type_ids"], strict=True)
        ]

    try:
        return encoded(queries)
    except Exception as error:  # noqa: BLE001  whatever the tokenizer raises is about one of the questions
        if len(queries) == 1:
            return [f"{type(error).__name__}: {error}"]
    return [pair for one in queries for pair in _about_one_table(tokenizer, table, [one], encoding)]


def table_frame(table: str) -> pd.DataFrame:
    """
    Return a table as the tokenizer of either family reads it with any pandas.

    :param table: a JSON object {column: [texts]}.
    """
    # Cells as Python objects: pandas' own strings refuse what 4.57 puts in their place.
    frame: pd.DataFrame = _frame_class()(json.loads(table), dtype=object)
    return frame


@functools.cache
def _frame_class() -> Any:
    import pandas as pd

    class RowsByPlace(pd.DataFrame):
        """A frame whose rows are indexed by place: 4.57 asks for ``row[0]``, which pandas 3 takes for a label."""

        @property
        def _constructor(self) -> Any:
            return RowsByPlace

        def iterrows(self) -> Iterator[tuple[Any, Any]]:
            # No Series: the tokenizer goes through all rows once for each column and question.
            return zip(self.index, map(_Row, self.to_numpy().tolist()), strict=True)

    return RowsByPlace


class _Row(tuple[Any, ...]):
    """The cells of a row by place, whichever way a family asks for them."""

    __slots__ = ()

    @property
    def iloc(self) -> Self:
        """Return the cells by place."""
        return self


class _Words:
    """How many tokens a table has in full: to tell whether rows or words of cells were dropped."""

    def __init__(self, tokenizer: Any, frame: pd.DataFrame) -> None:
        self._tokenizer = tokenizer
        self._texts = [*map(str, frame.columns), *frame.to_numpy().ravel()]
        self._characters = sum(map(len, self._texts))

    @functools.cached_property
    def _tokens(self) -> int:
        return sum(len(self._tokenizer.tokenize(text)) for text in self._texts)

    def are_missing(self, tokens: int, query: str) -> bool:
        """Tell whether there are fewer than a question and the table have."""
        length: int = tokens - self._tokenizer.num_special_tokens_to_add(pair=True)
        if length >= self._characters + len(query):
            return False  # no token is shorter than a character, so nothing is missing
        return length < self._tokens + len(self._tokenizer.tokenize(query))
