"""
A version in another place: copied within a registry or to another one, exported to a folder and imported from it.

Invariants:

- The content digest stays: task, parameters, signatures, options and files are the very same.
- Who logged it and on what stays, too, in ``logged_by``, ``environment`` and ``lineage``; the place that it came from
  is added to ``lineage["copied_from"]``, the oldest first. ``created`` is the time of the copy, because versions of a
  model are ordered by when they came there.
- Tags, metrics and comment go along as they are at that moment (a gate in the other registry asks for the metrics);
  aliases and the default do not: they are the other model's own.
- An import is the export, or nothing: a file that was changed, added or removed is refused, because the copy would
  claim the name, metrics and lineage of what it no longer is. Such a folder is logged as new content instead.

- What comes from another registry passes the rules that logging here has: consent to Python is not inherited, and what
  a stranger's manifest says is looked at like anything else.

It reads what is brought and writes nothing; :class:`.registry.Registry` publishes.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from airflow_provider_hfreg.errors import DigestMismatchError, UnknownFormatError, UnsafeModelError
from airflow_provider_hfreg.registry.environment import describe_writer, now
from airflow_provider_hfreg.registry.request import COPIED_FROM
from airflow_provider_hfreg.versions.intake import select
from airflow_provider_hfreg.versions.layout import EXPORTED_MANIFEST, Layout
from airflow_provider_hfreg.versions.manifest import Annotations, Manifest, VersionFile
from airflow_provider_hfreg.versions.safety import check_content
from airflow_provider_hfreg.versions.secrets import check_no_secret
from airflow_provider_hfreg.versions.sources import Source, StoredVersion


def moved(
    manifest: Manifest, *, model_name: str, version_name: str, annotations: Annotations, registry_url: str | None
) -> Manifest:
    """
    Return the manifest of a copy.

    :param annotations: that the copy is born with.
    :param registry_url: where the original lies; None for an exported folder.
    """
    origin = {
        "registry": registry_url,
        "model_name": manifest.model_name,
        "version_name": manifest.version_name,
        "created": manifest.created,
        "copied_by": describe_writer(),
    }
    earlier = manifest.lineage.get(COPIED_FROM, [])
    return replace(
        manifest,
        model_name=model_name,
        version_name=version_name,
        files=tuple(replace(file, key=Layout.blob(file.digest)) for file in manifest.files),
        logged=annotations,
        lineage={**manifest.lineage, COPIED_FROM: [*earlier, origin]},
        nonce=uuid.uuid4().hex,
        created=now(),
    )


def read_exported(source: Source, *, trust_remote_code: bool) -> Manifest:
    """
    Return the manifest of an exported folder.

    :raises UnknownFormatError: the folder holds none, or one that was changed.
    :raises UnsafeModelError: its manifest holds an access token, or it has Python files that nobody here agreed to.
    """
    if EXPORTED_MANIFEST not in source.sizes():
        raise UnknownFormatError(
            f"{source.location} holds no {EXPORTED_MANIFEST}, so it is no exported version (or its export was cut "
            "short). Log it as a folder instead."
        )
    with source.opened(EXPORTED_MANIFEST) as path:
        manifest = Manifest.from_bytes(path.read_bytes(), f"{source.location}/{EXPORTED_MANIFEST}")
    check_said(manifest, EXPORTED_MANIFEST)
    check_consent(manifest, source.location, trust_remote_code=trust_remote_code)
    return manifest


def check_consent(manifest: Manifest, where: str, *, trust_remote_code: bool) -> None:
    """
    Refuse Python files that nobody here has agreed to.

    :raises UnsafeModelError: the version holds some.
    """
    has_python = any(file.path.endswith(".py") for file in manifest.files)
    if (manifest.spec.remote_code or has_python) and not trust_remote_code:
        raise UnsafeModelError(
            f"{where} holds Python code that would run wherever the version is loaded. If you have read and trust it, "
            "bring it here with trust_remote_code=True (--trust-remote-code); loading will ask again."
        )


def check_storable(manifest: Manifest, source: StoredVersion, *, trust_remote_code: bool) -> None:
    """
    Refuse the files of another registry's version that could not have been logged here: what was written there, by this
    package or by hand, is a stranger's word. Small files are read for it, and weights by their headers.

    :param manifest: of the copy.
    :param source: its files.
    :raises UnsafeModelError: a pickle, Python without consent, a file with an access token or one that logging leaves
        out.
    """
    check_consent(manifest, source.location, trust_remote_code=trust_remote_code)
    paths = select(source, remote_code=trust_remote_code)
    strange = sorted({file.path for file in manifest.files} - set(paths))
    if strange:
        raise UnsafeModelError(
            f"{source.location} holds {', '.join(strange)}, which logging leaves out because loading does not need it. "
            "It was not copied: export the version, look at these files, and log the folder without them."
        )
    folder = source.sketch(paths)
    for path in paths:
        check_content(path, folder / path, remote_code=trust_remote_code)


def check_said(manifest: Manifest, place: str) -> None:
    """
    Refuse access tokens in what a manifest says beside its names and files: whatever its writer put there.

    :param place: names the manifest in the message.
    :raises UnsafeModelError: it holds one.
    """
    said = {
        "pipeline": manifest.spec.to_json(),
        "functions": [function.to_json() for function in manifest.functions],
        "options": manifest.options,
        "environment": manifest.environment,
        "logged_by": manifest.logged_by,
        "lineage": manifest.lineage,
        **manifest.logged.to_json(),
    }
    check_no_secret(said, place)


def check_same_files(manifest: Manifest, found: Iterable[VersionFile], where: str) -> None:
    """
    Raise unless a folder holds what its manifest says, to the byte, and nothing else.

    :param found: as the folder's files are now.
    :raises DigestMismatchError: it does not; the message names the files.
    """
    differences = differing_files(
        {file.path: file.digest for file in manifest.files}, {file.path: file.digest for file in found}
    )
    if differences:
        told = "; ".join(f"{what}: {', '.join(paths)}" for what, paths in differences.items())
        raise DigestMismatchError(
            f"{where} is not the version that was exported ({told}). Nothing was imported. Export it again; or, if "
            "the change is meant, log the folder as a version of its own."
        )


def differing_files(expected: Mapping[str, str], found: Mapping[str, str]) -> dict[str, list[str]]:
    """
    Return the paths that differ, by how.

    >>> differing_files({"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "9", "d": "4"})
    {'changed': ['b'], 'missing': ['c'], 'added': ['d']}
    """
    differences: dict[str, Any] = {
        "changed": sorted(path for path in expected.keys() & found.keys() if expected[path] != found[path]),
        "missing": sorted(expected.keys() - found.keys()),
        "added": sorted(found.keys() - expected.keys()),
    }
    return {what: paths for what, paths in differences.items() if paths}
