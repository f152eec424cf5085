"""
What is in a registry: names, pointers, manifests, by as few requests as it takes.

Invariants:

- A version is visible if its manifest exists and no tombstone in the head names it.
- The names of a model's versions cost one listing and the head, however much lies in its blobs.
- Versions are ordered by when their manifests were put, by the store's clock; S3 tells that to the second, so those of
  one second are ordered by what their writers' clocks say.

It writes nothing. The names in an error are the likeliest first.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import groupby

from airflow_provider_hfreg.errors import ModelNotFoundError, VersionNotFoundError
from airflow_provider_hfreg.registry.closest import closest_names
from airflow_provider_hfreg.storage.base import ObjectStore
from airflow_provider_hfreg.versions.format import check_format
from airflow_provider_hfreg.versions.layout import Layout, ModelReference, check_name
from airflow_provider_hfreg.versions.manifest import Manifest
from airflow_provider_hfreg.versions.publish import find_manifest
from airflow_provider_hfreg.versions.refs import Head
from airflow_provider_hfreg.versions.swap import read

_READERS = 8


class Catalogue:
    """The documents of one registry, read afresh at every call."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def model_names(self) -> list[str]:
        """Return the names of the models, ascending."""
        folders = self._store.list_names(Layout.MODELS)
        return [name.removesuffix("/") for name in folders if name.endswith("/")]

    def head(self, model_name: str) -> Head:
        """Return a model's pointers; an empty head where nothing was ever set."""
        return read(self._store, Layout.head(model_name), Head.from_plain, Head())

    def version_names(self, model_name: str) -> list[str]:
        """Return the names of the visible versions, oldest first."""
        deleted = self.head(model_name).tombstones
        logged: list[tuple[datetime, str]] = []
        for info in self._store.list_infos(Layout.versions(model_name)):
            name = Layout.version_of(info.key)
            if name is not None and name not in deleted:
                logged.append((info.modified, name))
        return [
            name
            for _, twins in groupby(sorted(logged), lambda pair: pair[0])
            for name in self._by_clock(twins, model_name)
        ]

    def _by_clock(self, twins: Iterable[tuple[datetime, str]], model_name: str) -> list[str]:
        """Order the versions whose manifests the store dates alike."""
        names = [name for _, name in twins]
        if len(names) == 1:
            return names
        manifests = self._read_all(model_name, names)
        return [manifest.version_name for manifest in sorted(manifests, key=lambda manifest: manifest.created)]

    def manifests(self, model_name: str) -> list[Manifest]:
        """Return the manifests of the visible versions, oldest first."""
        return self._read_all(model_name, self.version_names(model_name))

    def _read_all(self, model_name: str, names: list[str]) -> list[Manifest]:
        with ThreadPoolExecutor(_READERS) as readers:
            found = readers.map(lambda name: find_manifest(self._store, model_name, name), names)
            return [manifest for manifest in found if manifest is not None]

    def check_model(self, model_name: str) -> None:
        """
        Raise unless a model has a visible version.

        :raises ModelNotFoundError: the message lists some that have.
        """
        check_name(model_name, "model")
        if not self.version_names(model_name):
            raise self.no_such_model(model_name)

    def get_manifest(self, model_name: str, version_name: str) -> Manifest:
        """
        Return a visible version's manifest.

        :raises ModelNotFoundError: the model has no version at all.
        :raises VersionNotFoundError: it has others; the message lists some, and says if this one was deleted.
        """
        check_name(model_name, "model")
        check_name(version_name, "version")
        head = self.head(model_name)
        if when := head.tombstones.get(version_name):
            raise VersionNotFoundError(f"Version {version_name!r} of model {model_name!r} was deleted at {when}.")
        manifest = find_manifest(self._store, model_name, version_name)
        if manifest is not None:
            return manifest
        names = self.version_names(model_name)
        if not names:
            raise self.no_such_model(model_name)
        raise VersionNotFoundError(
            f"Model {model_name!r} in {self._store.url} has no version {version_name!r}. "
            f"It has {closest_names(version_name, names)}."
        )

    def resolve(self, reference: ModelReference) -> str:
        """
        Return the name of the version that a reference means now.

        :raises AliasNotFoundError: no such alias; the message lists those there are.
        :raises ModelNotFoundError: the default of a model without versions.
        """
        model_name, alias = reference.model_name, reference.alias
        if reference.version_name is not None:
            return reference.version_name
        system_alias = "DEFAULT" if alias is None else alias.upper()
        if system_alias in ("FIRST", "LAST"):
            return self._end(model_name, newest=system_alias == "LAST")
        head = self.head(model_name)
        if system_alias == "DEFAULT":
            return head.default or self._end(model_name, newest=False)
        if alias not in head.aliases:
            self.check_model(model_name)
        return head.version_of_alias(str(alias))

    def _end(self, model_name: str, *, newest: bool) -> str:
        names = self.version_names(model_name)
        if not names:
            raise self.no_such_model(model_name)
        return names[-1] if newest else names[0]

    def no_such_model(self, model_name: str) -> ModelNotFoundError:
        """Return the error for a model without versions; it looks whether this is a registry at all."""
        if not check_format(self._store):
            return ModelNotFoundError(
                f"There is no model {model_name!r} in {self._store.url}: nothing was ever logged there. "
                "Log one, or check the registry's URL."
            )
        names = [name for name in self.model_names() if name != model_name]
        return ModelNotFoundError(
            f"There is no model {model_name!r} in {self._store.url}. It holds {closest_names(model_name, names)}."
        )
