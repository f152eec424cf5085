"""
``fill-mask``: the tokens that stand best in the place of a mask.

A row gives ``outputs``, the JSON list of its mask's best tokens, best first: ``score``, ``token``, ``token_str`` and
``sequence``, the text with the token in its place; a text of several masks gives a list of such lists, each mask for
itself, the other masks left as they are. As structs, where a column has one type, a row always gives such a list of
lists. ``top_k`` says how many (5 unless given), ``targets`` which tokens alone come into question. One row is no
special case.

A text without a mask is that row's error. A text longer than the model reads is cut at its end, as the pipeline does
with ``tokenizer_kwargs={"truncation": True}`` (without it the pipeline fails on such a text).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airflow_provider_hfreg.errors import UnknownParameterError, UnsupportedPipelineError
from airflow_provider_hfreg.pipelines.arguments import plain_arguments
from airflow_provider_hfreg.pipelines.base import (
    Forward,
    Outputs,
    PipelineTask,
    Results,
    Sequences,
    TaskContext,
)
from airflow_provider_hfreg.pipelines.decoding import decode, decoding_of
from airflow_provider_hfreg.pipelines.generation import with_defaults
from airflow_provider_hfreg.pipelines.json_columns import json_lists
from airflow_provider_hfreg.pipelines.objects import object_lists
from airflow_provider_hfreg.pipelines.ragged import Ragged
from airflow_provider_hfreg.pipelines.scores import not_a_number
from airflow_provider_hfreg.signatures.features import DataType, FeatureSpec, ParamSpec
from airflow_provider_hfreg.signatures.output_format import OutputFormat
from airflow_provider_hfreg.signatures.rows import RowError
from airflow_provider_hfreg.signatures.signature import ModelSignature

log = logging.getLogger(__name__)

_INPUTS = (FeatureSpec("inputs", DataType.STRING),)
_OUTPUTS = (FeatureSpec("outputs", DataType.STRING),)
_OF_MASK = pa.list_(
    pa.struct([("score", pa.float64()), ("token", pa.int64()), ("token_str", pa.string()), ("sequence", pa.string())])
)
_PARAMS = (ParamSpec("top_k", DataType.INT64), ParamSpec("targets", DataType.STRING, shape=(-1,)))
_TOP_K = 5


class FillMask(PipelineTask):
    """See the module."""

    name: ClassVar[str] = "fill-mask"
    auto_class: ClassVar[str] = "AutoModelForMaskedLM"
    heads: ClassVar[tuple[str, ...]] = ("ForMaskedLM",)
    forward: ClassVar[Forward] = Forward.MASK_LOGITS
    arguments: ClassVar[frozenset[str]] = frozenset({spec.name for spec in _PARAMS} | {"tokenizer_kwargs"})

    def signature(self, parameters: Mapping[str, Any]) -> ModelSignature:
        """Return the signature, which is the same for one mask and for many."""
        top_k = parameters.get("top_k")
        if top_k is not None and top_k < 0:
            raise UnknownParameterError(f"top_k is {top_k}; it must be a number of tokens, 0 or more.")
        return ModelSignature(_INPUTS, _OUTPUTS, with_defaults(_PARAMS, parameters))

    def structs(
        self,
        parameters: Mapping[str, Any],  # noqa: ARG002  the type is the same for all
        generation: Mapping[str, Any],  # noqa: ARG002  as above
    ) -> Mapping[str, pa.DataType]:
        """Return the type of the lists of lists: a column has one type, whether its rows have one mask or many."""
        return {"outputs": pa.list_(_OF_MASK)}

    def parameters_of(
        self, preprocess: Mapping[str, Any], forward: Mapping[str, Any], postprocess: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the factory's arguments, except that the pipeline keeps the ids of its ``targets`` alone."""
        return plain_arguments({**preprocess, **forward, **postprocess})

    def spelt(self, parameters: Mapping[str, Any], tokenizer: Any) -> dict[str, Any]:
        """Return the ``targets`` as texts again."""
        given = dict(parameters)
        if "target_ids" in given:
            given["targets"] = tokenizer.convert_ids_to_tokens(given.pop("target_ids"))
        return given

    def preprocess(self, rows: pa.RecordBatch, context: TaskContext) -> Sequences:
        """Return one text per row."""
        if context.tokenizer.mask_token_id is None:
            raise UnsupportedPipelineError("The model's tokenizer has no mask token, so there is nothing to fill.")
        top_k, targets = context.parameters.get("top_k"), context.parameters.get("targets")
        settings: dict[str, Any] = {"top_k": _TOP_K if top_k is None else top_k}
        if targets is not None:
            settings["target_ids"] = _target_ids(context.tokenizer, [targets] if isinstance(targets, str) else targets)
        return Sequences(
            row=np.arange(rows.num_rows, dtype=np.int64),
            text=rows.column("inputs"),
            encoding=_encoding(context.parameters),
            settings=settings,
        )

    def postprocess(
        self,
        outputs: Outputs,
        rows: pa.RecordBatch,  # noqa: ARG002  other tasks give parts of the row back
        context: TaskContext,
    ) -> Results:
        """Return each row's tokens; a row without a mask, or whose scores are no numbers, is an error."""
        score, token = outputs.ragged["score"], outputs.ragged["token"]
        bad = np.isin(np.arange(len(score)), token.sequence[np.isnan(score.values).any(axis=-1)])
        without = score.lengths == 0
        good = ~(bad | without)
        message = _NO_MASK.format(mask=context.tokenizer.mask_token)
        missing = tuple(RowError(row, "no_mask", message, "inputs") for row in outputs.row[without].tolist())
        return Results(
            outputs.row[good],
            {"outputs": _lists(outputs, context).filter(pa.array(good))},
            (*missing, *not_a_number(outputs.row[bad].tolist())),
        )


_NO_MASK = (
    "expected the mask token {mask} somewhere in the text, found none (a text longer than the model reads loses its "
    "end, and a mask with it)"
)


def _encoding(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """A row is one sequence, and what a tokenizer might give besides is not asked for."""
    given = dict(parameters.get("tokenizer_kwargs") or {})
    return {"truncation": True, **{name: value for name, value in given.items() if not name.startswith("return_")}}


def _target_ids(tokenizer: Any, targets: list[str]) -> list[int]:
    """
    Return the token of each target, each once; of one that is no token, the first that it is cut into.

    :raises UnknownParameterError: no target is left.
    """
    vocabulary = tokenizer.get_vocab()
    ids = [vocabulary[target] if target in vocabulary else _first_token(tokenizer, target) for target in targets]
    known = list({token for token in ids if token is not None})  # in the pipeline's order, which decides ties
    if not known:
        raise UnknownParameterError(f"targets is {targets!r}; it must hold at least one token of the model.")
    return known


def _first_token(tokenizer: Any, target: str) -> int | None:
    ids = tokenizer(target, add_special_tokens=False, max_length=1, truncation=True)["input_ids"]
    if not ids:
        log.warning("The target %r is no token of the model and is passed over", target)
        return None
    log.warning("The target %r is no token of the model; %r stands in", target, tokenizer.convert_ids_to_tokens(ids[0]))
    return int(ids[0])


def _lists(outputs: Outputs, context: TaskContext) -> pa.Array:
    """Return each row's lists, one for each mask; as JSON text, the list of a single mask stands alone."""
    score = outputs.ragged["score"]
    masks, best = score.values.shape
    each, of_row = np.arange(masks + 1, dtype=np.int32) * np.int32(best), score.offsets.astype(np.int32)
    of_mask = object_lists(_OF_MASK, _values(outputs, context), each, context.output_format)
    if context.output_format is OutputFormat.STRUCT:
        return pa.ListArray.from_arrays(pa.array(of_row), of_mask)
    nested = json_lists(of_mask, of_row)
    first = np.minimum(score.offsets[:-1], max(masks - 1, 0))
    single = of_mask.take(pa.array(first, pa.int64())) if masks else nested
    return pc.if_else(pa.array(score.lengths == 1), single, nested)


def _values(outputs: Outputs, context: TaskContext) -> dict[str, pa.Array]:
    """Return what is known of each token of each mask, mask by mask."""
    score, token = outputs.ragged["score"].values.ravel(), outputs.ragged["token"].values.ravel()
    distinct, places = np.unique(token, return_inverse=True)
    alone = _decoded(Ragged.of(np.ones(len(distinct), np.int64), distinct), context, skip_special_tokens=False)
    return {
        "score": pa.array(score.astype(np.float64)),
        "token": pa.array(token, pa.int64()),
        "token_str": pa.DictionaryArray.from_arrays(pa.array(places, pa.int64()), pa.array(alone, pa.string())),
        "sequence": pa.array(_filled(outputs, context), pa.string()),
    }


def _filled(outputs: Outputs, context: TaskContext) -> list[str]:
    """Return each mask's text with each of its tokens; special tokens are shown only where other masks are left."""
    ids, token = outputs.input_ids, outputs.ragged["token"]
    masked = ids.values == context.tokenizer.mask_token_id
    copies = np.repeat(token.sequence, token.values.shape[1])
    texts = ids.take(copies)
    texts.values[texts.offsets[:-1] + np.repeat(ids.place[masked], token.values.shape[1])] = token.values.ravel()
    texts = texts.where(texts.values != context.tokenizer.pad_token_id)
    several = token.lengths[copies] > 1
    filled = np.empty(len(texts), object)
    for kind, skip in ((several, False), (~several, True)):
        filled[kind] = _decoded(texts.take(np.flatnonzero(kind)), context, skip_special_tokens=skip)
    return list(filled)


def _decoded(ids: Ragged, context: TaskContext, *, skip_special_tokens: bool) -> list[str]:
    """Decode as the family does that the version was logged under; spaces are cleaned up as the tokenizer says."""
    as_logged = replace(decoding_of(context.transformers_version), clean_up=None)
    return decode(context.tokenizer, ids.lists(), {"skip_special_tokens": skip_special_tokens}, as_logged)
