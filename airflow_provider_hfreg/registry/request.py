"""
What the caller of ``log_model`` asked for, checked before anything is packaged, hashed or sent.

Pure: no file, no store, no torch. A wrong option costs a moment, not the upload of a model.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict

from airflow_provider_hfreg.errors import InvalidOptionError, SignatureRequiredError
from airflow_provider_hfreg.pipelines.base import PipelineTask
from airflow_provider_hfreg.pipelines.catalog import find_column_task, get_task
from airflow_provider_hfreg.pipelines.spec import PipelineSpec
from airflow_provider_hfreg.signatures.params import INTEGERS, check_params
from airflow_provider_hfreg.signatures.signature import ModelSignature
from airflow_provider_hfreg.versions.documents import plain_json
from airflow_provider_hfreg.versions.layout import check_name
from airflow_provider_hfreg.versions.manifest import Annotations, ModelFunction
from airflow_provider_hfreg.versions.secrets import check_no_secret

_DEFAULT_OPTIONS: Mapping[str, Any] = {"target_methods": ["__call__"], "cuda_version": "12.4"}
COPIED_FROM = "copied_from"
"""In a lineage: where copies came from, the oldest first."""
_CUDA_VERSION = re.compile(r"\d{1,2}\.\d{1,2}")


@dataclass(frozen=True)
class LogRequest:
    """
    One call of ``log_model``, in plain values.

    :param version_name: None to have one made.
    :param options: complete, defaults filled in.
    :param signatures: given explicitly, by target method.
    :param trust_remote_code: consent to storing the model's own Python files.
    :param logged_by: who logs: user and host, or DAG, task and run.
    :param lineage: what it was made of.
    """

    model_name: str
    version_name: str | None
    annotations: Annotations
    options: Mapping[str, Any]
    signatures: Mapping[str, ModelSignature] = field(default_factory=dict)
    trust_remote_code: bool = False
    logged_by: Mapping[str, str] = field(default_factory=dict)
    lineage: Mapping[str, Any] = field(default_factory=dict)


class Described(TypedDict, total=False):
    """
    What all ways of logging take besides the model itself.

    ``version_name``: one is made if None. ``metrics``: any JSON values. ``tags``: text. ``options``:
    ``target_methods``, default ``["__call__"]``, and ``cuda_version``, default ``"12.4"``, None for one that never runs
    on a GPU. ``signatures``: by target method; required where none is inferred. ``sample_input_data``: ignored, as
    a warning says. ``trust_remote_code``: consent to storing the model's own Python files. ``logged_by``: text by name;
    default user and host. ``lineage``: what the version was made of, any JSON values by name; ``training_data`` is the
    one that is shown first: a URL, a list of them, or a dict that says more.
    """

    version_name: str | None
    comment: str | None
    metrics: Mapping[str, Any] | None
    tags: Mapping[str, str] | None
    options: Mapping[str, Any] | None
    signatures: Mapping[str, ModelSignature] | None
    sample_input_data: Any
    trust_remote_code: bool
    logged_by: Mapping[str, str] | None
    lineage: Mapping[str, Any] | None


def make_request(
    *,
    model_name: str,
    version_name: str | None = None,
    comment: str | None = None,
    metrics: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
    signatures: Mapping[str, ModelSignature] | None = None,
    sample_input_data: Any = None,
    trust_remote_code: bool = False,
    logged_by: Mapping[str, str] | None = None,
    lineage: Mapping[str, Any] | None = None,
) -> LogRequest:
    """
    Check the arguments that all ways of logging share.

    :raises InvalidNameError: a name outside the alphabet.
    :raises InvalidOptionError: an option, or a value that cannot be kept.
    :raises UnsafeModelError: an access token in what would be stored.
    """
    if sample_input_data is not None:
        warnings.warn(
            "sample_input_data is ignored for Hugging Face models: a method's signature is the one given in signatures "
            "or follows from the pipeline task. infer_signature(inputs, outputs) makes one of example frames.",
            UserWarning,
            stacklevel=3,  # the caller of log_model
        )
    checked_options = check_options({} if options is None else options)
    check_name(model_name, "model")
    return LogRequest(
        model_name=model_name,
        version_name=None if version_name is None else check_name(version_name, "version"),
        annotations=make_annotations(tags=tags, metrics=metrics, comment=comment),
        options=checked_options,
        signatures=_check_signatures({} if signatures is None else signatures, checked_options["target_methods"]),
        trust_remote_code=trust_remote_code,
        logged_by=check_tags({} if logged_by is None else logged_by, "logged_by"),
        lineage=check_lineage({} if lineage is None else lineage),
    )


def make_annotations(
    *, tags: Mapping[str, str] | None = None, metrics: Mapping[str, Any] | None = None, comment: str | None = None
) -> Annotations:
    """Return checked tags, metrics and comment."""
    if comment is not None and not isinstance(comment, str):
        raise InvalidOptionError(f"comment is {comment!r:.80}; it must be text.")
    check_no_secret(comment, "comment")
    return Annotations(
        check_tags({} if tags is None else tags), check_metrics({} if metrics is None else metrics), comment
    )


def check_mapping(value: Any, where: str) -> None:
    """
    Refuse what is no dict.

    :raises InvalidOptionError: it is not.
    """
    if not isinstance(value, Mapping):
        raise InvalidOptionError(f"{where} is {value!r:.80}; it must be a dict of values by name.")


def check_task(task: str) -> None:
    """
    Refuse what is no task's name; whether there is such a task is found later.

    :raises InvalidOptionError: it is not.
    """
    if not isinstance(task, str) or not task:
        raise InvalidOptionError(f"task is {task!r:.80}; name the pipeline task, such as 'text-classification'.")


def check_tags(tags: Mapping[str, Any], where: str = "tags") -> dict[str, str]:
    """Return tags if every key and value is text and none is a secret."""
    check_mapping(tags, where)
    for key, value in tags.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise InvalidOptionError(f"{where}[{key!r}] is {value!r:.80}; a key and its value must be text.")
    check_no_secret(tags, where)
    return dict(tags)


def check_tag_changes(changes: Mapping[str, Any]) -> None:
    """Check tags of which those given as None are to be removed; raises as :func:`check_tags`."""
    check_mapping(changes, "tags")
    check_tags({key: value for key, value in changes.items() if value is not None})


def check_metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return metrics as plain JSON values, none of them a secret."""
    check_mapping(metrics, "metrics")
    plain: dict[str, Any] = plain_json(metrics, "metrics")
    check_no_secret(plain, "metrics")
    return plain


def check_lineage(lineage: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return what a version was made of as plain JSON values, none of them a secret.

    :raises InvalidOptionError: no dict of JSON values, or a name that the registry itself writes.
    """
    check_mapping(lineage, "lineage")
    if COPIED_FROM in lineage:
        raise InvalidOptionError(f"lineage[{COPIED_FROM!r}] is written by the registry when a version is copied.")
    plain: dict[str, Any] = plain_json(lineage, "lineage")
    check_no_secret(plain, "lineage")
    return plain


def check_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return options with the defaults filled in.

    >>> check_options({"cuda_version": None})
    {'target_methods': ['__call__'], 'cuda_version': None}

    :raises InvalidOptionError: an unknown name, or a value that the option cannot have.
    """
    check_mapping(options, "options")
    for name in options:
        if name not in _DEFAULT_OPTIONS:
            known = ", ".join(map(repr, _DEFAULT_OPTIONS))
            raise InvalidOptionError(f"There is no option {name!r}; the options are {known}.")
    checked = {**_DEFAULT_OPTIONS, **options}
    checked["target_methods"] = _check_target_methods(checked["target_methods"])
    cuda_version = checked["cuda_version"]
    if cuda_version is not None and not (isinstance(cuda_version, str) and _CUDA_VERSION.fullmatch(cuda_version)):
        raise InvalidOptionError(
            f"The option 'cuda_version' is {cuda_version!r}; write text such as '12.4', or None for a version that "
            "never runs on a GPU."
        )
    return checked


def _check_target_methods(methods: Any) -> list[str]:
    is_list = isinstance(methods, Sequence) and not isinstance(methods, str)
    if not is_list or not methods or not all(isinstance(name, str) and name.isidentifier() for name in methods):
        raise InvalidOptionError(
            f"The option 'target_methods' is {methods!r}; write a list of names of methods, such as ['__call__']."
        )
    if len({name.upper() for name in methods}) != len(methods):
        raise InvalidOptionError(
            f"The option 'target_methods' is {methods!r}: two of these names are one in upper case, which is how "
            "functions are shown and called."
        )
    return list(methods)


def check_methods_callable(model: Any, target_methods: Sequence[str]) -> None:
    """
    Look for the target methods on the model object.

    :raises InvalidOptionError: one is not there, or not callable.
    """
    for name in target_methods:
        if not callable(getattr(model, name, None)):
            raise InvalidOptionError(
                f"The option 'target_methods' names {name!r}, which is no callable method of {type(model).__name__}. "
                "Name methods of the pipeline object, such as '__call__'."
            )


def _check_signatures(
    signatures: Mapping[str, ModelSignature], target_methods: Sequence[str]
) -> Mapping[str, ModelSignature]:
    check_mapping(signatures, "signatures")
    for name, signature in signatures.items():
        if name not in target_methods or not isinstance(signature, ModelSignature):
            raise InvalidOptionError(
                f"signatures[{name!r}] is no ModelSignature of a target method; the target methods are "
                f"{', '.join(map(repr, target_methods))}. Add the method to options['target_methods'] if it is one."
            )
    return dict(signatures)


def check_signed(request: LogRequest, task: str) -> None:
    """
    Look for the signatures that nobody can infer.

    :raises SignatureRequiredError: one is not given.
    """
    for method in request.options["target_methods"]:
        if method in request.signatures:
            continue
        if method != "__call__":
            raise SignatureRequiredError(
                f"The signature of the target method {method!r} cannot be inferred: give signatures={{{method!r}: "
                "ModelSignature(inputs=[…], outputs=[…])}. infer_signature(inputs, outputs) makes one of two frames."
            )
        get_task(task)


def functions_of(request: LogRequest, spec: PipelineSpec) -> tuple[ModelFunction, ...]:
    """
    Return the functions of a version: given signatures first, the task's own for ``__call__`` otherwise.

    :raises SignatureRequiredError: none is given and none can be inferred.
    :raises InvalidOptionError: the given one has not the columns that the task takes and gives.
    :raises UnsupportedPipelineError: an option of the pipeline that cannot be held.
    """
    check_signed(request, spec.task)
    return tuple(ModelFunction(name, _signature_of(name, request, spec)) for name in request.options["target_methods"])


def _signature_of(method: str, request: LogRequest, spec: PipelineSpec) -> ModelSignature:
    given = request.signatures.get(method)
    if given is None:
        return get_task(spec.task).signature(spec.parameters)
    task = find_column_task(spec.task, method)
    if task is None:
        _check_callable(method, given)
    else:
        _check_columns(given, spec, task)
    return given


def _check_callable(method: str, given: ModelSignature) -> None:
    """
    Refuse a signature of which no call can be made.

    :raises InvalidOptionError: no columns, two of one name, or a ``batch_size`` that counts no rows.
    :raises UnknownParameterError: a parameter's default is not of its type.
    """
    check_params({spec.name: spec.default_value for spec in given.params}, given.params, f"signatures[{method!r}]")
    for what, features in (("inputs", given.inputs), ("outputs", given.outputs)):
        names = [feature.name for feature in features]
        if not names or len(set(names)) < len(names):
            raise InvalidOptionError(
                f"signatures[{method!r}] has the {what} {names}; it needs at least one column, each with its own name."
            )
    for param in given.params:
        if param.name == "batch_size" and (param.dtype not in INTEGERS or param.shape is not None):
            raise InvalidOptionError(
                f"signatures[{method!r}] has {param!r}; that parameter is the number of rows of a call, so its type is "
                "DataType.INT64, without a shape."
            )


def _check_columns(given: ModelSignature, spec: PipelineSpec, task: PipelineTask) -> None:
    """
    Refuse a signature that the task would not keep: its own code makes the columns, whatever is promised.

    Of the parameters it may list fewer. Their values go to the task's own code, so none may be of another name or type,
    and none may promise another default.

    :raises InvalidOptionError: it has other columns or parameters.
    """
    inferred = task.signature(spec.parameters)
    if (given.inputs, given.outputs) != (inferred.inputs, inferred.outputs):
        raise InvalidOptionError(
            f"signatures['__call__'] is {given!r}, and the task {task.name!r} with these options has the columns of "
            f"{inferred!r}. Leave it out to have that one, or give these inputs and outputs."
        )
    known = {param.name: param for param in inferred.params}
    for param in given.params:
        own = known.get(param.name)
        if own is None or param not in (own, replace(own, default_value=None)):
            listed = ", ".join(map(repr, inferred.params)) or "none"
            raise InvalidOptionError(
                f"signatures['__call__'] has {param!r}, which is no parameter of the task {task.name!r} with these "
                "options. Leave it out, or give it as it stands here, with its default or None; for another default "
                f"build the pipeline with that value. The parameters are: {listed}."
            )
