"""
Whether what a registry stores is what was stored: every blob read and hashed, nothing kept.

A blob that several versions share is read once. The bytes come through this machine: servers keep checksums of parts in
kinds that differ, and a server that lost a byte is not the one to ask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from airflow_provider_hfreg.errors import KeyNotFoundError
from airflow_provider_hfreg.storage.base import ObjectStore, OnBytes
from airflow_provider_hfreg.versions.blobs import blob_problem, hash_blob
from airflow_provider_hfreg.versions.manifest import Manifest, VersionFile

_READERS = 4


@dataclass(frozen=True)
class Damage:
    """
    One blob that is not what it should be.

    :param problem: what is wrong, in a few words.
    :param needed_by: the versions that cannot be loaded without it.
    """

    location: str
    digest: str
    problem: str
    needed_by: tuple[str, ...]


@dataclass(frozen=True)
class Verification:
    """
    What came of reading.

    :param size_bytes: of what was read.
    """

    versions: int
    blobs: int
    size_bytes: int
    damages: tuple[Damage, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        return asdict(self)


def verify_blobs(
    store: ObjectStore, manifests: Sequence[Manifest], progress: Callable[[VersionFile], OnBytes]
) -> Verification:
    """
    Read every blob of some versions.

    :param progress: gives the callback for one blob.
    """
    needed: dict[str, list[tuple[Manifest, VersionFile]]] = {}
    for manifest in manifests:
        for file in manifest.files:
            needed.setdefault(file.key, []).append((manifest, file))
    firsts = [uses[0][1] for uses in needed.values()]
    with ThreadPoolExecutor(_READERS) as readers:
        problems = list(readers.map(lambda file: _problem(store, file, progress(file)), firsts))
    damages = [
        Damage(store.location(file.key), file.digest, problem, _references(needed[file.key]))
        for file, problem in zip(firsts, problems, strict=True)
        if problem is not None
    ]
    return Verification(len(manifests), len(firsts), sum(file.size_bytes for file in firsts), tuple(damages))


def _problem(store: ObjectStore, file: VersionFile, on_bytes: OnBytes) -> str | None:
    """Return what is wrong with a blob, or None."""
    try:
        return blob_problem(hash_blob(store, file, on_bytes), file)
    except KeyNotFoundError:
        return "is missing"


def _references(uses: Iterable[tuple[Manifest, VersionFile]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(manifest.reference for manifest, _ in uses))
