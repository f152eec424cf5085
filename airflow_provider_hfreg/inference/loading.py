"""
A version's local folder to a network that runs.

Little is left to the family's taste: the dtype is passed (a bf16 save loads as fp32 on 4.57 unless told), and the
attention implementation if somebody chose one; no file is fetched, a missing weight is an error (transformers would
draw it at random and only warn), and what does not fit into memory is refused before a byte of it is read.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_provider_hfreg.errors import ModelLoadError, UnsafeModelError
from airflow_provider_hfreg.inference.arrangement import Layout, accepted_by
from airflow_provider_hfreg.inference.container import core_count
from airflow_provider_hfreg.inference.devices import check_memory, choose_device, free_memory_bytes, required_bytes
from airflow_provider_hfreg.inference.frameworks import torch, transformers
from airflow_provider_hfreg.inference.generation_settings import settings_of_pipeline
from airflow_provider_hfreg.inference.importing import uncollected
from airflow_provider_hfreg.inference.portable import load_tokenizer, portable_model_config
from airflow_provider_hfreg.inference.prepacked import PrepackedLinear
from airflow_provider_hfreg.inference.tokenization import token_limit
from airflow_provider_hfreg.pipelines.base import Forward, PipelineTask, TaskContext
from airflow_provider_hfreg.pipelines.catalog import get_task
from airflow_provider_hfreg.pipelines.json_files import needs_own_code
from airflow_provider_hfreg.pipelines.spec import PipelineSpec

log = logging.getLogger(__name__)

# Weights that the class has and the forward reads nothing of: a model trained for masks comes without a pooler.
_UNREAD: Mapping[Forward, tuple[str, ...]] = {Forward.EMBEDDING: ("pooler.",)}


@dataclass(frozen=True)
class LoadedPipeline:
    """
    A model in memory, ready to run.

    :param network: the torch module, in evaluation mode, on ``device``.
    :param token_limit: tokens that it can read; None where nothing bounds them.
    :param context: what the task may know, with the version's parameters; a run puts its own over them.
    :param layout: how sequences lie in a batch; what any network runs unless :mod:`.fitting` found better.
    :param reads_padding: the network was seen to give something else beside a longer text, or was not comparable.
    :param rows_leave: a generating network was seen to give the same when rows that have ended leave their batch.
    :param rows_wait: likewise when others then take their places.
    """

    task: PipelineTask
    spec: PipelineSpec
    network: Any
    tokenizer: Any
    device: torch.device
    token_limit: int | None
    context: TaskContext
    layout: Layout = field(default_factory=Layout)
    reads_padding: bool = False
    rows_leave: bool = False
    rows_wait: bool = False

    @functools.cached_property
    def accepts(self) -> frozenset[str]:
        """Names of the network's arguments, those of the class that its own extends too."""
        return accepted_by(self.network)

    @functools.cached_property
    def is_prepacked(self) -> bool:
        """Whether the network has prepacked layers, see :mod:`.prepacked`."""
        return any(isinstance(module, PrepackedLinear) for module in self.network.modules())

    @functools.cached_property
    def padding(self) -> Mapping[str, int]:
        """What a batch's inputs are filled up with: a token that the network has a vector for, which the mask hides."""
        pad = self.tokenizer.pad_token_id or 0
        return {
            "input_ids": pad if _has_vector(self.network, pad) else 0,
            "token_type_ids": getattr(self.tokenizer, "pad_token_type_id", 0),
        }

    @functools.cached_property
    def names(self) -> frozenset[str]:
        """Names of the network's arguments, by its own class alone."""
        return frozenset(inspect.signature(self.network.forward).parameters)


def load_pipeline(
    folder: Path, spec: PipelineSpec, *, device: str | None = None, trust_remote_code: bool = False
) -> LoadedPipeline:
    """
    Load a version for the engine.

    :param folder: a plain Hugging Face folder.
    :param device: as torch names it; None for the accelerator where there is one.
    :param trust_remote_code: run the model's own Python files; only where ``spec.remote_code`` says it has some.
    :raises ModelTooLargeError: the weights do not fit; nothing was loaded.
    :raises UnsafeModelError: the model brings Python files and nobody consented.
    :raises ModelLoadError: transformers cannot build it.
    """
    network, tokenizer, chosen = _load(folder, spec, get_task(spec.task), device, trust_remote_code=trust_remote_code)
    return loaded_from(network, tokenizer, spec, device=chosen)


def loaded_from(network: Any, tokenizer: Any, spec: PipelineSpec, *, device: torch.device) -> LoadedPipeline:
    """
    Return a model that is in memory already, ready to run.

    :param network: in evaluation mode, on ``device``.
    """
    _give_pad_token(network, tokenizer)
    torch.set_num_threads(min(torch.get_num_threads(), core_count()))  # a container's quota is not torch's default
    positions = _positions(network)
    context = TaskContext(
        tokenizer,
        network.config.to_dict(),
        spec.parameters,
        spec.generation,
        spec.transformers_version,
        positions,
    )
    limit = token_limit(tokenizer, positions)
    return LoadedPipeline(get_task(spec.task), spec, network, tokenizer, device, limit, context)


def to_transformers(
    folder: Path, spec: PipelineSpec, *, device: str | None = None, trust_remote_code: bool = False
) -> Any:
    """
    Load a version as transformers' own pipeline object, equal to the one that was logged.

    Generation settings that the family of logging added are passed only where the installed family would do otherwise,
    so that logging the returned object again gives the same version.

    :raises ModelLoadError: also where the installed transformers has no pipeline for the task.
    """
    network, tokenizer, chosen = _load(folder, spec, get_task(spec.task), device, trust_remote_code=trust_remote_code)
    task_settings = getattr(network.config, "task_specific_params", None)

    def build(**parameters: Any) -> Any:
        if task_settings is not None:  # 4.57 takes the prefix out of the configuration that it is given
            network.config.task_specific_params = copy.deepcopy(task_settings)
        return transformers.pipeline(spec.task, model=network, tokenizer=tokenizer, device=chosen, **parameters)

    with as_load_error(folder, spec):
        return built_as_logged(build, spec)


def built_as_logged(build: Callable[..., Any], spec: PipelineSpec) -> Any:
    """Return what ``build`` makes of the version's parameters and of the generation settings that differ here."""
    pipe = build(**spec.parameters)
    given, added = settings_of_pipeline(pipe)
    differs = {name: value for name, value in spec.generation.items() if {**added, **given}.get(name) != value}
    return build(**{**spec.parameters, **differs}) if differs else pipe


def _load(
    folder: Path, spec: PipelineSpec, task: PipelineTask, device: str | None, *, trust_remote_code: bool
) -> tuple[Any, Any, torch.device]:
    chosen, local = prepare_loading(folder, spec, device, trust_remote_code=trust_remote_code)
    network = load_network(
        folder,
        spec,
        lambda config: getattr(transformers, task.auto_class_of(config)),
        chosen,
        unread=_UNREAD.get(task.forward, ()),
        **local,
    )
    with as_load_error(folder, spec), quiet():
        tokenizer = load_tokenizer(folder, as_4=encodes_as_4(spec, task), **local)
    return network, tokenizer, torch.device(chosen)


def prepare_loading(
    folder: Path, spec: PipelineSpec, device: str | None, *, trust_remote_code: bool
) -> tuple[str, dict[str, Any]]:
    """
    Return the device to load to, and what every ``from_pretrained`` is told: to fetch nothing, and whose code may run.

    :raises UnsafeModelError: the model brings Python files and nobody consented.
    :raises ModelTooLargeError: the weights do not fit.
    """
    runs_code = spec.remote_code or needs_own_code(folder, spec.task)  # whoever wrote the manifest may have said no
    if runs_code and not trust_remote_code:
        raise UnsafeModelError(
            f"The {spec.architecture or 'model'} in {folder} runs Python files of its own (auto_map or "
            "custom_pipelines in its configuration). Read them, then load with trust_remote_code=True."
        )
    chosen = choose_device(device)
    for place in dict.fromkeys((chosen, "cpu")):  # weights pass through main memory on their way to a GPU
        check_memory(required_bytes(spec), free_memory_bytes(place), device=place)
    return chosen, {"local_files_only": True, "trust_remote_code": trust_remote_code and runs_code}


def encodes_as_4(spec: PipelineSpec, task: PipelineTask | None) -> bool:
    """
    Tell whether a version's texts become tokens as under 4.57: it was logged there, or its task ended there.

    :param task: None for one that this package does not run itself.
    """
    return (task is not None and task.last_family is not None) or spec.family == "4"


def load_network(
    folder: Path,
    spec: PipelineSpec,
    class_of: Callable[[Mapping[str, Any]], Any],
    device: str,
    *,
    unread: tuple[str, ...] = (),
    **local: Any,
) -> Any:
    """
    Load the network alone, in evaluation mode, on ``device``.

    :param class_of: the model's configuration to the class that builds it.
    :param unread: beginnings of the names of weights that may be missing.
    :param local: of :func:`prepare_loading`.
    :raises ModelLoadError: transformers cannot build it, or its weights are not all there.
    """
    with as_load_error(folder, spec), quiet():
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        model_class = _imported(lambda: class_of(config))
        network, report = model_class.from_pretrained(
            folder,
            **(portable_model_config(config) if transformers.__version__.startswith("4.") else {}),
            dtype=getattr(torch, spec.dtype) if spec.dtype else "auto",
            attn_implementation=_attention(spec, device),
            output_loading_info=True,
            use_safetensors=True,  # whatever else somebody put into the bucket, no pickle is read
            **local,
        )
        network = network.eval().to(device)
    _check_complete(report, folder, spec, unread=unread)
    return network


def _imported(model_class: Callable[[], Any]) -> Any:
    """Return the class that a network is built with; what all of them need is imported for the first of them alone."""
    if "transformers.modeling_utils" in sys.modules:
        return model_class()
    with uncollected():
        transformers.PreTrainedModel  # noqa: B018  transformers imports what is asked for
        return model_class()


def _attention(spec: PipelineSpec, device: str) -> str | None:
    if spec.attn_implementation and "flash" in spec.attn_implementation and device == "cpu":
        log.warning("%s needs a GPU; on the CPU the family's own attention is used", spec.attn_implementation)
        return None
    if spec.attn_implementation == "sdpa" and not _supports_sdpa(spec):
        return None  # 5 gave it to models that 4.57 runs without; the answers are the same
    return spec.attn_implementation


def _supports_sdpa(spec: PipelineSpec) -> bool:
    return bool(getattr(getattr(transformers, spec.architecture or "", None), "_supports_sdpa", True))


def _check_complete(report: Any, folder: Path, spec: PipelineSpec, *, unread: tuple[str, ...]) -> None:
    missing = sorted(name for name in report["missing_keys"] if not name.startswith(unread))
    if missing:
        raise ModelLoadError(
            f"The weights in {folder} lack {', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}, which "
            f"{spec.task} needs: transformers would draw them at random. Log a model that was trained for this task."
        )


def _give_pad_token(network: Any, tokenizer: Any) -> None:
    """Pad with the end of sequence where the tokenizer has no pad token; the mask hides it."""
    if tokenizer.pad_token_id is None:
        end = getattr(getattr(network, "generation_config", None), "eos_token_id", None) or network.config.eos_token_id
        first = end[0] if isinstance(end, list | tuple) else end
        if first is not None:
            tokenizer.pad_token = tokenizer.convert_ids_to_tokens(first)
    if getattr(network.config, "pad_token_id", None) is None:
        network.config.pad_token_id = tokenizer.pad_token_id


def _has_vector(network: Any, token: int) -> bool:
    """Tell whether a network knows a token: a pad token is often added to a tokenizer alone."""
    try:
        return token < len(network.get_input_embeddings().weight)
    except (AttributeError, NotImplementedError, TypeError):
        return True  # a network of somebody's own that does not say; it was made for its tokenizer


def _positions(network: Any) -> int | None:
    """Return how many positions a text may fill: RoBERTa's table counts from its padding's place + 1."""
    config = network.config
    positions: int | None = getattr(config, "max_position_embeddings", None)
    if positions is None or positions < 1 or not getattr(config, "position_biased_input", True):
        return None  # XLNet's is -1: it counts distances alone
    if config.is_encoder_decoder and any(hasattr(module, "make_weights") for module in network.modules()):
        return None  # M2M100's table grows with the text
    embeddings = getattr(getattr(network, "base_model", network), "embeddings", None)
    padding = getattr(getattr(embeddings, "position_embeddings", None), "padding_idx", None)
    return positions if padding is None else positions - padding - 1


@contextlib.contextmanager
def as_load_error(folder: Path, spec: PipelineSpec) -> Iterator[None]:
    """Translate whatever transformers, torch or safetensors raise into one error that says what to do."""
    try:
        yield
    except Exception as error:
        logged = f"It was logged under transformers {spec.transformers_version}. " if spec.transformers_version else ""
        raise ModelLoadError(
            f"transformers {transformers.__version__} cannot build {spec.architecture or 'the model'} for {spec.task} "
            f"from {folder}: {type(error).__name__}: {error}. {logged}Load it with that version, or log it again."
        ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' progress bars out of task logs, and leave its setting as it was."""
    messages = transformers.utils.logging
    shown = messages.is_progress_bar_enabled()
    messages.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            messages.enable_progress_bar()
