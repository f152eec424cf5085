"""
A Hugging Face folder as a pipeline: described from its small files and the headers of its weights.

Nothing is loaded and neither torch nor transformers is needed, so a scheduler's worker logs a model of any size. What
can be told to be wrong from here is refused here, before anything is uploaded: a folder without a tokenizer, a head
that the task cannot use, an argument that the task does not have. Whether the weights fit the configuration shows when
the model is loaded.

The description equals that of ``transformers.pipeline(task, model=folder, **pipeline_kwargs)`` when logged: what the
installed family would add on its own is written down here, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_provider_hfreg.errors import InvalidOptionError, UnsupportedPipelineError
from airflow_provider_hfreg.pipelines.arguments import checked_arguments, plain_arguments
from airflow_provider_hfreg.pipelines.base import PipelineTask
from airflow_provider_hfreg.pipelines.catalog import find_task
from airflow_provider_hfreg.pipelines.generation import described_generation
from airflow_provider_hfreg.pipelines.installed import find_version
from airflow_provider_hfreg.pipelines.json_files import needs_own_code, read_json_object
from airflow_provider_hfreg.pipelines.spec import PipelineSpec
from airflow_provider_hfreg.pipelines.weights import describe_weights

# Any of these is a tokenizer's vocabulary; tokenizer_config.json alone is none.
_VOCABULARIES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "tekken.json",
    "*.spm",
    "*.bpe.model",
    "spiece.model",
    "spm.model",
    "*.tiktoken",
    "bpe.codes",
)

# Of transformers.pipeline, but no part of a version.
_NOT_KEPT = {
    "model": "the folder is the model",
    "tokenizer": "the folder holds it",
    "config": "the folder holds it",
    "device": "where a model runs is chosen when it is loaded",
    "device_map": "where a model runs is chosen when it is loaded",
    "batch_size": "batches are cut to suit the device",
    "num_workers": "rows are read and tokenised by the engine",
    "framework": "it is torch",
    "token": "an access token is never stored",
    "use_auth_token": "an access token is never stored",
    "revision": "give it to log_hub_model",
    "trust_remote_code": "give it to the call that logs",
}
_OF_LOADING = frozenset({"dtype", "torch_dtype", "attn_implementation"})


def describe_folder(
    folder: Path, task: str, pipeline_kwargs: Mapping[str, Any] | None = None, *, dtype: str | None = None
) -> PipelineSpec:
    """
    Describe the pipeline that a folder holds.

    :param folder: as ``save_pretrained`` writes it; weights may be sketched by their headers, in files of their size.
    :param task: the pipeline task or an alias; it is kept as written, except ``translation``, which a model that tells
        its pairs of languages runs as its first one.
    :param pipeline_kwargs: what ``transformers.pipeline`` would be given besides: ``top_k``, ``max_new_tokens`` …
    :param dtype: to load the weights in; None for the one they were saved in.
    :raises InvalidOptionError: an argument that the task does not have.
    :raises UnknownParameterError: a value that the argument cannot have.
    :raises UnsupportedPipelineError: the folder or an argument cannot make a version, with the way out.
    :raises UnsafeModelError: its weights are pickles.
    :raises IntegrityError: a file is damaged.
    """
    loading, arguments = _split(dict(pipeline_kwargs or {}))
    pipeline_task = find_task(task)
    if pipeline_task is None:
        _check_named(folder)
        return _described(folder, task, loading, dtype, parameters=plain_arguments(arguments))
    parameters = pipeline_task.completed(checked_arguments(pipeline_task, arguments), folder)
    config = _read_config(folder)
    name = pipeline_task.name_under(task, config)
    _check_head(pipeline_task, config, folder)
    _check_tokenizer(folder)
    model_settings = read_json_object(folder / "generation_config.json") or {}
    specific = _task_settings(pipeline_task, name, config)
    given, added = described_generation(pipeline_task.generation_defaults, specific, parameters, model_settings)
    return _described(folder, name, loading, dtype, parameters=given, generation=added)


def _described(
    folder: Path,
    task: str,
    loading: Mapping[str, Any],
    dtype: str | None,
    **built_with: Mapping[str, Any],
) -> PipelineSpec:
    config, weights = _read_config(folder), describe_weights(folder)
    return PipelineSpec(
        task=task,
        **built_with,
        dtype=_dtype(dtype or loading.get("dtype") or loading.get("torch_dtype"), config) or weights.dtype,
        attn_implementation=loading.get("attn_implementation"),
        architecture=_architecture(config),
        parameter_count=weights.parameter_count,
        weights_size_bytes=weights.size_bytes,
        transformers_version=find_version("transformers"),
        remote_code=needs_own_code(folder, task),
    )


def _split(pipeline_kwargs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Part what concerns loading from what concerns running; ``model_kwargs`` hold some of the former."""
    given = {**pipeline_kwargs.pop("model_kwargs", {}), **pipeline_kwargs}
    for name, reason in _NOT_KEPT.items():
        if given.get(name) is not None:
            raise InvalidOptionError(f"pipeline_kwargs holds {name!r}, which is no part of a version: {reason}.")
    loading = {name: value for name, value in given.items() if name in _OF_LOADING}
    return loading, {name: value for name, value in given.items() if name not in {*_OF_LOADING, *_NOT_KEPT}}


def _read_config(folder: Path) -> dict[str, Any]:
    config = read_json_object(folder / "config.json")
    if config is None:
        raise UnsupportedPipelineError(
            f"{folder} is no folder of a Hugging Face model: it has no config.json. Give the folder that "
            "save_pretrained wrote (of a Trainer's output, one with the final model or a checkpoint)."
        )
    return config


def _architecture(config: Mapping[str, Any]) -> str | None:
    return next(iter(config.get("architectures") or ()), None)


def _check_named(folder: Path) -> None:
    """Refuse a folder that does not say what it holds: only for our own tasks is it known what to load it as."""
    if _architecture(_read_config(folder)) is None:
        raise UnsupportedPipelineError(
            f"{folder} does not say in config.json which model it holds ('architectures'). Save it again with "
            "save_pretrained, or log it as a pipeline object with log_model."
        )


def _check_head(task: PipelineTask, config: Mapping[str, Any], folder: Path) -> None:
    """Refuse a model without the task's head; one of the model's own code may be called anything."""
    architecture = _architecture(config)
    if architecture is None or config.get("auto_map"):
        return
    is_sequence_to_sequence = bool(config.get("is_encoder_decoder")) and architecture.endswith("Generation")
    if not architecture.endswith(task.heads) or (
        is_sequence_to_sequence and task.auto_class_of(config) == "AutoModelForCausalLM"
    ):
        raise UnsupportedPipelineError(
            f"{folder} holds a {architecture}, and {task.name} needs one whose name ends in {' or '.join(task.heads)}: "
            "transformers would draw the missing head at random. Log it for the task it was trained for, or fine-tune "
            "it for this one."
        )
    task.auto_class_of(config)  # refuses what has the right name and is no model for the task


def _task_settings(task: PipelineTask, name: str, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the model's own settings for a task, which transformers 5 reads no more."""
    heeded = task.last_family is not None or (find_version("transformers") or "").startswith("4.")
    return ((config.get("task_specific_params") or {}).get(name) or {}) if heeded else {}


def _check_tokenizer(folder: Path) -> None:
    if not any(path.is_file() for pattern in _VOCABULARIES for path in folder.glob(pattern)):
        raise UnsupportedPipelineError(
            f"{folder} holds no tokenizer, so the model cannot read text. Save it beside the model: "
            "tokenizer.save_pretrained(folder) (with a Trainer, give it processing_class=tokenizer)."
        )


def _dtype(given: Any, config: Mapping[str, Any]) -> str | None:
    """Return the dtype as torch names it without the module; "auto" is the one that the configuration tells."""
    told = config.get("dtype") or config.get("torch_dtype")
    chosen = told if given in (None, "auto") else given
    return None if chosen is None else str(chosen).removeprefix("torch.")
