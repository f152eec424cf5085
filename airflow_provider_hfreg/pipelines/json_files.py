"""The small JSON files of a model's folder; one that is damaged is refused by its path."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from airflow_provider_hfreg.errors import UnsupportedPipelineError


def read_json_object(path: Path) -> dict[str, Any] | None:
    """
    Return the object that a file holds; None where there is no such file.

    :raises UnsupportedPipelineError: it holds something else.
    """
    content = _read(path, dict, "object")
    return content if isinstance(content, dict) else None


def read_json_list(path: Path) -> list[Any] | None:
    """
    Return the list that a file holds; None where there is no such file.

    :raises UnsupportedPipelineError: it holds something else.
    """
    content = _read(path, list, "list")
    return content if isinstance(content, list) else None


def needs_own_code(folder: Path, task: str) -> bool:
    """
    Tell whether a model runs Python files of its own: its network, its tokenizer or another part, or its pipeline.

    :param task: whose pipeline may be one of the model's own.
    :raises UnsupportedPipelineError: a file is damaged.
    """
    files = {path.name: json.loads(path.read_text("utf-8")) for path in folder.glob("*.json")}
    described = [content for content in files.values() if isinstance(content, dict)]
    if any(content.get("auto_map") for content in described):
        return True
    return task in (files.get("config.json", {}).get("custom_pipelines") or {})


def code_elsewhere(value: Any) -> str | None:
    """
    Return a class of another repository that a configuration names, ``owner/name--module.Class``.

    >>> code_elsewhere({"text_config": {"auto_map": {"AutoTokenizer": [None, "me/mine--own.Own"]}}})
    'me/mine--own.Own'
    >>> code_elsewhere({"auto_map": {"AutoModel": "own.Own"}, "sep": "--"})
    """
    return next((name for name in _code_named(value) if "--" in name), None)


def _code_named(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, below in value.items():
            yield from _texts(below) if name in ("auto_map", "custom_pipelines") else _code_named(below)
    elif isinstance(value, list):
        for below in value:
            yield from _code_named(below)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for below in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(below)


def _read(path: Path, kind: type, name: str) -> Any:
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError:
        content = None
    if not isinstance(content, kind):
        raise UnsupportedPipelineError(f"{path} is no JSON {name}. Save the model again with save_pretrained.")
    return content
