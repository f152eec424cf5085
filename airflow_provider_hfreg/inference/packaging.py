"""
A pipeline object to a plain Hugging Face folder and a :class:`~airflow_provider_hfreg.pipelines.spec.PipelineSpec`.

The folder holds safetensors, configurations and the tokenizer, and nothing else: no pickle, no access token, no path
of the machine that logged. The spec holds what the folder cannot: the task, what the pipeline was built with, the
dtype, the attention implementation if one was chosen. Device, batch size and workers are the runner's business and are
not kept. Packaging the same pipeline twice gives the same bytes, so that its digest names its content.
"""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airflow_provider_hfreg.errors import InvalidOptionError, UnsupportedPipelineError
from airflow_provider_hfreg.inference.frameworks import safetensors, transformers
from airflow_provider_hfreg.inference.generation_settings import settings_of_pipeline
from airflow_provider_hfreg.inference.loading import quiet
from airflow_provider_hfreg.inference.passthrough import (
    built_with,
    check_own_class,
    check_whole,
    is_own_class,
    save_class,
    save_parts,
)
from airflow_provider_hfreg.inference.portable import portable_model_config
from airflow_provider_hfreg.inference.stand_in import StandInPipeline, folder_of
from airflow_provider_hfreg.pipelines.arguments import plain_arguments
from airflow_provider_hfreg.pipelines.base import PipelineTask
from airflow_provider_hfreg.pipelines.catalog import find_task
from airflow_provider_hfreg.pipelines.json_files import needs_own_code
from airflow_provider_hfreg.pipelines.spec import PipelineSpec
from airflow_provider_hfreg.pipelines.weights import describe_weights

_SHARD_SIZE = "5GB"  # the families' defaults differ, and so would the files
_TOKEN_KEYS = frozenset({"token", "use_auth_token", "auth_token", "hf_token", "access_token"})


def package_pipeline(pipe: Any, folder: Path) -> PipelineSpec:
    """
    Write ``pipe`` into ``folder`` and describe it.

    :param pipe: a ``transformers.Pipeline`` with its weights in memory, or the stand-in for one.
    :param folder: an empty folder.
    :raises UnsupportedPipelineError: something that a registry cannot hold: weights that are not there, adapters not
        merged, ``return_tensors``, an argument that is no plain value.
    :raises OSError: the folder cannot be written, or its disk is full.
    """
    check_self_contained(pipe)
    task = find_task(pipe.task)
    parameters, added = _parameters(pipe, task)
    if task is not None:  # both refuse what no version can hold, before anything is written
        task.signature(parameters)
        task.auto_class_of(pipe.model.config.to_dict())
    folder.mkdir(parents=True, exist_ok=True)
    with quiet(), _disk_errors_as_such(folder):
        pipe.model.save_pretrained(folder, max_shard_size=_SHARD_SIZE)
    save_parts(pipe, folder)
    _restore_model_config(pipe, folder)
    if is_own_class(pipe):
        save_class(pipe, folder)
    if task is not None:
        width = getattr(pipe.model.config.get_text_config(), "hidden_size", None)
        _write_json_files(task.files_of(parameters, width), folder)
    _scrub(folder)
    config, weights = pipe.model.config, describe_weights(folder)
    return PipelineSpec(
        task=pipe.task,
        parameters=parameters,
        generation=added,
        dtype=str(pipe.model.dtype).removeprefix("torch."),
        attn_implementation=_attention_given(pipe.model),
        architecture=type(pipe.model).__name__,
        parameter_count=weights.parameter_count,
        weights_size_bytes=weights.size_bytes,
        transformers_version=transformers.__version__,
        source=_hub_source(config),
        remote_code=needs_own_code(folder, pipe.task) or is_own_class(pipe),
    )


def check_self_contained(pipe: Any) -> None:
    """
    Refuse what is no pipeline with all its weights in memory.

    :raises UnsupportedPipelineError: it is none; the message says what to log instead.
    """
    if not isinstance(pipe, transformers.Pipeline | StandInPipeline):
        raise UnsupportedPipelineError(
            f"A {type(pipe).__name__} holds no weights that could be logged: what is logged must run without the hub. "
            "Build the pipeline, pipe = transformers.pipeline(task, model=…), and log pipe; a folder or a hub id is "
            "logged with log_folder or log_hub_model."
        )
    model = pipe.model
    if not isinstance(model, transformers.PreTrainedModel) or any(weight.is_meta for weight in model.parameters()):
        raise UnsupportedPipelineError(
            f"The pipeline's model is a {type(model).__name__} whose weights are not all in memory. Load it whole "
            "(no device_map that offloads, no empty weights) and log it again."
        )
    if getattr(model, "_hf_peft_config_loaded", False):
        raise UnsupportedPipelineError(
            "The pipeline's model has adapters that are not merged into its weights, and saving it would keep only the "
            "adapters. Merge them (peft's merge_and_unload) and log the pipeline again."
        )
    task = find_task(pipe.task)
    if is_own_class(pipe):
        check_own_class(pipe, is_ours=task is not None)
    if task is None:
        check_whole(pipe)
    elif pipe.tokenizer is None:
        raise UnsupportedPipelineError(f"The {pipe.task} pipeline has no tokenizer, so it cannot read text.")


def check_methods_kept(pipe: Any, target_methods: Sequence[str]) -> None:
    """
    Refuse methods of a pipeline whose version loads as a callable of ours: they would be asked of another class.

    :raises InvalidOptionError: there is one beside the call.
    """
    task = find_task(pipe.task)
    others = [name for name in target_methods if name != "__call__"]
    if others and task is not None and task.own_callable and not isinstance(pipe, StandInPipeline):
        raise InvalidOptionError(
            f"The option 'target_methods' names {others[0]!r} of a {type(pipe).__name__}, and a version of {pipe.task} "
            "loads as a callable of this package, since transformers' own gives something else. Build the pipeline "
            "with airflow_provider_hfreg.inference.pipeline and name methods of that, or name '__call__' alone."
        )


def _parameters(pipe: Any, task: PipelineTask | None) -> tuple[dict[str, Any], dict[str, Any]]:
    if isinstance(pipe, StandInPipeline):
        return dict(sorted(pipe.parameters.items())), dict(sorted(pipe.generation.items()))
    if task is None:
        return built_with(pipe)
    steps = (pipe._preprocess_params, pipe._forward_params, pipe._postprocess_params)  # noqa: SLF001 - no public way
    given, added = settings_of_pipeline(pipe)
    parameters = {**plain_arguments(given), **task.spelt(task.parameters_of(*steps), pipe.tokenizer)}
    parameters = task.completed(parameters, folder_of(pipe.model))
    return dict(sorted(parameters.items())), dict(sorted(plain_arguments(added).items()))


@contextmanager
def _disk_errors_as_such(folder: Path) -> Iterator[None]:
    """Let the system's errors be ``OSError``: safetensors tells them in the words of an error of its own."""
    try:
        yield
    except safetensors.SafetensorError as error:
        code = re.search(r"\(os error (\d+)\)", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(folder)) from error


def _restore_model_config(pipe: Any, folder: Path) -> None:
    """Write what the families took out of the model's configuration: 4.57 the prefix of the task."""
    path = folder / "config.json"
    saved = json.loads(path.read_text(encoding="utf-8"))
    config = copy.deepcopy(saved) | portable_model_config(saved)
    settings = (config.get("task_specific_params") or {}).get(pipe.task)
    prefix = getattr(pipe, "prefix", None)
    if settings is not None and prefix is not None and prefix != config.get("prefix"):
        settings["prefix"] = prefix
    if config != saved:
        path.write_text(json.dumps(config, ensure_ascii=False, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _write_json_files(files: Mapping[str, Any], folder: Path) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _scrub(folder: Path) -> None:
    """Take tokens and this machine's paths out of the configurations; tokens that hide elsewhere the registry finds."""
    for path in sorted(folder.glob("*config.json")):
        config = json.loads(path.read_text(encoding="utf-8"))
        clean = {name: value for name, value in config.items() if name not in _TOKEN_KEYS | {"_name_or_path"}}
        if clean != config:
            path.write_text(json.dumps(clean, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _attention_given(network: Any) -> str | None:
    """Return the attention that somebody chose; None for the family's own choice, of which a folder says nothing."""
    used: str | None = getattr(network.config, "_attn_implementation", None)
    return None if used == ("sdpa" if getattr(network, "_supports_sdpa", False) else "eager") else used


def _hub_source(config: Any) -> dict[str, str] | None:
    name, commit = getattr(config, "_name_or_path", None), getattr(config, "_commit_hash", None)
    return {"repo_id": name, "commit": commit} if name and commit else None
