"""
What a pipeline is built with, as plain JSON values under the names that its factory takes.

Arguments are kept only as they were given. What cannot be written down (a tensor, a callable, a model) cannot be part
of a version, and is refused by name rather than dropped.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from enum import Enum
from typing import Any

import numpy as np

from airflow_provider_hfreg.errors import InvalidOptionError, UnsupportedPipelineError
from airflow_provider_hfreg.pipelines.base import PipelineTask
from airflow_provider_hfreg.signatures.params import check_params


def plain_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return arguments as JSON values: numpy numbers and enum members become plain, tuples lists.

    >>> plain_arguments({"top_k": np.int64(2), "suppress_tokens": (1, 2)})
    {'top_k': 2, 'suppress_tokens': [1, 2]}

    :raises UnsupportedPipelineError: a value that is no JSON, by its argument's name.
    """
    return {name: _plain(value, name) for name, value in arguments.items()}


def _plain(value: Any, name: str) -> Any:
    if isinstance(value, Enum):
        return _plain(value.value, name)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic | np.ndarray):
        return _plain(value.tolist(), name)
    if isinstance(value, list | tuple):
        return [_plain(element, name) for element in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _plain(inner, name) for key, inner in value.items()}
    raise UnsupportedPipelineError(
        f"The pipeline was built with {name}={type(value).__name__}(…), an object that no file of a version can hold. "
        "Build it with plain values (numbers, texts, lists, mappings), or without this argument."
    )


def checked_arguments(
    task: PipelineTask, arguments: Mapping[str, Any], where: str = "pipeline_kwargs"
) -> dict[str, Any]:
    """
    Return what somebody would build a task's pipeline with, as JSON values.

    :param where: the arguments stand, for messages.
    :raises InvalidOptionError: an argument that the task does not have.
    :raises UnknownParameterError: a value that the argument cannot have.
    :raises UnsupportedPipelineError: a value that cannot be part of a version.
    """
    refuse_tensors(arguments, task.name)
    given = {name: value for name, value in arguments.items() if name not in ("return_tensors", "return_type")}
    for name in given:
        if name not in task.arguments:
            close = difflib.get_close_matches(name, task.arguments, n=1)
            meant = f" Did you mean {close[0]!r}?" if close else ""
            raise InvalidOptionError(
                f"{where} holds {name!r}, which {task.name} does not take.{meant} "
                f"It takes {', '.join(sorted(task.arguments))}."
            )
    parameters = plain_arguments(given)
    params = task.signature(parameters).params  # refuses what no signature can hold
    typed = {spec.name: parameters[spec.name] for spec in params if spec.name in parameters}
    check_params(typed, params, f"the {task.name} pipeline")  # a "2" from a template is no number
    return parameters


def refuse_tensors(arguments: Mapping[str, Any], task: str) -> None:
    """
    Refuse a pipeline that gives tensors, of token ids or vectors, instead of what the task's columns hold.

    A real pipeline keeps the option as ``return_type=ReturnType.TENSORS``, one described by arguments as it is written.

    :raises UnsupportedPipelineError: it does.
    """
    return_type = arguments.get("return_type")
    if arguments.get("return_tensors") or getattr(return_type, "name", return_type) == "TENSORS":
        raise UnsupportedPipelineError(
            f"The {task} pipeline was built with return_tensors, which gives tensors (of token ids, or of all tokens' "
            "vectors), and no output column of the task holds them. Build it without return_tensors (transformers "
            "takes even return_tensors=False for True in text generation)."
        )
