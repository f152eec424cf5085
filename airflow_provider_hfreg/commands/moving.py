"""Commands that bring a version to another place: export, import, copy."""

from __future__ import annotations

from typing import Any

from airflow_provider_hfreg.commands.places import url_of
from airflow_provider_hfreg.commands.publishing import logged
from airflow_provider_hfreg.commands.replies import Asked, Reply
from airflow_provider_hfreg.commands.tables import size_text
from airflow_provider_hfreg.errors import ModelReferenceError
from airflow_provider_hfreg.versions.layout import parse_reference


def export(asked: Asked) -> Reply:
    """Write a version into a folder."""
    options = asked.options
    version = asked.registry.resolve(options.reference)
    folder = version.export(options.folder, verify=options.verify)
    plain = {"reference": version.reference, "content_digest": version.content_digest, "folder": str(folder)}
    size = size_text(version.manifest.size_bytes)
    return Reply(plain, f"Wrote {version.reference} ({size}) into {folder}")


def import_(asked: Asked) -> Reply:
    """Log an exported folder."""
    options = asked.options
    version = asked.registry.import_version(
        url_of(options.folder), trust_remote_code=options.trust_remote_code, **_names(options.target)
    )
    return logged(version, asked.registry.get_model(version.model_name).pointers_to(version.version_name))


def copy(asked: Asked) -> Reply:
    """Copy a version within the registry or into another one."""
    options = asked.options
    target = asked.target
    version = target.copy_version(
        asked.registry.resolve(options.reference),
        keep_annotations=not options.no_annotations,
        trust_remote_code=options.trust_remote_code,
        verify=not options.no_verify,
        **_names(options.target),
    )
    return logged(version, target.get_model(version.model_name).pointers_to(version.version_name))


def _names(target: str | None) -> dict[str, Any]:
    """
    Return the names that a copy gets.

    >>> _names("finbert-prod/v1"), _names(None)
    ({'model_name': 'finbert-prod', 'version_name': 'v1'}, {})

    :raises ModelReferenceError: an alias, which is no name for a version.
    """
    if target is None:
        return {}
    reference = parse_reference(target)
    if reference.alias is not None:
        raise ModelReferenceError(f"{target!r} is an alias: write MODEL/VERSION, and set the alias afterwards.")
    names = {"model_name": reference.model_name}
    return names if reference.version_name is None else names | {"version_name": reference.version_name}
