"""The small JSON files of a model's folder; one that is damaged is refused by its path."""

from __future__ import annotations

import json
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
