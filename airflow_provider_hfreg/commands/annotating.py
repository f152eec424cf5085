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
    name, about = _named(asked)
    changes = dict(options.tags) | dict.fromkeys(options.remove)
    if changes:
        about.set_tags(changes)
    return _listed(name, "tag", about.tags)


def metric(asked: Asked) -> Reply:
    """Set, remove or show metrics."""
    options = asked.options
    name, about = _named(asked)
    if options.metrics:
        about.set_metrics(dict(options.metrics))
    for metric_name in options.remove:
        about.delete_metric(metric_name)
    return _listed(name, "metric", about.metrics)


def comment(asked: Asked) -> Reply:
    """Set, remove or show a comment."""
    options = asked.options
    name, about = _named(asked)
    if options.text is not None:
        about.set_comment(options.text or None)
    return Reply({"about": name, "comment": about.comment}, f"{_headed(name)}\n{about.comment or 'No comment.'}")


def _named(asked: Asked) -> tuple[str, Model | ModelVersion]:
    """Return the name of what a reference means here, where a bare name is the model itself, and what it means."""
    reference = parse_reference(asked.options.reference)
    if reference.version_name is None and reference.alias is None:
        return reference.model_name, asked.registry.get_model(reference.model_name)
    version = asked.registry.resolve(asked.options.reference)
    return version.reference, version


def _listed(name: str, kind: str, values: dict[str, Any]) -> Reply:
    text = table((kind, "value"), [(key, _as_typed(value)) for key, value in values.items()])
    return Reply({"about": name, f"{kind}s": values}, f"{_headed(name)}\n{text if values else f'No {kind}.'}")


def _headed(name: str) -> str:
    """
    Say whose values follow: who typed a bare name may have meant the default version.

    >>> _headed("finbert"), _headed("finbert/v2")
    ('Model finbert, of no version:', 'Version finbert/v2:')
    """
    return f"Version {name}:" if "/" in name else f"Model {name}, of no version:"


def _as_typed(value: Any) -> str:
    """
    Return a value as it is typed on the command line.

    >>> [_as_typed(value) for value in ("held out", 0.5, {"f1": 0.8}, None)]
    ['held out', '0.5', '{"f1": 0.8}', 'null']
    """
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
