"""
Commands that say something about a version or a model: tags, metrics, comments.

A bare name is the model itself in all of them; its default version is ``MODEL@DEFAULT``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow_provider_hfreg.commands.replies import Asked, Reply
from airflow_provider_hfreg.commands.tables import table
from airflow_provider_hfreg.versions.layout import parse_reference

if TYPE_CHECKING:
    from airflow_provider_hfreg.registry.model import Model
    from airflow_provider_hfreg.registry.version import ModelVersion


def tag(asked: Asked) -> Reply:
    """Set, remove or show tags."""
    options = asked.options
    about = _about(asked)
    changes = dict(options.tags) | dict.fromkeys(options.remove)
    if changes:
        about.set_tags(changes)
    return _listed(options.reference, "tag", about.tags)


def metric(asked: Asked) -> Reply:
    """Set, remove or show metrics."""
    options = asked.options
    about = _about(asked)
    if options.metrics:
        about.set_metrics(dict(options.metrics))
    for name in options.remove:
        about.delete_metric(name)
    return _listed(options.reference, "metric", about.metrics)


def comment(asked: Asked) -> Reply:
    """Set, remove or show a comment."""
    options = asked.options
    about = _about(asked)
    if options.text is not None:
        about.set_comment(options.text or None)
    return Reply({"about": options.reference, "comment": about.comment}, about.comment or "No comment.")


def _about(asked: Asked) -> Model | ModelVersion:
    """Return what a reference means here, where a bare name is the model itself and not its default version."""
    reference = parse_reference(asked.options.reference)
    if reference.version_name is None and reference.alias is None:
        return asked.registry.get_model(reference.model_name)
    return asked.registry.resolve(asked.options.reference)


def _listed(about: str, kind: str, values: dict[str, Any]) -> Reply:
    text = table((kind, "value"), [(name, _as_typed(value)) for name, value in values.items()])
    return Reply({"about": about, f"{kind}s": values}, text if values else f"{about} has no {kind}.")


def _as_typed(value: Any) -> str:
    """
    Return a value as it is typed on the command line.

    >>> [_as_typed(value) for value in ("held out", 0.5, {"f1": 0.8}, None)]
    ['held out', '0.5', '{"f1": 0.8}', 'null']
    """
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
