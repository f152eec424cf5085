"""
A pipeline object for tasks whose class the installed transformers lacks: called as that class was, run by the engine.

transformers 5 has no ``summarization``, ``translation``, ``text2text-generation`` or ``question-answering``, and
nothing since 4.42 has ``conversational``. :class:`StandInPipeline` takes their place: for whoever builds a pipeline to
log it, and for whoever loads a version to call it. So it does for ``feature-extraction``, whose class in transformers
gives all tokens' vectors and forgets how they are pooled.

A text or a list of texts goes in where the task reads one column; otherwise a mapping of the task's columns, a list of
such, or the columns by keyword. What comes out has the shape that transformers gave: a mapping per input, a list of
them where an input has several results; and a single text to a task that generates gives a list.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import huggingface_hub

from airflow_provider_hfreg.errors import InferenceError, InvalidOptionError, SignatureRequiredError
from airflow_provider_hfreg.inference.devices import choose_device
from airflow_provider_hfreg.inference.engine import Engine
from airflow_provider_hfreg.inference.frameworks import torch, transformers
from airflow_provider_hfreg.inference.generation_settings import model_settings, settings_for
from airflow_provider_hfreg.inference.loading import (
    LoadedPipeline,
    encodes_as_4,
    load_pipeline,
    loaded_from,
    quiet,
    to_transformers,
)
from airflow_provider_hfreg.inference.passthrough import load_own_pipeline
from airflow_provider_hfreg.inference.portable import load_tokenizer
from airflow_provider_hfreg.pipelines.arguments import checked_arguments
from airflow_provider_hfreg.pipelines.base import Forward, PipelineTask
from airflow_provider_hfreg.pipelines.catalog import find_task, get_task
from airflow_provider_hfreg.pipelines.generation import described_generation
from airflow_provider_hfreg.pipelines.spec import PipelineSpec
from airflow_provider_hfreg.signatures.rows import RowError, from_cells, to_window

log = logging.getLogger(__name__)

_OF_LOADING = ("revision", "token", "trust_remote_code", "local_files_only", "cache_dir")
_OF_TOKENIZERS = ["*.json", "*.txt", "*.model", "*.spm", "*.tiktoken", "*.codes", "*.jinja", "*.py"]
_NOT_NEEDED = ("framework", "batch_size", "num_workers", "use_fast")  # of transformers.pipeline; the engine decides


class StandInPipeline:
    """
    A callable pipeline over a loaded model; see the module.

    :ivar task: the pipeline task, as the user wrote it.
    :ivar model: the network; ``tokenizer`` its tokenizer.
    :ivar parameters: what it was built with.
    :ivar generation: the generation settings that its class added to that.
    """

    def __init__(self, loaded: LoadedPipeline) -> None:
        self.task = loaded.spec.task
        self.model = loaded.network
        self.tokenizer = loaded.tokenizer
        self.device = loaded.device
        self.parameters = dict(loaded.spec.parameters)
        self.generation = dict(loaded.spec.generation)
        self._engine = Engine(loaded)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.task!r}, {type(self.model).__name__})"

    def __call__(self, inputs: Any = None, **arguments: Any) -> Any:
        """
        Run one input or a list of them.

        :param inputs: a text, a mapping of columns, or a list of either.
        :param arguments: parameters of this call, over those it was built with; or the columns.
        :raises InferenceError: an input that cannot be run, the first of them named.
        :raises InvalidOptionError: no argument of the task.
        """
        task = self._engine.loaded.task
        names = [feature.name for feature in task.signature(self.parameters).inputs]
        columns = {name: arguments.pop(name) for name in names if name in arguments}
        params = _given(task, arguments)
        given = columns if inputs is None else inputs
        rows = given if isinstance(given, list | tuple) else [given]
        results = self._run([_columns_of(row, names) for row in rows], params)
        if isinstance(given, list | tuple):
            return results
        return [results[0]] if isinstance(given, str) and self._wraps(results[0]) else results[0]

    def predict(self, inputs: Any) -> Any:
        """Run inputs as a call does; transformers' pipelines have this name for it, too."""
        return self(inputs)

    transform = predict

    def _run(self, rows: Sequence[Mapping[str, Any]], params: Mapping[str, Any]) -> list[Any]:
        parameters = {**self.parameters, **params}
        task = self._engine.loaded.task
        signature = task.signature(parameters)
        errors: list[RowError] = []
        columns = {}
        for feature in signature.inputs:
            columns[feature.name], bad = from_cells([row.get(feature.name) for row in rows], feature)
            errors.extend(bad)
        optional = task.optional_inputs_under(parameters)
        window = to_window(columns, signature.inputs, optional=optional, errors=errors)
        # From torch's generator, so that transformers.set_seed() makes a call repeatable, as it does with pipelines.
        seed = int(torch.randint(2**31, ()))
        result = self._engine.run(window.batch, params, seed=seed, first_row=window.row)
        for error in (*window.errors, *result.errors)[:1]:
            raise InferenceError(f"{self.task} cannot run {error.column or 'an input'}: {error.message}.")
        if result.truncated_rows:
            log.warning("%d of %d inputs were cut to what the model reads", result.truncated_rows, len(rows))
        return [self._shaped(row, parameters) for row in result.outputs.to_pylist()]

    def _shaped(self, row: Mapping[str, Any], parameters: Mapping[str, Any]) -> Any:
        """Return a row's result as its class gave it: the objects themselves where the column holds their JSON text."""
        (name, value), *others = row.items()
        lists = name == "outputs" or (self._wraps(value) and self._texts_each(parameters) > 1)
        return json.loads(value) if lists and not others else dict(row)

    def _wraps(self, result: Any) -> bool:
        """Tell whether a single text gives a list of this."""
        generates = self._engine.loaded.task.forward is Forward.GENERATE
        return generates and self.task != "conversational" and not isinstance(result, list)

    def _texts_each(self, parameters: Mapping[str, Any]) -> int:
        settings = settings_for(
            parameters, self.generation, self.model.generation_config, pad_token_id=self.tokenizer.pad_token_id
        )
        return int(settings["num_return_sequences"])


def has_class(task: str) -> bool:
    """Tell whether the installed transformers has a pipeline for a task that gives what a version of ours does."""
    try:
        transformers.pipelines.check_task(task)
    except KeyError:
        return False
    with contextlib.suppress(SignatureRequiredError):
        return not get_task(task).own_callable
    return True


def folder_of(model: Any) -> Path | None:
    """
    Return where a model was loaded from; None for one made in memory.

    :param model: an object, a folder or a hub id, which is returned as a path that is not there.
    """
    name = model if isinstance(model, str | Path) else getattr(model.config, "_name_or_path", None)
    return Path(name) if name else None


def load_pipeline_object(
    folder: Path, spec: PipelineSpec, *, device: str | None = None, trust_remote_code: bool = False
) -> Any:
    """
    Load a version as a callable pipeline: transformers' own where it has the class, a stand-in where it has not.

    A task whose signature was given has no stand-in: transformers must know its class, or the folder hold it.

    :raises ModelLoadError: transformers cannot build the model.
    """
    if find_task(spec.task) is None:
        return load_own_pipeline(folder, spec, device=device, trust_remote_code=trust_remote_code)
    if has_class(spec.task):
        return to_transformers(folder, spec, device=device, trust_remote_code=trust_remote_code)
    return StandInPipeline(load_pipeline(folder, spec, device=device, trust_remote_code=trust_remote_code))


def build_stand_in(
    task: str,
    model: Any,
    *,
    tokenizer: Any = None,
    device: Any = None,
    dtype: Any = None,
    torch_dtype: Any = None,
    model_kwargs: Mapping[str, Any] | None = None,
    **arguments: Any,
) -> StandInPipeline:
    """
    Build a pipeline as ``transformers.pipeline`` did.

    :param model: a hub id, a folder, or a model object; with the last, ``tokenizer`` is needed.
    :param device: as torch names it, or a number: of the accelerator, -1 for the CPU.
    :param model_kwargs: of loading the network alone (``attn_implementation`` …).
    :param arguments: of loading (``revision``, ``token`` …) and of the task.
    :raises SignatureRequiredError: the task is none of ours either.
    :raises InvalidOptionError: an argument that the task does not have.
    """
    pipeline_task = get_task(task)
    loading = {name: arguments.pop(name) for name in _OF_LOADING if name in arguments}
    given = pipeline_task.completed(_given(pipeline_task, arguments), folder_of(model))
    settings = {"dtype": dtype or torch_dtype or "auto", **(model_kwargs or {})}
    network = _network(pipeline_task, model, loading, settings)
    chosen = torch.device(_device_name(device))
    spec = _describe(pipeline_task, task, network, given)
    reader = _tokenizer(tokenizer or model, loading, as_4=encodes_as_4(spec, pipeline_task))
    return StandInPipeline(loaded_from(network.eval().to(chosen), reader, spec, device=chosen))


def _given(task: PipelineTask, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return a task's arguments; those that only say how transformers runs are left out."""
    given = {name: value for name, value in arguments.items() if name not in _NOT_NEEDED and value is not None}
    return checked_arguments(task, given, "the call")


def _columns_of(row: Any, names: Sequence[str]) -> Mapping[str, Any]:
    if isinstance(row, Mapping):
        for name in row:
            if name not in names:
                raise InferenceError(f"An input holds {name!r}; the task's inputs are {', '.join(names)}.")
        return row
    if len(names) == 1 and isinstance(row, str):
        return {names[0]: row}
    raise InferenceError(
        f"An input is {type(row).__name__} {row!r:.80}; give "
        + (
            "a text or a list of texts."
            if len(names) == 1
            else f"a mapping with {', '.join(names)}, or a list of such."
        )
    )


def _network(task: PipelineTask, model: Any, loading: Mapping[str, Any], settings: Mapping[str, Any]) -> Any:
    if not isinstance(model, str | Path):
        return model
    with quiet():
        config = transformers.AutoConfig.from_pretrained(model, **loading)
        auto_class = getattr(transformers, task.auto_class_of(config.to_dict()))
        return auto_class.from_pretrained(model, **loading, **settings)


def _tokenizer(source: Any, loading: Mapping[str, Any], *, as_4: bool) -> Any:
    if isinstance(source, str | Path):
        return load_tokenizer(_tokenizer_folder(source, loading), as_4=as_4, **loading)
    if callable(source) and hasattr(source, "model_input_names"):
        return source
    raise InvalidOptionError("A pipeline of a model object needs its tokenizer, too: give tokenizer=….")


def _tokenizer_folder(source: str | Path, loading: Mapping[str, Any]) -> Path:
    """Return where a tokenizer's files lie: of a hub id in the cache, so that both are read in one way."""
    if Path(source).is_dir():
        return Path(source)
    options = {name: value for name, value in loading.items() if name != "trust_remote_code"}
    with quiet():
        return Path(huggingface_hub.snapshot_download(str(source), allow_patterns=_OF_TOKENIZERS, **options))


def _device_name(device: Any) -> str:
    if isinstance(device, int) and not isinstance(device, bool):
        return "cpu" if device < 0 else f"cuda:{device}"
    return choose_device(None if device is None else str(device))


def _describe(task: PipelineTask, name: str, network: Any, given: Mapping[str, Any]) -> PipelineSpec:
    config = network.config.to_dict()
    named = task.name_under(name, config)
    if named != name:
        log.warning("The model runs %s as its first pair of languages, %s", name, named)
    specific = (config.get("task_specific_params") or {}).get(named) or {}
    own = model_settings(network.generation_config) if network.can_generate() else {}
    parameters, added = described_generation(task.generation_defaults, specific, given, own)
    return PipelineSpec(
        task=named, parameters=parameters, generation=added, transformers_version=transformers.__version__
    )
