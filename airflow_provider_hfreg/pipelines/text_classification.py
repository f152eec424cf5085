"""
``text-classification``, also called ``sentiment-analysis``: the labels of a text or a pair of texts.

With ``top_k`` unset or None a row gives ``label`` and ``score`` of its best label; with any number, 1 included, it
gives ``outputs``, the JSON list of its best labels. Equal scores keep the order of the model's labels.

Scores are the pipeline's to the bit for equal logits: the same float32 operations in the same order, over all rows at
once. A text longer than the model reads is cut at its end, as the pipeline does with ``truncation=True`` (without it
the pipeline fails on such a text); ``truncation=False`` keeps that failure, as the row's error. The pipeline's
``padding`` has no effect: rows are padded by the batches they run in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from airflow_provider_hfreg.errors import UnknownParameterError
from airflow_provider_hfreg.pipelines.arguments import plain_arguments
from airflow_provider_hfreg.pipelines.base import (
    Forward,
    IntArray,
    Outputs,
    PipelineTask,
    Results,
    Sequences,
    TaskContext,
)
from airflow_provider_hfreg.pipelines.generation import with_defaults
from airflow_provider_hfreg.pipelines.objects import object_lists
from airflow_provider_hfreg.pipelines.scores import Scores, label_names, not_a_number, softmax
from airflow_provider_hfreg.signatures.features import DataType, FeatureSpec, ParamSpec
from airflow_provider_hfreg.signatures.signature import ModelSignature

_INPUTS = (FeatureSpec("text", DataType.STRING), FeatureSpec("text_pair", DataType.STRING))
_BEST = (FeatureSpec("label", DataType.STRING), FeatureSpec("score", DataType.DOUBLE))
_LIST = (FeatureSpec("outputs", DataType.STRING),)
_OBJECTS = pa.list_(pa.struct([("label", pa.string()), ("score", pa.float64())]))
_TOP_K = ParamSpec("top_k", DataType.INT64)
_PARAMS = (ParamSpec("function_to_apply", DataType.STRING), ParamSpec("max_length", DataType.INT64))

_FUNCTIONS = ("softmax", "sigmoid", "none")
_OWN = frozenset({"top_k", "function_to_apply"})
_ENCODING = frozenset({"truncation", "max_length", "add_special_tokens", "stride", "return_token_type_ids"})


class TextClassification(PipelineTask):
    """See the module."""

    name: ClassVar[str] = "text-classification"
    aliases: ClassVar[tuple[str, ...]] = ("sentiment-analysis",)
    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"
    heads: ClassVar[tuple[str, ...]] = ("ForSequenceClassification",)
    forward: ClassVar[Forward] = Forward.SEQUENCE_LOGITS
    optional_inputs: ClassVar[frozenset[str]] = frozenset({"text_pair"})
    arguments: ClassVar[frozenset[str]] = _OWN | _ENCODING | {"padding"}

    def signature(self, parameters: Mapping[str, Any]) -> ModelSignature:
        """Return the signature of the single or the list condition; only the latter has a ``top_k`` to set at a run."""
        _function_given(parameters)
        if parameters.get("top_k") is None:
            return ModelSignature(_INPUTS, _BEST, with_defaults(_PARAMS, parameters))
        return ModelSignature(_INPUTS, _LIST, with_defaults((_TOP_K, *_PARAMS), parameters))

    def structs(
        self,
        parameters: Mapping[str, Any],
        generation: Mapping[str, Any],  # noqa: ARG002  other tasks generate
    ) -> Mapping[str, pa.DataType]:
        """Return the type of the lists, which only their condition has."""
        return {} if parameters.get("top_k") is None else {"outputs": _OBJECTS}

    def parameters_of(
        self, preprocess: Mapping[str, Any], forward: Mapping[str, Any], postprocess: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the factory's arguments; ``_legacy`` tells a ``top_k`` that was given from one that was not."""
        given = {**preprocess, **forward, **postprocess}
        if given.pop("_legacy", True) and given.get("top_k") == 1:
            del given["top_k"]  # 4.57 makes this of return_all_scores=False, whose results are those of no top_k
        return plain_arguments(given)

    def preprocess(self, rows: pa.RecordBatch, context: TaskContext) -> Sequences:
        """Return one sequence per row; a blank second text is none."""
        _function_given(context.parameters)  # before the model runs for nothing
        pair = rows.column("text_pair")
        if pair.null_count < len(pair):
            blank = pc.equal(pc.utf8_trim_whitespace(pair), "")
            pair = pc.if_else(blank, pa.scalar(None, pa.string()), pair)
        return Sequences(
            row=np.arange(rows.num_rows, dtype=np.int64),
            text=rows.column("text"),
            text_pair=None if pair.null_count == len(pair) else pair,
            encoding=_encoding(context.parameters),
        )

    def postprocess(
        self,
        outputs: Outputs,
        rows: pa.RecordBatch,  # noqa: ARG002  other tasks give parts of the row back
        context: TaskContext,
    ) -> Results:
        """Return the labels and scores; a row whose scores are no numbers is an error."""
        scores = _scores(outputs.values["logits"], context)
        good = ~np.isnan(scores).any(axis=-1)
        scores = scores[good]
        labels = label_names(context.config, scores.shape[1])
        top_k = context.parameters.get("top_k")
        columns = _best(scores, labels) if top_k is None else {"outputs": _lists(scores, labels, context)}
        return Results(outputs.row[good], columns, not_a_number(outputs.row[~good].tolist()))


def _encoding(parameters: Mapping[str, Any]) -> dict[str, Any]:
    own = _OWN | {"padding"}
    given = {name: value for name, value in parameters.items() if name not in own and value is not None}
    if "truncation" not in given and parameters.get("padding"):
        given.pop("max_length", None)  # tokenizers cut at it without being told to, but not where they pad, too
    return {"truncation": True} | given


def _function_given(parameters: Mapping[str, Any]) -> str | None:
    """Return ``function_to_apply`` as the pipeline reads it, or None where nobody said."""
    given = parameters.get("function_to_apply")
    if given is None:
        return None
    if str(given).lower() not in _FUNCTIONS:
        raise UnknownParameterError(f"function_to_apply is {given!r}; it must be one of {', '.join(_FUNCTIONS)}.")
    return str(given).lower()


def _function(context: TaskContext, label_count: int) -> str:
    """Return the function that makes scores of logits: what was given, else what the model's configuration implies."""
    given = _function_given(context.parameters)
    if given is not None:
        return given
    problem = context.config.get("problem_type")
    if problem == "regression":
        return "none"
    return "sigmoid" if problem == "multi_label_classification" or label_count == 1 else "softmax"


def _scores(logits: npt.NDArray[Any], context: TaskContext) -> Scores:
    values: Scores = logits.astype(np.float32, copy=False)
    function = _function(context, len(context.config.get("id2label") or range(values.shape[1])))
    if function == "softmax":
        return softmax(values)
    with np.errstate(over="ignore"):  # exp of a large number is infinite, which is right here
        return np.float32(1) / (np.float32(1) + np.exp(-values)) if function == "sigmoid" else values


def _best(scores: Scores, labels: list[Any]) -> dict[str, pa.Array]:
    best: IntArray = scores.argmax(axis=-1) if len(scores) else np.empty(0, np.int64)
    names = pa.array([str(label) for label in labels], pa.string())
    return {
        "label": names.take(pa.array(best, pa.int64())),
        "score": pa.array(scores[np.arange(len(scores)), best], pa.float64()),
    }


def _lists(scores: Scores, labels: list[Any], context: TaskContext) -> pa.Array:
    order = np.argsort(-scores, axis=-1, kind="stable")[:, : context.parameters["top_k"]]
    rows, length = order.shape
    # Some configurations have numbers for labels, which JSON text keeps; a struct has one type for all.
    names = pa.array(labels if len(set(map(type, labels))) == 1 else map(str, labels))
    label = pa.DictionaryArray.from_arrays(pa.array(order.ravel(), pa.int64()), names)
    score = pa.array(np.take_along_axis(scores, order, axis=-1).ravel().astype(np.float64))
    offsets = np.arange(rows + 1, dtype=np.int32) * np.int32(length)
    return object_lists(_OBJECTS, {"label": label, "score": score}, offsets, context.output_format)
