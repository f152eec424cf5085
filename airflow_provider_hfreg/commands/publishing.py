"""The command that logs a version."""

from __future__ import annotations

import os
from argparse import Namespace
from typing import Any

from airflow_provider_hfreg.commands.looking import described
from airflow_provider_hfreg.commands.places import url_of
from airflow_provider_hfreg.commands.replies import Asked, Reply
from airflow_provider_hfreg.registry.lineage import TRAINING_DATA
from airflow_provider_hfreg.registry.version import ModelVersion
from airflow_provider_hfreg.versions.layout import check_alias

_HUB = "hub:"


def log(asked: Asked) -> Reply:
    """Log a folder, or a model of the hub."""
    options = asked.options
    for alias in options.alias:
        check_alias(alias)  # before gigabytes are sent
    registry, source = asked.registry, options.source
    if source.startswith(_HUB):
        version = registry.log_hub_model(
            source.removeprefix(_HUB),
            revision=options.revision,
            token=os.environ.get("HF_TOKEN") or None,
            **_described(options),
        )
    else:
        version = registry.log_folder(url_of(source), **_described(options))
    model = registry.get_model(version.model_name)
    for alias in options.alias:
        model.set_alias(alias, version.version_name)
    if options.default:
        model.set_default(version.version_name)
    return logged(version, model.pointers_to(version.version_name))


def logged(version: ModelVersion, pointers: list[str]) -> Reply:
    """Return what to say of a version that was just logged, imported or copied."""
    done = "Logged" if version.created else "Was there with the same content, nothing changed:"
    text = f"{done} {version.reference} ({version.content_digest}) in {version.registry_url}"
    if pointers:
        text += f"\nIt is {', '.join(f'@{alias}' for alias in pointers)} of its model now."
    return Reply(described(version, pointers) | {"was_created": version.created}, text)


def _described(options: Namespace) -> dict[str, Any]:
    return {
        "model_name": options.model,
        "version_name": options.version,
        "task": options.task,
        "pipeline_kwargs": dict(options.param),
        "comment": options.comment,
        "tags": dict(options.tag),
        "metrics": dict(options.metric),
        "options": {"cuda_version": None if options.cuda_version == "none" else options.cuda_version},
        "trust_remote_code": options.trust_remote_code,
        "lineage": {TRAINING_DATA: options.training_data} if options.training_data else None,
    }
