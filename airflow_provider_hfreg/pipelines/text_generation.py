"""
``text-generation``: a causal language model goes on from a prompt.

A row gives ``outputs``, the JSON list of its generated texts, as many as ``num_return_sequences``; each begins with the
prompt unless ``return_full_text`` is False. The prompt stands as it was given, whatever its tokens decode to, and
without the pipeline's ``prefix``.

A prompt longer than the model reads keeps its end and leaves room for the new tokens, as the pipeline does with
``handle_long_generation="hole"`` (without it the pipeline fails on such a prompt); ``truncation`` given leaves the cut
to the tokenizer. Inputs are plain texts: chats as lists of messages are no columns of this signature.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airflow_provider_hfreg.errors import UnsupportedPipelineError
from airflow_provider_hfreg.pipelines.arguments import plain_arguments, refuse_tensors
from airflow_provider_hfreg.pipelines.base import (
    Forward,
    Outputs,
    PipelineTask,
    PromptCut,
    Results,
    Sequences,
    TaskContext,
)
from airflow_provider_hfreg.pipelines.decoding import decoding_of, new_texts
from airflow_provider_hfreg.pipelines.generation import (
    GENERATION_ARGUMENTS,
    refuse_more_than_text,
    run_params,
    with_defaults,
)
from airflow_provider_hfreg.pipelines.objects import object_lists
from airflow_provider_hfreg.signatures.features import DataType, FeatureSpec, ParamSpec
from airflow_provider_hfreg.signatures.signature import ModelSignature

_INPUTS = (FeatureSpec("inputs", DataType.STRING),)
_OUTPUTS = (FeatureSpec("outputs", DataType.STRING),)
_OBJECTS = pa.list_(pa.struct([("generated_text", pa.string())]))
_PARAMS = (
    ParamSpec("return_full_text", DataType.BOOL),
    ParamSpec("prefix", DataType.STRING),
    ParamSpec("skip_special_tokens", DataType.BOOL),
    ParamSpec("clean_up_tokenization_spaces", DataType.BOOL),
    ParamSpec("handle_long_generation", DataType.STRING),
)
_ENCODING = frozenset({"add_special_tokens", "truncation", "padding", "tokenizer_encode_kwargs"})
# What the pipeline makes of its own arguments: computed again wherever it is rebuilt.
_DERIVED = frozenset({"prefix_length", "tokenizer", "stop_strings"})


class TextGeneration(PipelineTask):
    """See the module."""

    name: ClassVar[str] = "text-generation"
    auto_class: ClassVar[str] = "AutoModelForCausalLM"
    heads: ClassVar[tuple[str, ...]] = ("ForCausalLM", "LMHeadModel", "ModelWithLMHead", "ForConditionalGeneration")
    forward: ClassVar[Forward] = Forward.GENERATE
    arguments: ClassVar[frozenset[str]] = GENERATION_ARGUMENTS | {spec.name for spec in _PARAMS} | _ENCODING
    generation_defaults: ClassVar[Mapping[str, Any]] = {"max_new_tokens": 256, "do_sample": True, "temperature": 0.7}

    def signature(self, parameters: Mapping[str, Any]) -> ModelSignature:
        """Return the signature; a run may set the generation parameters and how its text is made."""
        refuse_tensors(parameters, self.name)
        refuse_more_than_text(parameters, self.name)
        handling = parameters.get("handle_long_generation")
        if handling not in (None, "hole"):
            raise UnsupportedPipelineError(f"handle_long_generation is {handling!r}; the pipeline knows only 'hole'.")
        return ModelSignature(_INPUTS, _OUTPUTS, run_params(parameters) + with_defaults(_PARAMS, parameters))

    def structs(
        self,
        parameters: Mapping[str, Any],  # noqa: ARG002  the type is the same for all
        generation: Mapping[str, Any],  # noqa: ARG002  as above
    ) -> Mapping[str, pa.DataType]:
        """Return the type of the lists, which one text has, too."""
        return {"outputs": _OBJECTS}

    def parameters_of(
        self, preprocess: Mapping[str, Any], forward: Mapping[str, Any], postprocess: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the factory's arguments: ``return_type`` was ``return_full_text``, stop strings ``stop_sequence``."""
        given = {**preprocess, **forward, **postprocess}
        refuse_tensors(given, self.name)
        parameters = {name: value for name, value in given.items() if name not in _DERIVED}
        if "return_type" in parameters:
            parameters["return_full_text"] = parameters.pop("return_type").name == "FULL_TEXT"
        stop = given.get("stop_strings")
        if stop is not None:
            # A single one as text: 4.57 takes no list.
            parameters["stop_sequence"] = stop[0] if len(stop) == 1 else stop
        return plain_arguments(parameters)

    def preprocess(self, rows: pa.RecordBatch, context: TaskContext) -> Sequences:
        """Return one prompt per row, the prefix before it."""
        prefix = _prefix(context)
        prompts = rows.column("inputs")
        return Sequences(
            row=np.arange(rows.num_rows, dtype=np.int64),
            text=pc.binary_join_element_wise(prefix, prompts, "") if prefix else prompts,
            encoding=_encoding(context.parameters),
            prompt_cut=_prompt_cut(context.parameters),
        )

    def postprocess(self, outputs: Outputs, rows: pa.RecordBatch, context: TaskContext) -> Results:
        """Return each row's texts."""
        counts = np.array([len(texts) for texts in outputs.generated], dtype=np.int32)
        of_sequence = np.repeat(np.arange(len(counts)), counts)
        texts = new_texts(
            context.tokenizer,
            outputs.input_ids.take(of_sequence),
            [ids for texts in outputs.generated for ids in texts],
            context.parameters,
            decoding_of(context.transformers_version),
        )
        if context.parameters.get("return_full_text") is not False:
            prompts = rows.column("inputs").take(pa.array(outputs.row[of_sequence], pa.int64())).to_pylist()
            texts = [prompt + text for prompt, text in zip(prompts, texts, strict=True)]
        offsets = np.concatenate([np.zeros(1, np.int32), np.cumsum(counts, dtype=np.int32)])
        values = {"generated_text": pa.array(texts, pa.string())}
        lists = object_lists(_OBJECTS, values, offsets, context.output_format)
        return Results(outputs.row, {"outputs": lists})


def _prefix(context: TaskContext) -> str:
    given = context.parameters.get("prefix")
    return str((context.config.get("prefix") or "") if given is None else given)


def _encoding(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """``max_length`` is a length of generation, not of the prompt: a pipeline is given that inside these arguments."""
    given = {
        name: parameters[name] for name in ("add_special_tokens", "truncation") if parameters.get(name) is not None
    }
    return given | dict(parameters.get("tokenizer_encode_kwargs") or {})


def _prompt_cut(parameters: Mapping[str, Any]) -> PromptCut:
    if parameters.get("handle_long_generation") == "hole":
        return PromptCut.MAKE_ROOM
    return PromptCut.TOO_LONG if _encoding(parameters).get("truncation") is None else PromptCut.NEVER
