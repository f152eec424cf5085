"""Versions as a table for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_provider_hfreg.errors import InferenceExtraMissingError
from airflow_provider_hfreg.registry.version import ModelVersion
from airflow_provider_hfreg.versions.refs import Head

_COLUMNS = ("version_name", "created", "task", "aliases", "is_default", "metrics", "tags", "comment", "size_bytes")


def versions_frame(versions: Sequence[ModelVersion], head: Head) -> Any:
    """
    Return a ``pandas.DataFrame``, one row per version.

    :param versions: oldest first.
    :raises InferenceExtraMissingError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError:
        raise InferenceExtraMissingError(
            "pandas is not installed here, so versions cannot be shown as a frame: use versions(), or "
            "pip install 'airflow-provider-hfreg[inference]'."
        ) from None
    default = head.default or (versions[0].version_name if versions else None)
    rows = [_row(version, head, default) for version in versions]
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def _row(version: ModelVersion, head: Head, default: str | None) -> tuple[Any, ...]:
    annotations = version.annotations()
    return (
        version.version_name,
        version.manifest.created,
        version.task,
        sorted(alias for alias, name in head.aliases.items() if name == version.version_name),
        version.version_name == default,
        dict(annotations.metrics),
        dict(annotations.tags),
        annotations.comment,
        version.manifest.size_bytes,
    )
