"""
Whether what a registry stores is what was stored: every blob read and hashed, nothing kept.

A blob that several versions share is read once. The bytes come through this machine: servers keep checksums of parts in
kinds that differ, and a server that lost a byte is not the one to ask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

from airflow_provider_hfreg.errors import HfregError, KeyNotFoundError
from airflow_provider_hfreg.registry.catalogue import Catalogue
from airflow_provider_hfreg.storage.base import ObjectStore, OnBytes
from airflow_provider_hfreg.versions.blobs import blob_problem, hash_blob
from airflow_provider_hfreg.versions.layout import Layout
from airflow_provider_hfreg.versions.manifest import Manifest, VersionFile

_READERS = 4


@dataclass(frozen=True)
class Damage:
    """
    One blob or document that is not what it should be.

    :param digest: of a blob, as it should be; None for a document.
    :param problem: what is wrong, in a few words.
    :param needed_by: the versions that cannot be loaded without it.
    """

    location: str
    digest: str | None
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


def verify_stored(
    store: ObjectStore,
    model_names: Iterable[str],
    manifests: Sequence[Manifest],
    progress: Callable[[VersionFile], OnBytes],
) -> Verification:
    """
    Read all there is of some models, and of some versions.

    :param progress: gives the callback for one blob.
    """
    catalogue = Catalogue(store)
    found, unread = read_models(catalogue, store, model_names)
    read = verify_blobs(store, [*found, *manifests], progress)
    return replace(read, damages=of_what_is_there(catalogue, (*unread, *read.damages)))


def read_models(
    catalogue: Catalogue, store: ObjectStore, model_names: Iterable[str]
) -> tuple[list[Manifest], list[Damage]]:
    """Return the manifests of some models' versions, and the documents that cannot be read."""
    manifests: list[Manifest] = []
    damages: list[Damage] = []
    for name in model_names:
        try:
            found, ill = catalogue.read_each(name, catalogue.version_names(name))
        except HfregError as error:
            damages.append(Damage(store.location(Layout.head(name)), None, _unread(error), (name,)))
            continue
        manifests += found
        damages += [
            Damage(store.location(Layout.manifest(name, version)), None, _unread(error), (f"{name}/{version}",))
            for version, error in ill.items()
        ]
    return manifests, damages


def verify_blobs(
    store: ObjectStore, manifests: Sequence[Manifest], progress: Callable[[VersionFile], OnBytes]
) -> Verification:
    """
    Read every blob of some versions. One that cannot be read is a damage like any other, and the next is read.

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


def of_what_is_there(catalogue: Catalogue, damages: Iterable[Damage]) -> tuple[Damage, ...]:
    """Return damages without those of versions that were deleted while they were read: their blobs may go."""
    deleted: dict[str, frozenset[str]] = {}

    def is_there(reference: str) -> bool:
        model, _, version = reference.partition("/")
        if model not in deleted:
            deleted[model] = _deleted(catalogue, model)
        return version not in deleted[model]

    kept = (replace(damage, needed_by=tuple(filter(is_there, damage.needed_by))) for damage in damages)
    return tuple(damage for damage in kept if damage.needed_by)


def _deleted(catalogue: Catalogue, model_name: str) -> frozenset[str]:
    try:
        return frozenset(catalogue.head(model_name).tombstones)
    except HfregError:
        return frozenset()  # that the head is damaged is told already


def _unread(error: HfregError) -> str:
    return f"cannot be read: {error}"


def _problem(store: ObjectStore, file: VersionFile, on_bytes: OnBytes) -> str | None:
    """Return what is wrong with a blob, or None."""
    try:
        return blob_problem(hash_blob(store, file, on_bytes), file)
    except KeyNotFoundError:
        return "is missing"
    except HfregError as error:
        return _unread(error)


def _references(uses: Iterable[tuple[Manifest, VersionFile]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(manifest.reference for manifest, _ in uses))
