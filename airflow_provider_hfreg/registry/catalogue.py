"""
What is in a registry: names, pointers, manifests, by as few requests as it takes.

Invariants:

- A version is visible if its manifest exists and no tombstone in the head names it.
- The names of a model's versions cost one listing and the head, however much lies in its blobs.
- Versions are ordered by when their manifests were put, by the store's clock, which is one for all writers. S3 tells it
  to the second. Versions of one second are told apart by their writers' clocks where manifests are read anyway, and for
  the oldest and the newest; a bare list of names has them by name, because it reads none.

It writes nothing. The names in an error are the likeliest first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TypeVar

from airflow_provider_hfreg.errors import HfregError, IntegrityError, ModelNotFoundError, VersionNotFoundError
from airflow_provider_hfreg.registry.closest import closest_names
from airflow_provider_hfreg.registry.summaries import ModelSummary, VersionSummary
from airflow_provider_hfreg.storage.base import ObjectStore
from airflow_provider_hfreg.versions.format import check_format
from airflow_provider_hfreg.versions.layout import Layout, ModelReference, check_name
from airflow_provider_hfreg.versions.manifest import Annotations, Manifest
from airflow_provider_hfreg.versions.publish import find_manifest
from airflow_provider_hfreg.versions.refs import Head, State
from airflow_provider_hfreg.versions.swap import read

_READERS = 8

_log = logging.getLogger(__name__)

A = TypeVar("A")
B = TypeVar("B")


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
        """Return the names of the visible versions, oldest first: the head and one listing, however many there are."""
        return [name for _, name in self._dated(model_name, self.head(model_name))]

    def _dated(self, model_name: str, head: Head) -> list[tuple[datetime, str]]:
        """Return the visible versions and when the store got them, in that order, those of one moment by name."""
        infos = self._store.list_infos(Layout.versions(model_name))
        named = ((info.modified, Layout.version_of(info.key)) for info in infos)
        return sorted((moment, name) for moment, name in named if name is not None and name not in head.tombstones)

    def names_and_oldest(self, model_name: str, head: Head) -> tuple[list[str], list[str]]:
        """
        Return the names of the versions that a head leaves visible, and of those that may be the oldest: one, or more
        where a damaged one is of the oldest's second. Where a default was set, all of that second: none is read for it.
        """
        dated = self._dated(model_name, head)
        twins = [name for moment, name in dated if moment == dated[0][0]]
        if len(twins) > 1 and head.default is None:
            manifests, ill = self.read_each(model_name, twins)
            _leave_out(ill.values())
            twins = [*ill, *(manifest.version_name for manifest in _in_order(dated, manifests)[:1])]
        return [name for _, name in dated], twins

    def manifests(self, model_name: str) -> list[Manifest]:
        """Return the manifests of the visible versions, oldest first, those of one moment by their writers' clocks."""
        return self._manifests(model_name, self.head(model_name))

    def _manifests(self, model_name: str, head: Head) -> list[Manifest]:
        dated = self._dated(model_name, head)
        return _in_order(dated, self._read_all(model_name, [name for _, name in dated]))

    def summaries(self, model_name: str) -> list[VersionSummary]:
        """
        Return all that is known of the visible versions, oldest first.

        One whose document is damaged is left out and named in the log: it cannot be used, and the others can. Where it
        may be the oldest and no default was set, none of the others is shown as the default.

        Requests: the head, two listings, a manifest for each version, a state for each that was ever edited.
        """
        head = self.head(model_name)
        dated = self._dated(model_name, head)
        found, ill = self.read_each(model_name, [name for _, name in dated])
        _leave_out(ill.values())
        manifests = _in_order(dated, found)
        edited = {Layout.version_of(info.key) for info in self._store.list_infos(Layout.states(model_name))}
        is_oldest_known = not any(name in ill for moment, name in dated if moment == dated[0][0])
        default = head.default or (manifests[0].version_name if manifests and is_oldest_known else None)

        def summary(manifest: Manifest) -> VersionSummary | HfregError:
            name = manifest.version_name
            try:
                annotations = self.annotations(manifest) if name in edited else manifest.logged
            except HfregError as error:
                return error
            return VersionSummary(manifest, annotations, head.aliases_of(name), is_default=name == default)

        return _readable(self._at_once(summary, manifests))

    def annotations(self, manifest: Manifest) -> Annotations:
        """Return a version's tags, metrics and comment as they are now."""
        key = Layout.state(manifest.model_name, manifest.version_name)
        return read(self._store, key, State.from_plain, State(manifest.logged)).annotations

    def model_summaries(self) -> list[ModelSummary]:
        """
        Return what is known of each model that has a visible version, by name; one whose head is damaged is left out
        and named in the log.

        Requests: one listing, and for each model its head and a listing.
        """
        found = _readable(self._at_once(self._find_summary, self.model_names()))
        return [summary for summary in found if summary is not None]

    def _find_summary(self, model_name: str) -> ModelSummary | HfregError | None:
        try:
            return self._model_summary(model_name)
        except HfregError as error:
            return error

    def _model_summary(self, model_name: str) -> ModelSummary | None:
        head = self.head(model_name)
        dated = self._dated(model_name, head)
        if not dated:
            return None
        default = head.default or self._end_of(model_name, dated, newest=False)
        return ModelSummary(
            name=model_name,
            versions=len(dated),
            default=default,
            aliases=head.aliases,
            metrics=head.metrics,
            tags=head.tags,
            comment=head.comment,
            last_logged=dated[-1][0],
        )

    def _at_once(self, ask: Callable[[A], B], about: Iterable[A]) -> list[B]:
        with ThreadPoolExecutor(_READERS) as readers:
            return list(readers.map(ask, about))

    def _read_all(self, model_name: str, names: list[str]) -> list[Manifest]:
        manifests, ill = self.read_each(model_name, names)
        for error in ill.values():
            raise error
        return manifests

    def read_each(self, model_name: str, names: list[str]) -> tuple[list[Manifest], dict[str, HfregError]]:
        """Return the manifests of some versions, but for those that are gone meanwhile, and the errors of others."""
        found = dict(zip(names, self._at_once(lambda name: self._find(model_name, name), names), strict=True))
        ill = {name: manifest for name, manifest in found.items() if isinstance(manifest, HfregError)}
        return [manifest for manifest in found.values() if isinstance(manifest, Manifest)], ill

    def _find(self, model_name: str, name: str) -> Manifest | HfregError | None:
        try:
            return find_manifest(self._store, model_name, name)
        except HfregError as error:
            return error

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
        self.check_not_deleted(model_name, version_name)
        manifest = find_manifest(self._store, model_name, version_name)
        if manifest is None:
            raise self._no_such_version(model_name, version_name)
        return manifest

    def check_version(self, model_name: str, version_name: str) -> None:
        """
        Raise unless there is a visible version of this name, whatever its document holds: it may be damaged.

        :raises HfregError: as :meth:`get_manifest`.
        """
        check_name(model_name, "model")
        check_name(version_name, "version")
        self.check_not_deleted(model_name, version_name)
        if self._store.find_info(Layout.manifest(model_name, version_name)) is None:
            raise self._no_such_version(model_name, version_name)

    def _no_such_version(self, model_name: str, version_name: str) -> HfregError:
        names = self.version_names(model_name)
        if not names:
            return self.no_such_model(model_name)
        return VersionNotFoundError(
            f"Model {model_name!r} in {self._store.url} has no version {version_name!r}. "
            f"It has {closest_names(version_name, names)}."
        )

    def check_not_deleted(self, model_name: str, version_name: str) -> None:
        """
        Raise if a version's name is that of a deleted one.

        :raises VersionNotFoundError: it is.
        """
        if when := self.head(model_name).tombstones.get(version_name):
            raise VersionNotFoundError(f"Version {version_name!r} of model {model_name!r} was deleted at {when}.")

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

    def pointers(self, model_name: str, version_name: str) -> list[str]:
        """Return the aliases that point to a version now, the system's first; two requests."""
        head = self.head(model_name)
        dated = self._dated(model_name, head)
        if not dated:
            return []
        first, last = (self._end_of(model_name, dated, newest=newest) for newest in (False, True))
        system = {"DEFAULT": head.default or first, "FIRST": first, "LAST": last}
        return [alias for alias, name in system.items() if name == version_name] + list(head.aliases_of(version_name))

    def _end(self, model_name: str, *, newest: bool) -> str:
        dated = self._dated(model_name, self.head(model_name))
        if not dated:
            raise self.no_such_model(model_name)
        return self._end_of(model_name, dated, newest=newest)

    def _end_of(self, model_name: str, dated: list[tuple[datetime, str]], *, newest: bool) -> str:
        """Return the newest or oldest version; reads manifests only where the store dates several alike."""
        moment, name = dated[-1 if newest else 0]
        twins = [other for when, other in dated if when == moment]
        if len(twins) == 1:
            return name
        by_clock = sorted(self._read_all(model_name, twins), key=lambda manifest: manifest.created)
        return by_clock[-1 if newest else 0].version_name if by_clock else name

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


def _in_order(dated: Sequence[tuple[datetime, str]], manifests: Iterable[Manifest]) -> list[Manifest]:
    """Return manifests as the store got them, those of one moment by their writers' clocks."""
    moments = {name: moment for moment, name in dated}
    return sorted(manifests, key=lambda manifest: (moments[manifest.version_name], manifest.created))


def _readable(found: Iterable[A | HfregError]) -> list[A]:
    """Return what could be read."""
    kept: list[A] = []
    for one in found:
        if isinstance(one, HfregError):
            _leave_out([one])
        else:
            kept.append(one)
    return kept


def _leave_out(errors: Iterable[HfregError]) -> None:
    """
    Name what is damaged, and go on.

    :raises HfregError: nothing is damaged, the store only did not answer: then what is left out may be whole.
    """
    for error in errors:
        if not isinstance(error, IntegrityError):
            raise error
        _log.warning("Left out: %s", error)
