"""
What the generating tasks share: the parameters of a run, the families' defaults, and the room that a prompt must leave.

The settings have transformers' own names and meanings. This module knows no task and no torch; how a loaded model takes
the settings is the business of ``inference/``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from airflow_provider_hfreg.errors import UnsupportedPipelineError
from airflow_provider_hfreg.pipelines.base import IntArray, PromptCut
from airflow_provider_hfreg.signatures.features import DataType, ParamSpec

_INT, _REAL, _BOOL = DataType.INT64, DataType.DOUBLE, DataType.BOOL

# What a run may set, in the order of the documentation; both families know all of them.
_RUN_PARAMS = (
    ParamSpec("max_new_tokens", _INT),
    ParamSpec("min_new_tokens", _INT),
    ParamSpec("max_length", _INT),
    ParamSpec("min_length", _INT),
    ParamSpec("do_sample", _BOOL),
    ParamSpec("temperature", _REAL),
    ParamSpec("top_k", _INT),
    ParamSpec("top_p", _REAL),
    ParamSpec("min_p", _REAL),
    ParamSpec("typical_p", _REAL),
    ParamSpec("epsilon_cutoff", _REAL),
    ParamSpec("eta_cutoff", _REAL),
    ParamSpec("num_beams", _INT),
    ParamSpec("length_penalty", _REAL),
    ParamSpec("num_return_sequences", _INT),
    ParamSpec("repetition_penalty", _REAL),
    ParamSpec("no_repeat_ngram_size", _INT),
    ParamSpec("bad_words_ids", _INT, shape=(-1, -1)),
    ParamSpec("suppress_tokens", _INT, shape=(-1,)),
    ParamSpec("begin_suppress_tokens", _INT, shape=(-1,)),
    ParamSpec("eos_token_id", _INT, shape=(-1,)),
    ParamSpec("stop_sequence", DataType.STRING, shape=(-1,)),
    ParamSpec("renormalize_logits", _BOOL),
    ParamSpec("remove_invalid_values", _BOOL),
)

# Settings that only a pipeline's builder gives: they follow from the model, not from the run.
_BUILD_ONLY = frozenset(
    {
        "bos_token_id",
        "decoder_start_token_id",
        "early_stopping",
        "encoder_no_repeat_ngram_size",
        "encoder_repetition_penalty",
        "exponential_decay_length_penalty",
        "forced_bos_token_id",
        "forced_eos_token_id",
        "guidance_scale",
        "max_time",
        "pad_token_id",
        "prompt_lookup_num_tokens",
        "sequence_bias",
        "stop_strings",
        "token_healing",
        "top_h",
        "use_cache",
    }
)

GENERATION_ARGUMENTS = frozenset({spec.name for spec in _RUN_PARAMS}) | _BUILD_ONLY
"""Every generation setting that a pipeline may be described with."""

# With these, the pipeline's results hold more than text.
_MORE_THAN_TEXT = (
    "return_dict_in_generate",
    "output_scores",
    "output_logits",
    "output_attentions",
    "output_hidden_states",
)

_SAMPLING = frozenset({"temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff"})


def run_params(parameters: Mapping[str, Any], *, without: frozenset[str] = frozenset()) -> tuple[ParamSpec, ...]:
    """
    Return the generation parameters of a signature; their defaults are what the pipeline was built with.

    >>> run_params({"max_new_tokens": 100})[0]
    ParamSpec(dtype=DataType.INT64, name='max_new_tokens', default_value=100)

    :param without: names that mean something else in the task.
    """
    return with_defaults((spec for spec in _RUN_PARAMS if spec.name not in without), parameters)


def with_defaults(specs: Any, parameters: Mapping[str, Any]) -> tuple[ParamSpec, ...]:
    """Return parameters with the pipeline's own values as their defaults."""
    return tuple(replace(spec, default_value=parameters.get(spec.name)) for spec in specs)


def generation_arguments(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return what ``generate`` is given of a pipeline's parameters, under its own names; what is no setting stays in.

    >>> generation_arguments({"num_beams": 2, "stop_sequence": "."})
    {'num_beams': 2, 'stop_strings': ['.']}
    """
    arguments = {name: value for name, value in parameters.items() if name != "stop_sequence"}
    stop = parameters.get("stop_sequence")
    if stop is not None:
        arguments["stop_strings"] = [stop] if isinstance(stop, str) else list(stop)
    return arguments


def refuse_more_than_text(parameters: Mapping[str, Any], task: str) -> None:
    """
    Refuse settings that put scores or attentions beside the text.

    :raises UnsupportedPipelineError: one is on, named.
    """
    for name in _MORE_THAN_TEXT:
        if parameters.get(name):
            raise UnsupportedPipelineError(
                f"The {task} pipeline was built with {name}=True, which puts tensors beside the text, and no output "
                f"column of the task holds them. Build it without {name}."
            )


def unset_defaults(defaults: Mapping[str, Any], given: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return those of a family's defaults that hold: what neither the user nor the model's own file says.

    >>> defaults = {"max_new_tokens": 256, "do_sample": True, "temperature": 0.7}
    >>> unset_defaults(defaults, {"do_sample": False}, {"max_length": 50})
    {}

    :param given: what the user gave.
    :param model: the model's ``generation_config.json``.
    """
    said = {name for source in (model, given) for name, value in source.items() if value is not None}
    held = {name: value for name, value in defaults.items() if name not in said}
    if "max_length" in said:
        held.pop("max_new_tokens", None)  # it would silence the length that somebody chose
    samples = next(
        (source["do_sample"] for source in (given, model, held) if source.get("do_sample") is not None), None
    )
    return held if samples else {name: value for name, value in held.items() if name not in _SAMPLING}


def described_generation(
    defaults: Mapping[str, Any], specific: Mapping[str, Any], given: Mapping[str, Any], model: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """
    Return what a pipeline counts as given, and what it adds to that.

    A model's settings for a task go before what the pipeline was built with, as up to 4.57.

    >>> specific = {"num_beams": 4, "prefix": "summarize: "}
    >>> described_generation({"max_new_tokens": 256}, specific, {"num_beams": 2, "truncation": True}, {})
    ({'truncation': True}, {'max_new_tokens': 256, 'num_beams': 4})

    :param defaults: the family's.
    :param specific: the model's ``task_specific_params`` of the task.
    :param model: the model's ``generation_config.json``.
    """
    settings = {name: value for name, value in specific.items() if name in GENERATION_ARGUMENTS and value is not None}
    added = {**unset_defaults(defaults, given, model), **settings}
    return (
        {name: value for name, value in given.items() if name not in settings},
        {name: value for name, value in added.items() if model.get(name) != value},
    )


def kept_tokens(lengths: IntArray, *, limit: int, new_tokens: int, cut: PromptCut) -> IntArray:
    """
    Return how many of its last tokens each prompt keeps.

    >>> kept_tokens(np.array([5, 8, 12]), limit=10, new_tokens=4, cut=PromptCut.TOO_LONG).tolist()
    [5, 8, 6]
    >>> kept_tokens(np.array([5, 8, 12]), limit=10, new_tokens=4, cut=PromptCut.MAKE_ROOM).tolist()
    [5, 6, 6]

    :param lengths: tokens of each prompt.
    :param limit: tokens that the model can read.
    :param new_tokens: how many may follow. Where they alone fill the limit, nothing is cut: no prompt would be left.
    """
    room = limit - new_tokens
    if cut is PromptCut.NEVER or room <= 0:
        return lengths
    longest = room if cut is PromptCut.MAKE_ROOM else limit
    return np.where(lengths > longest, room, lengths)
