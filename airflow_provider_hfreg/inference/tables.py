"""
Questions about tables to token ids: Tapas' tokenizer, which reads a pandas frame and one question at a time.

It is written in Python and has no batch call for different tables; so each pair is a call, and one that fails is that
pair's own failure. Where a table is too large, it drops rows from the end and tokens from long cells.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from airflow_provider_hfreg.inference.tokenization import Encoded
from airflow_provider_hfreg.pipelines.base import TokenFact
from airflow_provider_hfreg.pipelines.ragged import Ragged

if TYPE_CHECKING:
    import pandas as pd

_TYPES, _ROW = 7, 2  # of a token, one of them its row


def encode_tables(
    tokenizer: Any, query: pa.StringArray, table: pa.StringArray, encoding: Mapping[str, Any], *, limit: int | None
) -> Encoded:
    """
    Encode pairs of a question and a table in their order.

    :param table: JSON objects {column: [texts]}, columns of one length.
    :param encoding: the task's keyword arguments for the tokenizer.
    :param limit: tokens that the model can read.
    """
    columns: dict[str, list[Any]] = {"input_ids": [], "token_type_ids": []}
    text: list[int] = []
    truncated: list[bool] = []
    failed: dict[int, str] = {}
    for place, (one_query, one_table) in enumerate(zip(query.to_pylist(), table.to_pylist(), strict=True)):
        frame = _frame(one_table)
        call = functools.partial(tokenizer, frame, one_query, return_attention_mask=False, padding=False)
        try:
            encoded = call(**encoding)
            cut = _is_cut(encoded, frame, call, encoding, limit)
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


def _frame(table: str) -> pd.DataFrame:
    import pandas as pd

    # Cells as Python objects: pandas' own strings refuse what 4.57 puts in their place.
    return pd.DataFrame(json.loads(table), dtype=object)


def _is_cut(
    encoded: Any, frame: pd.DataFrame, call: Callable[..., Any], encoding: Mapping[str, Any], limit: int | None
) -> bool:
    """Tell whether rows or tokens of cells were dropped; a second, whole encoding is made only where that may be."""
    longest = encoding.get("max_length") or limit
    length = len(encoded["input_ids"])
    if not encoding.get("truncation") or longest is None or length + frame.size + len(frame.columns) < longest:
        return False
    rows = max((types[_ROW] for types in encoded["token_type_ids"]), default=0)
    whole = {**encoding, "truncation": False, "max_length": None}
    return rows < len(frame) or len(call(**whole)["input_ids"]) > length
