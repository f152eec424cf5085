"""
Questions about tables to token ids: Tapas' tokenizer, which reads a pandas frame and one question at a time.

It is written in Python and has no batch call for different tables; so each pair is a call, and one that fails is that
pair's own failure. Where a table is too large, it drops rows from the end and tokens from long cells.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

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
    columns: dict[str, list[Any]] = {"input_ids": [], "token_type_ids": []}
    text: list[int] = []
    truncated: list[bool] = []
    failed: dict[int, str] = {}
    for place, (one_query, one_table) in enumerate(zip(query.to_pylist(), table.to_pylist(), strict=True)):
        frame = table_frame(one_table)
        try:
            encoded = tokenizer(frame, one_query, return_attention_mask=False, padding=False, **encoding)
            cut = bool(encoding.get("truncation")) and _is_cut(tokenizer, encoded, frame, one_query)
        except Exception as error:  # noqa: BLE001  whatever the tokenizer raises is about this table
            failed[place] = f"{type(error).__name__}: {error}"
            continue
        for name, values in columns.items():
            values.append(encoded[name])
        text.append(place)
        truncated.append(cut)
    lengths = np.array([len(ids) for ids in columns["input_ids"]], np.int64)
    types = [types_of_token for types in columns["token_type_ids"] for types_of_token in types]
    return Encoded(
        columns,
        lengths,
        np.array(truncated, np.bool_),
        np.array(text, np.int64),
        facts={TokenFact.TYPES: Ragged.of(lengths, np.array(types, np.int64).reshape(-1, _TYPES))},
        failed=failed,
    )


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
            for label, row in super().iterrows():
                yield label, row.set_axis(range(len(row)))

    return RowsByPlace


def _is_cut(tokenizer: Any, encoded: Any, frame: pd.DataFrame, query: str) -> bool:
    """Tell whether rows or words of cells were dropped."""
    texts = [query, *map(str, frame.columns), *frame.to_numpy().ravel()]
    length: int = len(encoded["input_ids"]) - tokenizer.num_special_tokens_to_add(pair=True)
    if length >= sum(map(len, texts)):
        return False  # no token is shorter than a character, so nothing is missing
    whole = sum(len(tokenizer.tokenize(text)) for text in texts)
    return length < whole
