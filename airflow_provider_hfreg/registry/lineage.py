"""
Where a version comes from, as its manifest tells.

What used it is not kept in a registry: a batch run has only the right to read there. Its own ``run.json`` names the
version by digest, so :func:`airflow_provider_hfreg.runs.uses.find_uses` finds the runs where their outputs lie.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from airflow_provider_hfreg.registry.request import COPIED_FROM
from airflow_provider_hfreg.versions.manifest import Manifest

TRAINING_DATA = "training_data"


@dataclass(frozen=True)
class Lineage:
    """
    Where a version comes from.

    :param logged_by: DAG, task and run; or user and host.
    :param logged_at: ISO 8601, by the writer's clock; of a copy: when the original was logged.
    :param source: repository and commit of the hub, where it was logged from there.
    :param training_data: as the logger gave it, any JSON value; None where it was not said.
    :param further: what else the logger gave, by name.
    :param copied_from: the places that a copy came through, the oldest first.
    :param environment: versions of Python and of the libraries that logged it.
    """

    logged_by: Mapping[str, str]
    logged_at: str
    source: Mapping[str, Any] | None
    training_data: Any
    further: Mapping[str, Any]
    copied_from: tuple[Mapping[str, Any], ...]
    environment: Mapping[str, str]

    @classmethod
    def of(cls, manifest: Manifest) -> Lineage:
        """Return a version's lineage."""
        copied_from = tuple(manifest.lineage.get(COPIED_FROM, ()))
        known = (TRAINING_DATA, COPIED_FROM)
        return cls(
            logged_by=manifest.logged_by,
            logged_at=copied_from[0]["created"] if copied_from else manifest.created,
            source=manifest.spec.source,
            training_data=manifest.lineage.get(TRAINING_DATA),
            further={name: value for name, value in manifest.lineage.items() if name not in known},
            copied_from=copied_from,
            environment=manifest.environment,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the lineage as plain JSON values."""
        return asdict(self) | {"copied_from": list(self.copied_from)}
