"""Log a Hugging Face pipeline as a version of a model: :class:`LogHFModelOperator`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator
from airflow.sdk.log import mask_secret

from airflow_provider_hfreg.errors import HfregError, SettingsError, VersionExistsError
from airflow_provider_hfreg.hooks.connections import get_connection
from airflow_provider_hfreg.hooks.hfreg import HFREG_CONN_ID, HFRegistryHook
from airflow_provider_hfreg.operators.failures import end_task
from airflow_provider_hfreg.operators.identity import task_names, version_names
from airflow_provider_hfreg.operators.rendered import (
    number_if_one,
    read_flag,
    read_mapping,
    read_names,
    read_text,
    require_text,
)
from airflow_provider_hfreg.operators.sources import ModelSource, pipeline_builder, source_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_hfreg.registry import ModelVersion, Registry
    from airflow_provider_hfreg.signatures.signature import ModelSignature


class LogHFModelOperator(BaseOperator):
    """
    Log a model version, from a folder, from the hub, or from a callable that builds a pipeline.

    From a folder the files are streamed into the registry and no weights are loaded: a small worker without torch can
    log a large model. What a retry does: the same content under the same name is found and nothing is
    written, so a task that died after its commit succeeds.

    Returns, by XCom, a small dict that :class:`~airflow_provider_hfreg.operators.run_model.RunHFModelOperator` takes as
    ``model``: the pinned version, its digest, and ``created`` (False: the same content was there already).

    .. code-block:: python

        LogHFModelOperator(task_id="log", model_name="finbert", model="/srv/out/finbert", task="text-classification",
                           pipeline_kwargs={"top_k": 2}, metrics={"accuracy": 0.91})

    :param model_name: the registered name. (templated)
    :param version_name: default: the dag run's date and letters of its identity, the same on every try. (templated)
    :param model: a folder, as absolute path or URL (``s3://…``, ``file:///…``), or a hub id. (templated)
    :param task: the pipeline task, such as ``text-classification``; needed with ``model``. (templated)
    :param pipeline_kwargs: what the pipeline is built with, kept in the version and used at every run. (templated)
    :param revision: of a hub id; default: its main branch. Pinned to the commit either way. (templated)
    :param pipeline_callable: instead of ``model``: a function that returns a pipeline, or its import path
        ``package.module:function``. Runs on the worker, where torch must be installed. Never a template: a value of the
        trigger form must not choose which code runs.
    :param op_args: positional arguments of ``pipeline_callable``. (templated)
    :param op_kwargs: keyword arguments of ``pipeline_callable``. (templated)
    :param metrics: numbers by name. (templated)
    :param tags: texts by name. (templated)
    :param comment: a text about the version. (templated)
    :param training_data: what the version was trained on, for its lineage: a text such as a URL, a list of them, or a
        dict that says more. Kept, not read. (templated)
    :param options: ``target_methods``, ``cuda_version``. (templated)
    :param signatures: by function name; needed for tasks whose signature is not inferred.
    :param aliases: aliases that shall point to the version once it is logged. (templated)
    :param set_default: make it the model's default version. (templated)
    :param trust_remote_code: consent to code that comes with the model's files; not a template, for the same reason.
    :param hfreg_conn_id: the registry's connection. (templated)
    :param hf_conn_id: a connection whose password is a hub token, for gated or private models. The token is used
        for the download alone: it is masked in logs and stored nowhere.
    """

    template_fields: Sequence[str] = (
        "model_name",
        "version_name",
        "model",
        "task",
        "pipeline_kwargs",
        "revision",
        "op_args",
        "op_kwargs",
        "metrics",
        "tags",
        "comment",
        "training_data",
        "options",
        "aliases",
        "set_default",
        "hfreg_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = dict.fromkeys(
        ("pipeline_kwargs", "op_args", "op_kwargs", "metrics", "tags", "training_data", "options"), "json"
    )
    ui_color = "#ffe8b3"

    def __init__(
        self,
        *,
        model_name: str,
        version_name: str | None = None,
        model: str | None = None,
        task: str | None = None,
        pipeline_kwargs: Mapping[str, Any] | None = None,
        revision: str | None = None,
        pipeline_callable: str | Callable[..., Any] | None = None,
        op_args: Sequence[Any] = (),
        op_kwargs: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        comment: str | None = None,
        training_data: str | Sequence[Any] | Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        signatures: Mapping[str, ModelSignature] | None = None,
        aliases: str | Sequence[str] | None = None,
        set_default: bool | str = False,
        trust_remote_code: bool = False,
        hfreg_conn_id: str = HFREG_CONN_ID,
        hf_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (model is None) == (pipeline_callable is None):
            raise SettingsError(f"Task {self.task_id!r}: give either model (with task) or pipeline_callable.")
        if model is not None and task is None:
            raise SettingsError(
                f"Task {self.task_id!r}: model needs its pipeline task, such as task='text-classification'."
            )
        self.model_name = model_name
        self.version_name = version_name
        self.model = model
        self.task = task
        self.pipeline_kwargs = pipeline_kwargs
        self.revision = revision
        self.pipeline_callable = pipeline_callable
        self.op_args = op_args
        self.op_kwargs = op_kwargs
        self.metrics = metrics
        self.tags = tags
        self.comment = comment
        self.training_data = training_data
        self.options = options
        self.signatures = signatures
        self.aliases = aliases
        self.set_default = set_default
        self.trust_remote_code = trust_remote_code
        self.hfreg_conn_id = hfreg_conn_id
        self.hf_conn_id = hf_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Log the version and point aliases to it."""
        try:
            return self._log(context)
        except HfregError as error:
            end_task(self, error)

    def _log(self, context: Context) -> dict[str, Any]:
        registry = HFRegistryHook(self.hfreg_conn_id).registry
        given_name = read_text("version_name", self.version_name)
        names = [given_name] if given_name else version_names(context)
        version = _first_accepted(names, partial(self._source(registry), **self._described(context)))
        done = "Logged" if version.created else "Found, with the same content,"
        self.log.info("%s %s (%s) in %s", done, version.reference, version.content_digest, registry.url)
        self._point(registry, version)
        return version.to_reference()

    def _described(self, context: Context) -> dict[str, Any]:
        """Return what all sources are logged with."""
        return {
            "model_name": require_text("model_name", self.model_name),
            "comment": read_text("comment", self.comment),
            "metrics": _with_numbers(read_mapping("metrics", self.metrics)),
            "tags": read_mapping("tags", self.tags),
            "options": read_mapping("options", self.options),
            "signatures": self.signatures,
            "trust_remote_code": self.trust_remote_code,
            "logged_by": task_names(context),
            "lineage": {"training_data": self.training_data} if self.training_data else None,
        }

    def _source(self, registry: Registry) -> Callable[..., ModelVersion]:
        """Return the registry's function for what is to be logged."""
        if self.pipeline_callable is not None:
            build = pipeline_builder(self.pipeline_callable)
            return partial(
                registry.log_model, build(*self.op_args, **(read_mapping("op_kwargs", self.op_kwargs) or {}))
            )
        model = require_text("model", self.model)
        built: dict[str, Any] = {
            "task": require_text("task", self.task),
            "pipeline_kwargs": read_mapping("pipeline_kwargs", self.pipeline_kwargs),
        }
        if source_of(model) is ModelSource.FOLDER:
            return partial(registry.log_folder, model, **built)
        revision = read_text("revision", self.revision)
        return partial(registry.log_hub_model, model, revision=revision, token=self._hub_token(), **built)

    def _hub_token(self) -> str | None:
        if self.hf_conn_id is None:
            return None
        token = get_connection(self.hf_conn_id, hint="with a hub token as password").password
        if not token:
            raise SettingsError(f"Connection {self.hf_conn_id!r} has no password: write the hub's access token there.")
        mask_secret(token)
        return token

    def _point(self, registry: Registry, version: ModelVersion) -> None:
        aliases = read_names("aliases", self.aliases) or []
        make_default = read_flag("set_default", self.set_default)
        if not aliases and not make_default:
            return
        model = registry.get_model(version.model_name)
        for alias in aliases:
            model.set_alias(alias, version.version_name)
        if make_default:
            model.set_default(version.version_name)


def _first_accepted(names: Iterable[str], log: Callable[..., ModelVersion]) -> ModelVersion:
    """Log under the first name that is free or holds the same content; the last refusal is raised."""
    refused = VersionExistsError("No version name was offered.")
    for name in names:
        try:
            return log(version_name=name)
        except VersionExistsError as error:
            refused = error
    raise refused


def _with_numbers(metrics: dict[str, Any] | None) -> dict[str, Any] | None:
    """
    Return metrics with the numbers that a template turned into text as numbers again.

    >>> _with_numbers({"accuracy": "0.91", "note": "held out"})
    {'accuracy': 0.91, 'note': 'held out'}
    """
    return None if metrics is None else {name: number_if_one(value) for name, value in metrics.items()}
