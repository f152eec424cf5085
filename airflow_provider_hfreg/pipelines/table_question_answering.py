"""
``table-question-answering``: the cells of a table that answer a question, and what is to be done with them (Tapas).

``table`` is a JSON object ``{column: [values]}``, its columns of one length; numbers in it are read as they are
written, null as an empty cell. A row gives ``answer`` (the cells, behind the aggregator where there is something to do
with them), ``coordinates`` (row and column of each cell, by row), ``cells`` and ``aggregator``: the model's word,
``NONE`` included; null where the model has no head for that. No column ever goes missing.

A table that is no such JSON, or empty, is that row's error. One too large for the model loses rows at its end and words
in its cells, as in the pipeline. Each question stands for itself, so the pipeline's ``sequential`` has no effect.
Models that write the answer instead of pointing at it (TAPEX) are refused: transformers 5 has no tokenizer for them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from airflow_provider_hfreg.errors import UnsupportedPipelineError
from airflow_provider_hfreg.pipelines.arguments import plain_arguments
from airflow_provider_hfreg.pipelines.base import (
    Forward,
    IntArray,
    Outputs,
    PipelineTask,
    Results,
    Sequences,
    TaskContext,
    TokenFact,
)
from airflow_provider_hfreg.pipelines.json_columns import json_text
from airflow_provider_hfreg.pipelines.scores import not_a_number
from airflow_provider_hfreg.signatures.features import DataType, FeatureSpec
from airflow_provider_hfreg.signatures.rows import RowError
from airflow_provider_hfreg.signatures.signature import ModelSignature

_INPUTS = (FeatureSpec("query", DataType.STRING), FeatureSpec("table", DataType.STRING))
_OUTPUTS = (
    FeatureSpec("answer", DataType.STRING),
    FeatureSpec("coordinates", DataType.INT64, shape=(-1, 2)),
    FeatureSpec("cells", DataType.STRING, shape=(-1,)),
    FeatureSpec("aggregator", DataType.STRING),
)
_SEGMENT, _COLUMN, _ROW = 0, 1, 2  # of a token's types; 0 of the last two is no column and no row
_LEAST_LOGIT = np.float32(-88.7)  # below it exp overflows
_THRESHOLD = 0.5

Table = Mapping[str, Sequence[str]]


class TableQuestionAnswering(PipelineTask):
    """See the module."""

    name: ClassVar[str] = "table-question-answering"
    auto_class: ClassVar[str] = "AutoModelForTableQuestionAnswering"
    heads: ClassVar[tuple[str, ...]] = ("TapasForQuestionAnswering",)
    forward: ClassVar[Forward] = Forward.TABLE
    arguments: ClassVar[frozenset[str]] = frozenset({"sequential", "padding", "truncation"})

    def auto_class_of(self, config: Mapping[str, Any]) -> str:
        """Return the class; a model that is no Tapas is refused."""
        if config.get("model_type") != "tapas":
            raise UnsupportedPipelineError(
                f"The model is a {config.get('model_type')}, and {self.name} takes Tapas models, which point at cells. "
                "One that writes answers (TAPEX) has no tokenizer in transformers 5: give it the table as text and log "
                "it as text2text-generation."
            )
        return self.auto_class

    def signature(self, parameters: Mapping[str, Any]) -> ModelSignature:  # noqa: ARG002  it has no conditions
        """Return the signature, the same with and without an aggregation head."""
        return ModelSignature(_INPUTS, _OUTPUTS)

    def parameters_of(
        self, preprocess: Mapping[str, Any], forward: Mapping[str, Any], postprocess: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the factory's arguments."""
        return plain_arguments({**preprocess, **forward, **postprocess})

    def preprocess(self, rows: pa.RecordBatch, context: TaskContext) -> Sequences:
        """Return a question with its table per row; a table that cannot be read is an error."""
        tables, errors = _plain_tables(rows.column("table"))
        empty = pc.equal(rows.column("query"), "").to_numpy(zero_copy_only=False)
        for row in np.flatnonzero(empty).tolist():
            errors.setdefault(row, RowError(row, "empty_value", "expected a question, found an empty text", "query"))
        good = np.setdiff1d(np.arange(rows.num_rows, dtype=np.int64), list(errors)).astype(np.int64)
        truncation = context.parameters.get("truncation")
        return Sequences(
            row=good,
            text=rows.column("query").take(pa.array(good)),
            text_pair=tables.take(pa.array(good)),
            encoding={"truncation": "drop_rows_to_fit" if truncation is None else truncation},
            facts=frozenset({TokenFact.TYPES}),
            errors=tuple(errors[failed] for failed in sorted(errors)),
        )

    def postprocess(self, outputs: Outputs, rows: pa.RecordBatch, context: TaskContext) -> Results:
        """Return each row's cells; a row whose scores are no numbers is an error."""
        logits = outputs.ragged["logits"]
        bad = np.isin(np.arange(len(outputs.row)), logits.sequence[np.isnan(logits.values)])
        cells = _chosen(outputs)
        texts = _texts(cells, outputs.row, rows.column("table"))
        lists = pa.ListArray.from_arrays(cells.offsets(len(outputs.row)), texts)
        pairs = pa.FixedSizeListArray.from_arrays(pa.array(np.stack([cells.row, cells.column], axis=1).ravel()), 2)
        aggregator, prefix = _aggregators(outputs, context.config)
        columns = {
            "answer": pc.binary_join_element_wise(prefix, pc.binary_join(lists, ", "), ""),
            "coordinates": pa.ListArray.from_arrays(lists.offsets, pairs),
            "cells": lists,
            "aggregator": aggregator,
        }
        good = pa.array(np.flatnonzero(~bad), pa.int64())
        return Results(
            outputs.row[~bad],
            {name: column.take(good) for name, column in columns.items()},
            not_a_number(outputs.row[bad].tolist()),
        )


def _plain_tables(tables: pa.StringArray) -> tuple[pa.StringArray, dict[int, RowError]]:
    """Return the tables with all cells as texts, null where one cannot be read, and why; equal ones are read once."""
    distinct = tables.dictionary_encode()
    plain: list[str | None] = []
    failed: dict[int, _UnreadableError] = {}
    for place, text in enumerate(distinct.dictionary.to_pylist()):
        try:
            plain.append(json_text(_read(text)))
        except _UnreadableError as error:
            plain.append(None)
            failed[place] = error
    which = distinct.indices.to_numpy()
    errors = {
        row: RowError(row, failed[which[row]].code, str(failed[which[row]]), "table")
        for row in np.flatnonzero(np.isin(which, list(failed))).tolist()
    }
    return pa.array(plain, pa.string()).take(distinct.indices), errors


class _UnreadableError(Exception):
    """Carries why a text is no table, from where it is seen to where its row is known."""

    def __init__(self, message: str, code: str = "bad_json") -> None:
        super().__init__(message)
        self.code = code


def _read(text: str) -> Table:
    """
    Return a table with all its cells as texts.

    >>> _read('{"Stars": [36542, 4.50, null]}')
    {'Stars': ['36542', '4.50', '']}

    :raises _UnreadableError: it is none.
    """
    try:
        # A number is what was written: 4.50 is a price.
        table = json.loads(
            text, parse_int=str, parse_float=str, parse_constant=_constant, object_pairs_hook=_without_twins
        )
        json_text(table).encode()  # half of a surrogate pair can be written in JSON, and is no text
    except (ValueError, RecursionError) as error:
        raise _UnreadableError(f"expected JSON like {_LIKE}, found what cannot be read: {error}") from None
    if not isinstance(table, dict):
        raise _UnreadableError(f"expected a JSON object like {_LIKE}, found {_kind(table)}")
    for name, values in table.items():
        _check_column(name, values)
    _check_lengths({name: len(values) for name, values in table.items()})
    return {name: ["" if value is None else str(value) for value in values] for name, values in table.items()}


_LIKE = '{"column": ["value", …], …}'


def _check_column(name: str, values: Any) -> None:
    if not isinstance(values, list):
        raise _UnreadableError(f"expected a list of values in the table's column {name!r}, found {_kind(values)}")
    for value in values:
        if isinstance(value, dict | list):
            raise _UnreadableError(f"expected single values in the table's column {name!r}, found {_kind(value)}")


def _check_lengths(lengths: Mapping[str, int]) -> None:
    """
    Refuse columns of different lengths, and a table without a row.

    >>> _check_lengths({"Stars": 1, "Name": 0})
    Traceback (most recent call last):
    airflow_provider_hfreg.pipelines.table_question_answering._UnreadableError: expected columns of one length, found \
'Stars' with 1 values and 'Name' with 0
    """
    first, count = next(iter(lengths.items()), ("", 0))
    for name, length in lengths.items():
        if length != count:
            raise _UnreadableError(
                f"expected columns of one length, found {first!r} with {count} values and {name!r} with {length}"
            )
    if count == 0:
        raise _UnreadableError("expected a table with at least one row, found an empty one", "empty_value")


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object whose keys differ; of two columns of one name, one would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it names a column twice")
    return found


def _constant(name: str) -> str:
    return "" if name == "NaN" else name


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text or a number", bool: "true or false"}
    return names.get(type(value), "null")


@dataclass(frozen=True)
class _Cells:
    """
    The chosen cells, by sequence, row and column.

    :param sequence: int64 [cells], as the others; ``row`` and ``column`` count from 0.
    """

    sequence: IntArray
    row: IntArray
    column: IntArray

    def offsets(self, sequences: int) -> pa.Array:
        """Return where the cells of each sequence begin."""
        return pa.array(np.searchsorted(self.sequence, np.arange(sequences + 1)), pa.int32())


def _chosen(outputs: Outputs) -> _Cells:
    """Return the cells whose tokens are more likely part of the answer than not, on average."""
    logits, types = outputs.ragged["logits"], outputs.facts[TokenFact.TYPES].values
    in_cell = (types[:, _SEGMENT] == 1) & (types[:, _COLUMN] > 0) & (types[:, _ROW] > 0)
    likely = np.float32(1) / (np.float32(1) + np.exp(-np.maximum(logits.values, _LEAST_LOGIT)))
    width, height = types[:, _COLUMN].max(initial=0) + 1, types[:, _ROW].max(initial=0) + 1
    place = (logits.sequence * height + types[:, _ROW]) * width + types[:, _COLUMN]
    cell, which = np.unique(place[in_cell], return_inverse=True)
    total = np.bincount(which, weights=likely[in_cell].astype(np.float64), minlength=len(cell))
    chosen = cell[total / np.bincount(which, minlength=len(cell)) > _THRESHOLD]
    return _Cells(chosen // (width * height), chosen // width % height - 1, chosen % width - 1)


def _texts(cells: _Cells, row_of_sequence: IntArray, tables: pa.StringArray) -> pa.StringArray:
    """Return the text of each cell; a table is read once, whatever is asked about it."""
    distinct = tables.dictionary_encode()
    table_of = distinct.indices.to_numpy()[row_of_sequence[cells.sequence]]
    read = {place: list(_read(distinct.dictionary[place].as_py()).values()) for place in np.unique(table_of).tolist()}
    places = zip(table_of.tolist(), cells.column.tolist(), cells.row.tolist(), strict=True)
    return pa.array([read[table][column][row] for table, column, row in places], pa.string())


def _aggregators(outputs: Outputs, config: Mapping[str, Any]) -> tuple[pa.StringArray, pa.StringArray]:
    """Return the aggregator of each sequence, and what it puts before the cells."""
    names = {int(place): str(name) for place, name in (config.get("aggregation_labels") or {}).items()}
    logits: npt.NDArray[Any] | None = outputs.values.get("aggregation")
    if logits is None or not names:
        none = pa.nulls(len(outputs.row), pa.string())
        return none, pc.fill_null(none, "")
    best = logits.argmax(axis=-1).tolist() if len(logits) else []
    without = config.get("no_aggregation_label_index")
    prefixes = ["" if place == without else f"{names[place]} > " for place in best]
    return pa.array([names[place] for place in best], pa.string()), pa.array(prefixes, pa.string())
