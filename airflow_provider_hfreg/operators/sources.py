"""
Where the model of a logging task comes from: a folder, the hub, or a callable that builds a pipeline.

Pure: it reads what was given and decides, it touches no file and no network.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from enum import Enum
from types import ModuleType
from typing import Any

from airflow_provider_hfreg.errors import SettingsError


class ModelSource(Enum):
    """What the text given as ``model`` names."""

    FOLDER = "folder"
    HUB = "hub"


def source_of(model: str) -> ModelSource:
    """
    Tell a folder from a hub id by its looks alone: a worker's current folder must not change what a DAG means.

    >>> source_of("s3://bucket/out/model"), source_of("/srv/model"), source_of("ProsusAI/finbert")
    (<ModelSource.FOLDER: 'folder'>, <ModelSource.FOLDER: 'folder'>, <ModelSource.HUB: 'hub'>)

    :raises SettingsError: a relative path.
    """
    if "://" in model or model.startswith("/"):
        return ModelSource.FOLDER
    if model.startswith((".", "~")) or model.count("/") > 1:
        raise SettingsError(
            f"model={model!r} is neither an absolute path nor a URL nor a hub id (owner/name): a task's current folder "
            f"is the worker's business, so write the folder's full path."
        )
    return ModelSource.HUB


def pipeline_builder(given: str | Callable[..., Any]) -> Callable[..., Any]:
    """
    Return the callable that builds the pipeline.

    >>> pipeline_builder("json:dumps") is pipeline_builder("json.dumps")
    True

    :param given: the callable, or its import path: ``package.module:function`` or ``package.module.function``.
    :raises SettingsError: nothing callable is there.
    """
    if not isinstance(given, str):
        return given
    module_name, _, name = given.rpartition(":" if ":" in given else ".")
    builder: Callable[..., Any] | None = getattr(_find_module(module_name), name, None)
    if not callable(builder):
        raise SettingsError(
            f"pipeline_callable={given!r} names no function that this worker can import: it must be "
            f"package.module:function, with the package installed here or beside the DAGs."
        )
    return builder


def _find_module(name: str) -> ModuleType | None:
    """Return a module, or None if there is none; an error inside it passes with its traceback."""
    try:
        return importlib.import_module(name) if name else None
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            return None
        raise
