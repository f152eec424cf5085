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
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airflow_provider_hfreg.errors import UnsupportedPipelineError
from airflow_provider_hfreg.pipelines.arguments import plain_arguments, refuse_tensors
from airflow_provider_hfreg.pipelines.base import Forward, Outputs, PipelineTask, Results, Sequences, TaskContext
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

_PARAMS = (
    ParamSpec("truncation", DataType.BOOL),
    ParamSpec("clean_up_tokenization_spaces", DataType.BOOL),
)

_DECODING = Decoding(alone=True, clean_up=False, spares_byte_pairs=False)


class TextToText(PipelineTask, is_whole=False):
    """
    What the tasks have in common; see the module.

    :cvar columns: names of the text column in, and of the one out.
    :cvar own_params: run parameters beside those of all these tasks.
    """

    columns: ClassVar[tuple[str, str]]
    own_params: ClassVar[tuple[ParamSpec, ...]] = ()
    auto_class: ClassVar[str] = "AutoModelForSeq2SeqLM"
    heads: ClassVar[tuple[str, ...]] = ("ForConditionalGeneration", "MTModel", "EncoderDecoderModel", "ForTextToText")
    forward: ClassVar[Forward] = Forward.GENERATE
    arguments: ClassVar[frozenset[str]] = GENERATION_ARGUMENTS | {spec.name for spec in _PARAMS}
    last_family: ClassVar[str | None] = "4.57"
    generation_defaults: ClassVar[Mapping[str, Any]] = MappingProxyType({"max_new_tokens": 256, "num_beams": 4})

    def signature(self, parameters: Mapping[str, Any]) -> ModelSignature:
        """Return the signature; one text and several have the same column."""
        refuse_tensors(parameters, self.name)
        refuse_more_than_text(parameters, self.name)
        inputs, outputs = (FeatureSpec(name, DataType.STRING) for name in self.columns)
        own = with_defaults((*_PARAMS, *self.own_params), parameters)
        return ModelSignature((inputs,), (outputs,), run_params(parameters) + own)

    def structs(self, parameters: Mapping[str, Any], generation: Mapping[str, Any]) -> Mapping[str, pa.DataType]:
        """Return the type of the lists of texts, where a row has several."""
        name = "num_return_sequences"
        texts_each = next((said[name] for said in (parameters, generation) if said.get(name) is not None), 1)
        return {self.columns[1]: _objects(self.columns[1])} if texts_each > 1 else {}

    def parameters_of(
        self, preprocess: Mapping[str, Any], forward: Mapping[str, Any], postprocess: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the factory's arguments."""
        given = {**preprocess, **forward, **postprocess}
        refuse_tensors(given, self.name)
        given.pop("return_type", None)  # it is text
        parameters = plain_arguments(given)
        if "truncation" in parameters:  # strategies differ for pairs alone
            parameters["truncation"] = parameters["truncation"] not in (False, "do_not_truncate")
        return parameters

    def preprocess(self, rows: pa.RecordBatch, context: TaskContext) -> Sequences:
        """Return each text after the model's prefix, if it has one."""
        return sequences(rows.column(self.columns[0]), context, prefix=prefix_of(self.name, context.config))

    def postprocess(
        self,
        outputs: Outputs,
        rows: pa.RecordBatch,  # noqa: ARG002  other tasks give parts of the row back
        context: TaskContext,
    ) -> Results:
        """
        Return each row's texts.

        :raises UnsupportedPipelineError: structs are asked for, and the model gives several texts of its own accord.
        """
        column = self.columns[1]
        counts = np.array([len(texts) for texts in outputs.generated], dtype=np.int32)
        generated = [ids for texts in outputs.generated for ids in texts]
        texts = pa.array(decode(context.tokenizer, generated, context.parameters, _DECODING), pa.string())
        declared = self.structs(context.parameters, context.generation)
        if not declared and (counts == 1).all():
            return Results(outputs.row, {column: texts})
        if not declared and context.output_format is OutputFormat.STRUCT:
            raise UnsupportedPipelineError(_SEVERAL)
        offsets = np.concatenate([np.zeros(1, np.int32), np.cumsum(counts, dtype=np.int32)])
        lists = object_lists(_objects(column), {column: texts}, offsets, context.output_format)
        return Results(outputs.row, {column: lists})


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
