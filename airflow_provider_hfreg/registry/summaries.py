"""What there is to say about a model or a version, gathered once, for frames, tables, JSON and searches alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_provider_hfreg.versions.manifest import Annotations, Manifest


@dataclass(frozen=True)
class VersionSummary:
    """
    One version as it was when somebody looked.

    :param annotations: tags, metrics and comment, edits included.
    :param aliases: those that point to it, by name; the system's are left out.
    """

    manifest: Manifest
    annotations: Annotations
    aliases: tuple[str, ...]
    is_default: bool

    def plain(self) -> dict[str, Any]:
        """Return the facts as JSON values, in the order in which a table shows them."""
        return {
            "version_name": self.manifest.version_name,
            "created": self.manifest.created,
            "task": self.manifest.spec.task,
            "aliases": list(self.aliases),
            "is_default": self.is_default,
            "metrics": dict(self.annotations.metrics),
            "tags": dict(self.annotations.tags),
            "comment": self.annotations.comment,
            "size_bytes": self.manifest.size_bytes,
        }


VERSION_COLUMNS = (
    "version_name",
    "created",
    "task",
    "aliases",
    "is_default",
    "metrics",
    "tags",
    "comment",
    "size_bytes",
)
"""The keys of :meth:`VersionSummary.plain`, for a table that has no row."""


@dataclass(frozen=True)
class ModelSummary:
    """
    One model as it was when somebody looked.

    :param default: the version that the bare name means.
    :param metrics: the model's own, and so the tags and the comment.
    :param last_logged: when the store got the newest version.
    """

    name: str
    versions: int
    default: str
    aliases: Mapping[str, str]
    metrics: Mapping[str, Any]
    tags: Mapping[str, str]
    comment: str | None
    last_logged: datetime

    def plain(self) -> dict[str, Any]:
        """Return the facts as JSON values, in the order in which a table shows them."""
        return {
            "name": self.name,
            "versions": self.versions,
            "default_version_name": self.default,
            "aliases": dict(self.aliases),
            "metrics": dict(self.metrics),
            "tags": dict(self.tags),
            "comment": self.comment,
            "last_logged": self.last_logged.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }


MODEL_COLUMNS = ("name", "versions", "default_version_name", "aliases", "metrics", "tags", "comment", "last_logged")
"""The keys of :meth:`ModelSummary.plain`."""
