"""
Pipelines of other tasks than ours: what is kept of one, and how transformers' own class is built from it again.

The network is loaded as for our tasks (dtype and attention as recorded, nothing fetched, no weight missing); the parts
that a pipeline has besides, tokenizer, feature extractor, image processor, are loaded where its class wants them.

A class of somebody's own is kept the way the hub keeps it: its Python file lies in the folder and ``custom_pipelines``
in ``config.json`` names it. That is code that comes with a model, so it needs consent at logging and at loading.
"""

from __future__ import annotations

import inspect
import json
import pkgutil
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_provider_hfreg.errors import ModelLoadError, UnsupportedPipelineError
from airflow_provider_hfreg.inference.frameworks import torch, transformers
from airflow_provider_hfreg.inference.generation_settings import settings_of_pipeline
from airflow_provider_hfreg.inference.loading import (
    as_load_error,
    built_as_logged,
    encodes_as_4,
    load_network,
    prepare_loading,
    quiet,
)
from airflow_provider_hfreg.inference.portable import load_tokenizer, save_tokenizer
from airflow_provider_hfreg.pipelines.arguments import plain_arguments
from airflow_provider_hfreg.pipelines.catalog import find_task
from airflow_provider_hfreg.pipelines.spec import PipelineSpec

_REGISTER = (
    "Put the class into a Python file, register it for a task of its own (transformers.pipelines.PIPELINE_REGISTRY."
    "register_pipeline('my-task', pipeline_class=…, pt_model=…)), build the pipeline for that task, and log it with "
    "signatures=… and trust_remote_code=True: the file is stored beside the model."
)
_PARTS = {  # besides the network → the class that loads it; the tokenizer has a loader of its own
    "tokenizer": "AutoTokenizer",
    "processor": "AutoProcessor",
    "feature_extractor": "AutoFeatureExtractor",
    "image_processor": "AutoImageProcessor",
    "video_processor": "AutoVideoProcessor",
}


def load_own_pipeline(
    folder: Path, spec: PipelineSpec, *, device: str | None = None, trust_remote_code: bool = False
) -> Any:
    """
    Load a version as transformers' own pipeline object, equal to the one that was logged.

    :raises UnsafeModelError: the version brings Python files and nobody consented.
    :raises ModelTooLargeError: the weights do not fit; nothing was loaded.
    :raises ModelLoadError: transformers cannot build it, or has no pipeline for the task.
    """
    chosen, local = prepare_loading(folder, spec, device, trust_remote_code=trust_remote_code)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    pipeline_class = _pipeline_class(folder, spec, config)
    network = load_network(folder, spec, lambda config: _network_class(config, spec), chosen, **local)
    with as_load_error(folder, spec), quiet():
        parts = _load_parts(pipeline_class, folder, spec, local)

        def build(**parameters: Any) -> Any:
            return pipeline_class(model=network, task=spec.task, device=torch.device(chosen), **parts, **parameters)

        return built_as_logged(build, spec)


def _pipeline_class(folder: Path, spec: PipelineSpec, config: Mapping[str, Any]) -> Any:
    own = (config.get("custom_pipelines") or {}).get(spec.task)
    if own is not None:
        with as_load_error(folder, spec):
            return transformers.dynamic_module_utils.get_class_from_dynamic_module(
                own["impl"], str(folder), local_files_only=True
            )
    try:
        _, entry, _ = transformers.pipelines.check_task(spec.task)
    except KeyError:
        raise ModelLoadError(
            f"transformers {transformers.__version__} has no pipeline for the task {spec.task!r}, and {folder} holds "
            f"none of its own. Load it with the transformers that it was logged under ({spec.transformers_version}), "
            "or register a class for the task first (transformers.pipelines.PIPELINE_REGISTRY.register_pipeline)."
        ) from None
    # 5 names its classes, so that importing transformers loads none of them.
    return pkgutil.resolve_name(entry["impl"]) if isinstance(entry["impl"], str) else entry["impl"]


def _network_class(config: Mapping[str, Any], spec: PipelineSpec) -> Any:
    """Return the model's own class; one of remote code is reached through the auto class that knows it."""
    for auto_class, reference in (config.get("auto_map") or {}).items():
        if str(reference).rpartition(".")[2] == spec.architecture:
            return getattr(transformers, auto_class)
    return getattr(transformers, str(spec.architecture))


def _load_parts(pipeline_class: Any, folder: Path, spec: PipelineSpec, local: Mapping[str, Any]) -> dict[str, Any]:
    """Load what the class says it needs, and of what it may use, what the folder holds."""
    parts = {}
    for name, auto_class in _PARTS.items():
        needed = getattr(pipeline_class, f"_load_{name}", False)  # None: may use it
        if needed or (needed is None and _holds(folder, name)):
            if name == "tokenizer":
                parts[name] = load_tokenizer(folder, as_4=encodes_as_4(spec, None), **local)
            else:
                parts[name] = getattr(transformers, auto_class).from_pretrained(folder, **local)
    return parts


def _holds(folder: Path, part: str) -> bool:
    if part == "tokenizer":
        return (folder / "tokenizer_config.json").is_file()
    if part == "processor":
        return (folder / "processor_config.json").is_file()
    if part == "video_processor":
        return (folder / "video_preprocessor_config.json").is_file()
    path = folder / "preprocessor_config.json"  # of either kind, which it tells
    return path.is_file() and f"{part}_type" in json.loads(path.read_text(encoding="utf-8"))


def save_parts(pipe: Any, folder: Path) -> None:
    """Write what a pipeline has besides its network: tokenizer and processors."""
    for name in _PARTS:
        part = getattr(pipe, name, None)
        if part is not None and name != "tokenizer":
            part.save_pretrained(folder)
    if pipe.tokenizer is not None:
        save_tokenizer(pipe.tokenizer, folder, keep_class=find_task(pipe.task) is None)


def built_with(pipe: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """
    Return what a pipeline was built with, under the names that its class takes, and what its family added.

    Nothing is taken on trust: what is found is put through the class's own reading of arguments, which must come out
    at the pipeline's settings, and what it would have set anyway is left out.

    :raises UnsupportedPipelineError: an argument cannot be found again, or is no plain value.
    """
    given, added = settings_of_pipeline(pipe)
    steps = _steps_of(pipe)
    accepted = inspect.signature(pipe._sanitize_parameters).parameters  # noqa: SLF001  there is no public way
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values())
    found = {
        name: value
        for step in steps
        for name, value in step.items()
        if value is not None and (takes_any or name in accepted)
    }
    if _read(pipe, found) != steps:
        raise UnsupportedPipelineError(
            f"The {pipe.task} pipeline ({type(pipe).__name__}) does not keep what it was built with under the names "
            f"that it takes (it has {', '.join(sorted({name for step in steps for name in step}))}), so that cannot be "
            "part of a version. Build it without these arguments, and give them at each run, as params of the "
            "signature."
        )
    for name in list(found):
        without = {other: value for other, value in found.items() if other != name}
        if _read(pipe, without) == steps:
            found = without
    parameters = {**plain_arguments(given), **found}
    added = {name: value for name, value in plain_arguments(added).items() if name not in parameters}
    return dict(sorted(parameters.items())), dict(sorted(added.items()))


def _steps_of(pipe: Any) -> list[dict[str, Any]]:
    return [
        plain_arguments(step)
        for step in (pipe._preprocess_params, pipe._forward_params, pipe._postprocess_params)  # noqa: SLF001  as above
    ]


def _read(pipe: Any, parameters: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it would warn of, it said when the pipeline was built
            return [plain_arguments(step) for step in pipe._sanitize_parameters(**parameters)]  # noqa: SLF001  as above
    except (TypeError, ValueError):
        return None


def check_whole(pipe: Any) -> None:
    """
    Refuse a pipeline with more in it than its network and the parts that :func:`save_parts` writes.

    :raises UnsupportedPipelineError: it has a second network, a language model, or a network of an unknown class.
    """
    for name, value in vars(pipe).items():
        is_second = isinstance(value, torch.nn.Module) and value is not pipe.model
        if is_second or (name == "decoder" and value is not None):
            raise UnsupportedPipelineError(
                f"The {pipe.task} pipeline has a {name} ({type(value).__name__}) besides its model, and a version "
                "holds one model. Build it without one."
            )
    network_class = type(pipe.model)
    is_known = getattr(transformers, network_class.__name__, None) is network_class
    if not is_known and not getattr(pipe.model.config, "auto_map", None):
        raise UnsupportedPipelineError(
            f"The pipeline's model is a {network_class.__name__}, which transformers does not have, so nobody could "
            "load it again. Register it for its auto class (register_for_auto_class): its code is then saved with it."
        )


def is_own_class(pipe: Any) -> bool:
    """Tell whether a pipeline is of a class that somebody derived from transformers'."""
    return isinstance(pipe, transformers.Pipeline) and not type(pipe).__module__.startswith("transformers.")


def check_own_class(pipe: Any, *, is_ours: bool) -> None:
    """
    Refuse a class of somebody's own that a worker could not find again, or that would not be asked.

    :param is_ours: the task is one that this package runs itself.
    :raises UnsupportedPipelineError: it is such a class.
    """
    name, module = type(pipe).__name__, type(pipe).__module__
    if is_ours:
        raise UnsupportedPipelineError(
            f"The pipeline is a {name}, a class of its own, and {pipe.task} is run by this package without it. "
            f"{_REGISTER}"
        )
    if module == "__main__" or not hasattr(sys.modules.get(module), "__file__") or _auto_classes(pipe) is None:
        raise UnsupportedPipelineError(
            f"The pipeline is a {name}, a class of its own, which a worker would not have. {_REGISTER}"
        )


def save_class(pipe: Any, folder: Path) -> None:
    """Write the Python file of a pipeline's own class, and its name into ``config.json``."""
    transformers.dynamic_module_utils.custom_object_save(pipe, folder)
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    implementation = f"{type(pipe).__module__.rpartition('.')[2]}.{type(pipe).__name__}"
    config["custom_pipelines"] = {pipe.task: {"impl": implementation, "pt": _auto_classes(pipe)}}
    path.write_text(json.dumps(config, ensure_ascii=False, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _auto_classes(pipe: Any) -> list[str] | None:
    """Return the names of the classes that load the model, None where the pipeline's class is not registered."""
    registered = getattr(type(pipe), "_registered_impl", {}).get(pipe.task)
    if registered is not None:
        return [auto_class.__name__ for auto_class in registered["pt"]]
    logged = (getattr(pipe.model.config, "custom_pipelines", None) or {}).get(pipe.task)  # loaded from a version
    return None if logged is None else list(logged["pt"])
