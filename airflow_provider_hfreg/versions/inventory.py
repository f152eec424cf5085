"""
What a collector has to know: which blobs there are, what refers to them, and who is at work.

Invariant: nothing is concluded from what is not understood. A key below ``models/`` or ``gc/`` that this version of the
package does not write, or a document that it cannot read, might refer to blobs: then :class:`UnknownFormatError` names
it and nothing is collected. What lies below ``blobs/`` under a name of another form refers to nothing; it is left alone
and told.

It writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from airflow_provider_hfreg.errors import KeyNotFoundError, UnknownFormatError
from airflow_provider_hfreg.storage.base import ObjectInfo, ObjectStore
from airflow_provider_hfreg.versions.documents import read_document
from airflow_provider_hfreg.versions.layout import (
    Layout,
    ModelKey,
    digest_of_blob,
    digest_of_marker,
    is_lease,
    model_key,
)
from airflow_provider_hfreg.versions.leases import FoundLease, find_lease, length_of
from airflow_provider_hfreg.versions.manifest import Manifest
from airflow_provider_hfreg.versions.publish import find_manifest
from airflow_provider_hfreg.versions.refs import Head
from airflow_provider_hfreg.versions.swap import read
from airflow_provider_hfreg.versions.terms import is_past

_READERS = 8
_T = TypeVar("_T")


@dataclass(frozen=True)
class Blobs:
    """
    What lies below ``blobs/``.

    :param by_digest: every generation of each digest.
    :param strange: keys of another form.
    """

    by_digest: dict[str, tuple[ObjectInfo, ...]]
    strange: tuple[str, ...]


def find_blobs(store: ObjectStore) -> Blobs:
    """List the blobs."""
    by_digest: dict[str, tuple[ObjectInfo, ...]] = {}
    strange = []
    for info in store.list_infos(Layout.BLOBS):
        digest = digest_of_blob(info.key)
        if digest is None:
            strange.append(info.key)
        else:
            by_digest[digest] = (*by_digest.get(digest, ()), info)
    return Blobs(by_digest, tuple(strange))


@dataclass(frozen=True)
class References:
    """
    What the versions say.

    :param blobs: keys of blobs that a version names.
    :param remains: manifest and state of deleted versions, which nobody looks at any more.
    """

    blobs: frozenset[str]
    remains: tuple[str, ...]


class Survey:
    """Reads what the versions refer to, again and again; a manifest never changes, so each is read once."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._named: dict[tuple[str, str], frozenset[str]] = {}

    def references(self) -> References:
        """
        List and read the documents of all models.

        :raises UnknownFormatError: something there is not understood.
        """
        listed = [(self._understood(info), info) for info in self._store.list_infos(Layout.MODELS)]
        names = sorted({key.model_name for key, _ in listed})
        heads = dict(zip(names, _in_parallel(self._head, names), strict=True))
        alive: list[tuple[ModelKey, ObjectInfo]] = []
        remains: list[tuple[ModelKey, ObjectInfo]] = []
        for key, info in listed:
            (remains if key.version_name in heads[key.model_name].tombstones else alive).append((key, info))
        named = _in_parallel(self._blobs_of, [(key, info) for key, info in alive if key.folder == "versions"])
        return References(frozenset().union(*named), tuple(info.key for _, info in remains))

    def _understood(self, info: ObjectInfo) -> ModelKey:
        key = model_key(info.key)
        if key is None:
            raise _not_understood(self._store, info.key)
        return key

    def _head(self, model_name: str) -> Head:
        return read(self._store, Layout.head(model_name), Head.from_plain, Head())

    def _blobs_of(self, listed: tuple[ModelKey, ObjectInfo]) -> frozenset[str]:
        key, info = listed
        known = self._named.get((info.key, info.etag))
        if known is None:
            manifest = self._manifest(key, info.key)
            # None: deleted since, with its tombstone before it, so it protects nothing.
            known = frozenset() if manifest is None else frozenset(file.key for file in manifest.files)
            self._named[info.key, info.etag] = known
        return known

    def _manifest(self, key: ModelKey, where: str) -> Manifest | None:
        try:
            return find_manifest(self._store, key.model_name, str(key.version_name))
        except UnknownFormatError as error:
            raise UnknownFormatError(
                f"{self._store.location(where)} cannot be read, and may name blobs, so nothing was collected: {error}"
            ) from error


@dataclass(frozen=True)
class FoundMarker:
    """A collector's marker, of a run that may have been killed."""

    key: str
    modified: datetime
    length_s: float

    def is_past(self, now: datetime) -> bool:
        """Tell whether its collector deletes nothing more; ``now`` is a date of the store."""
        return is_past((now - self.modified).total_seconds(), self.length_s)


def check_protocol(store: ObjectStore) -> None:
    """
    Return if nothing but leases and markers lies below ``gc/``.

    :raises UnknownFormatError: something by which a newer version may protect blobs.
    """
    for name in store.list_names(Layout.GARBAGE):
        if Layout.GARBAGE + name not in (Layout.LEASES, Layout.CONDEMNED):
            raise _not_understood(store, Layout.GARBAGE + name)


def find_leases(store: ObjectStore) -> list[FoundLease]:
    """
    Return the leases, whatever their age.

    :raises UnknownFormatError: something there is not understood.
    """
    infos = _listed(store, Layout.LEASES, is_lease)
    return [lease for lease in _in_parallel(lambda info: find_lease(store, info), infos) if lease is not None]


def find_markers(store: ObjectStore) -> list[FoundMarker]:
    """
    Return the markers, whatever their age.

    :raises UnknownFormatError: something there is not understood.
    """
    infos = _listed(store, Layout.CONDEMNED, lambda key: digest_of_marker(key) is not None)
    return [marker for marker in _in_parallel(lambda info: _find_marker(store, info), infos) if marker is not None]


def _find_marker(store: ObjectStore, info: ObjectInfo) -> FoundMarker | None:
    location = store.location(info.key)
    try:
        return FoundMarker(info.key, info.modified, length_of(read_document(store.get(info.key), location)))
    except KeyNotFoundError:
        return None  # its collector has finished since
    except TypeError as error:
        raise UnknownFormatError(f"{location} is no marker of this package: {error} in it.") from error


def _listed(store: ObjectStore, folder: str, is_ours: Callable[[str], bool]) -> list[ObjectInfo]:
    infos = list(store.list_infos(folder))
    for info in infos:
        if not is_ours(info.key):
            raise _not_understood(store, info.key)
    return infos


def _in_parallel(find: Callable[..., _T], arguments: Iterable[object]) -> list[_T]:
    with ThreadPoolExecutor(_READERS) as threads:
        return list(threads.map(find, arguments))


def _not_understood(store: ObjectStore, key: str) -> UnknownFormatError:
    return UnknownFormatError(
        f"{store.location(key)} is nothing that this version of the package writes there. It may refer to blobs, so "
        "nothing was collected. Upgrade airflow-provider-hfreg here if a newer version wrote it; else move it out of "
        "the registry."
    )
