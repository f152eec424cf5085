"""
What summarization, translation and text2text-generation share: a text is read whole, and another one is written.

The tasks differ in the names of their columns and in what stands before the text. Everything here is as in the
pipelines of transformers 4.57, the last to have them, whatever family runs it:

- the model's ``task_specific_params`` tell the prefix ("summarize: "), and their generation settings go before those
  that the pipeline was built with (a run's own go before both);
- spaces before punctuation stay unless ``clean_up_tokenization_spaces`` is given;
- ``stop_sequence`` ends a text at its first token, in place of the model's own end;
- a row with one text gives it as it is, a row with several (``num_return_sequences``) the JSON list of them, or the
  list itself where structs are asked for.

A text is cut at its end where ``truncation`` says so, to what the tokenizer allows; without a word, only where the
network's table of positions ends, on which the pipeline fails. ``truncation=False`` keeps that failure, as the row's
error.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airflow_provider_hfreg.errors import UnsupportedPipelineError
from airflow_provider_hfreg.pipelines.arguments import plain_arguments, refuse_tensors
from airflow_provider_hfreg.pipelines.base import Outputs, Results, Sequences, TaskContext
from airflow_provider_hfreg.pipelines.decoding import Decoding, decode
from airflow_provider_hfreg.pipelines.generation import (
    GENERATION_ARGUMENTS,
    refuse_more_than_text,
    run_params,
    with_defaults,
)
from airflow_provider_hfreg.pipelines.objects import object_lists
from airflow_provider_hfreg.signatures.features import DataType, FeatureSpec, ParamSpec
from airflow_provider_hfreg.signatures.output_format import OutputFormat
from airflow_provider_hfreg.signatures.signature import ModelSignature

HEADS = ("ForConditionalGeneration", "MTModel", "EncoderDecoderModel", "ForTextToText")
"""How the classes end that ``AutoModelForSeq2SeqLM`` builds."""

LAST_FAMILY = "4.57"
"""The last transformers with these pipelines."""

DEFAULTS: Mapping[str, Any] = MappingProxyType({"max_new_tokens": 256, "num_beams": 4})
"""What 4.57 adds where neither the user nor the model says otherwise."""

_PARAMS = (
    ParamSpec("truncation", DataType.BOOL),
    ParamSpec("clean_up_tokenization_spaces", DataType.BOOL),
)

ARGUMENTS = GENERATION_ARGUMENTS | {spec.name for spec in _PARAMS}
"""What the pipelines' factory takes."""

_DECODING = Decoding(alone=True, clean_up=False, spares_byte_pairs=False)


def signature(
    task: str, columns: tuple[str, str], parameters: Mapping[str, Any], more: tuple[ParamSpec, ...] = ()
) -> ModelSignature:
    """
    Return the signature of one text column in, one out.

    :param columns: their names.
    :param more: parameters of the task's own.
    :raises UnsupportedPipelineError: an option that gives something else than text.
    """
    refuse_tensors(parameters, task)
    refuse_more_than_text(parameters, task)
    inputs, outputs = (FeatureSpec(name, DataType.STRING) for name in columns)
    return ModelSignature((inputs,), (outputs,), run_params(parameters) + with_defaults((*_PARAMS, *more), parameters))


def structs(column: str, parameters: Mapping[str, Any], generation: Mapping[str, Any]) -> Mapping[str, pa.DataType]:
    """
    Return the type of the lists of texts, where a row has several; see :meth:`PipelineTask.structs`.

    >>> structs("summary_text", {"num_return_sequences": 2}, {})
    {'summary_text': ListType(list<item: struct<summary_text: string>>)}
    >>> structs("summary_text", {"num_return_sequences": 1}, {"num_return_sequences": 2})
    {}
    """
    name = "num_return_sequences"
    texts_each = next((said[name] for said in (parameters, generation) if said.get(name) is not None), 1)
    return {column: _objects(column)} if texts_each > 1 else {}


def arguments_of(
    task: str, preprocess: Mapping[str, Any], forward: Mapping[str, Any], postprocess: Mapping[str, Any]
) -> dict[str, Any]:
    """
    Return the factory's arguments; see :meth:`PipelineTask.parameters_of`.

    :raises UnsupportedPipelineError: the pipeline gives tensors, or was built with what no file holds.
    """
    given = {**preprocess, **forward, **postprocess}
    refuse_tensors(given, task)
    given.pop("return_type", None)  # it is text
    parameters = plain_arguments(given)
    if "truncation" in parameters:  # strategies differ for pairs alone
        parameters["truncation"] = parameters["truncation"] not in (False, "do_not_truncate")
    return parameters


def prefix_of(task: str, config: Mapping[str, Any]) -> str:
    """
    Return what stands before every text: the task's own, else the model's.

    >>> prefix_of("summarization", {"task_specific_params": {"summarization": {"prefix": "summarize: "}}})
    'summarize: '
    """
    own = (config.get("task_specific_params") or {}).get(task) or {}
    return str(own.get("prefix", config.get("prefix")) or "")


def sequences(
    texts: pa.StringArray, context: TaskContext, *, prefix: str = "", generation: Mapping[str, Any] | None = None
) -> Sequences:
    """
    Return one sequence per row.

    :param generation: settings that follow from the task.
    """
    return Sequences(
        row=np.arange(len(texts), dtype=np.int64),
        text=pc.binary_join_element_wise(prefix, texts, "") if prefix else texts,
        encoding=_encoding(context),
        settings={**_stop(context), **(generation or {})},
    )


def results(outputs: Outputs, context: TaskContext, column: str) -> Results:
    """
    Return the texts of each row; see the module.

    :raises UnsupportedPipelineError: structs are asked for, and the model gives several texts of its own accord.
    """
    counts = np.array([len(texts) for texts in outputs.generated], dtype=np.int32)
    generated = [ids for texts in outputs.generated for ids in texts]
    texts = pa.array(decode(context.tokenizer, generated, context.parameters, _DECODING), pa.string())
    declared = structs(column, context.parameters, context.generation)
    if not declared and (counts == 1).all():
        return Results(outputs.row, {column: texts})
    if not declared and context.output_format is OutputFormat.STRUCT:
        raise UnsupportedPipelineError(_SEVERAL)
    offsets = np.concatenate([np.zeros(1, np.int32), np.cumsum(counts, dtype=np.int32)])
    lists = object_lists(_objects(column), {column: texts}, offsets, context.output_format)
    return Results(outputs.row, {column: lists})


_SEVERAL = (
    "The model's own generation_config.json asks for several texts a row, and neither the version nor the run says so: "
    "a column of structs needs to be known before the model is. Give num_return_sequences in the run's parameters."
)


def _objects(column: str) -> pa.ListType:
    return pa.list_(pa.struct([(column, pa.string())]))


def _encoding(context: TaskContext) -> dict[str, Any]:
    truncation = context.parameters.get("truncation")
    if truncation is None:
        return {} if context.positions is None else {"truncation": True, "max_length": context.positions}
    return {"truncation": truncation}


def _stop(context: TaskContext) -> dict[str, Any]:
    """Return the settings that ``stop_sequence`` means here; text generation means the whole text by it."""
    given = context.parameters.get("stop_sequence")
    if given is None:
        return {}
    stops = [given] if isinstance(given, str) else given
    encoded = [context.tokenizer.encode(stop, add_special_tokens=False) for stop in stops]
    return {"stop_sequence": None, "eos_token_id": [ids[0] for ids in encoded if ids]}
