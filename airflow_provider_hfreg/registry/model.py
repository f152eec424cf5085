"""A registered model: its versions, and the pointers to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from airflow_provider_hfreg.registry.catalogue import Catalogue
from airflow_provider_hfreg.registry.environment import now
from airflow_provider_hfreg.registry.frames import frame_of, named_values
from airflow_provider_hfreg.registry.request import check_metrics, check_tag_changes, make_annotations
from airflow_provider_hfreg.registry.summaries import VERSION_COLUMNS, VersionSummary
from airflow_provider_hfreg.registry.version import ModelVersion
from airflow_provider_hfreg.storage.base import ObjectStore
from airflow_provider_hfreg.versions.cache import HostCache
from airflow_provider_hfreg.versions.layout import Layout, ModelReference, check_alias
from airflow_provider_hfreg.versions.manifest import Manifest
from airflow_provider_hfreg.versions.refs import Head
from airflow_provider_hfreg.versions.swap import edit


class Model:
    """
    One model of a registry. Made by a registry, not by hand; holds nothing but its name, so it is never out of date.

    :ivar name: of the model.
    """

    def __init__(self, store: ObjectStore, cache: HostCache, name: str) -> None:
        self._store = store
        self._cache = cache
        self._catalogue = Catalogue(store)
        self.name = name

    def __repr__(self) -> str:
        return f"Model({self.name!r}, {self._store.url!r})"

    # --- versions

    def version(self, version_name: str) -> ModelVersion:
        """
        Return a version by its name.

        :raises VersionNotFoundError: there is none; the message lists some there are.
        """
        return self._made_of(self._catalogue.get_manifest(self.name, version_name))

    def version_names(self) -> list[str]:
        """
        Return the versions' names, oldest first: two requests, and one more for each further thousand.

        Versions that came within one second, which is as fine as S3 tells it, are in the order of their names here;
        :meth:`versions`, :meth:`first` and :meth:`last` tell them apart.
        """
        return self._catalogue.version_names(self.name)

    def versions(self) -> list[ModelVersion]:
        """Return the versions, oldest first; reads a manifest each."""
        return [self._made_of(manifest) for manifest in self._catalogue.manifests(self.name)]

    def show_versions(self) -> Any:
        """Return the versions as a ``pandas.DataFrame``, oldest first, with what is said about them."""
        return frame_of(VERSION_COLUMNS, (summary.plain() for summary in self.summaries()))

    def summaries(self) -> list[VersionSummary]:
        """
        Return what is known of each version, oldest first.

        Three requests, one for each version, and one more for each whose tags, metrics or comment were ever edited.
        """
        return self._catalogue.summaries(self.name)

    def delete_version(self, version_name: str, *, dry_run: bool = False) -> None:
        """
        Delete a version. Its name is not used again; a garbage collection frees what no other version holds.

        It is gone for whoever looks from now on. Who is loading it just now may find it whole until the collection. One
        whose document is damaged is deleted like any other. With the last version goes what is said of the model.

        :param dry_run: change nothing, and raise what deleting would raise now.
        :raises VersionInUseError: it is the default, also as the oldest of several where none was set, or has an
            alias; the message names them.
        :raises VersionNotFoundError: there is none, or it was deleted before.
        """
        self._catalogue.check_version(self.name, version_name)
        when = now()
        forgotten: list[Head] = []

        def transition(head: Head) -> Head:
            names, oldest = self._catalogue.names_and_oldest(self.name, head)
            deleted = head.with_tombstone(version_name, when, alive=names, oldest=oldest)
            forgotten[:] = [head] if deleted.said != head.said else []
            return deleted

        self._edit(transition, dry_run=dry_run)
        if forgotten and not dry_run and self.version_names():
            # Another was published since they were listed, which changes no head: the model lives on.
            self._edit(lambda head: head.with_said(forgotten[0]))

    def delete(self, *, dry_run: bool = False) -> list[str]:
        """
        Delete all versions there are now, and the model's tags, metrics and comment.

        One that is logged meanwhile stays, and the model with it. Names of deleted versions are not used again.

        :param dry_run: as for :meth:`delete_version`.
        :returns: the names of the deleted versions.
        :raises VersionInUseError: a default or an alias was set; the message names them.
        :raises ModelNotFoundError: there is no version.
        """
        self._catalogue.check_model(self.name)
        names, when = self.version_names(), now()
        self._edit(lambda head: head.with_all_deleted(names, when), dry_run=dry_run)
        return names

    def first(self) -> ModelVersion:
        """Return the oldest version."""
        return self.alias("FIRST")

    def last(self) -> ModelVersion:
        """Return the newest version."""
        return self.alias("LAST")

    def _made_of(self, manifest: Manifest) -> ModelVersion:
        return ModelVersion(self._store, self._cache, manifest)

    # --- pointers

    @property
    def default(self) -> ModelVersion:
        """The version that the bare model name means; the oldest where none was set."""
        return self.alias("DEFAULT")

    def alias(self, alias: str) -> ModelVersion:
        """
        Return the version that an alias points to now; ``FIRST``, ``LAST`` and ``DEFAULT`` always do.

        :raises AliasNotFoundError: no such alias; the message lists those there are.
        """
        return self.version(self._catalogue.resolve(ModelReference(self.name, alias=alias)))

    def aliases(self) -> dict[str, str]:
        """Return alias → version name."""
        return dict(self._catalogue.head(self.name).aliases)

    def pointers_to(self, version_name: str) -> list[str]:
        """Return the aliases that point to a version now, the system's first."""
        return self._catalogue.pointers(self.name, version_name)

    def set_default(self, version_name: str | None) -> None:
        """Make a version the default; None makes it the oldest again."""
        if version_name is not None:
            self._catalogue.get_manifest(self.name, version_name)
        self._edit(lambda head: head.with_default(version_name))

    def set_alias(self, alias: str, version_name: str) -> None:
        """
        Point an alias to a version, moving it if it is set.

        :raises InvalidNameError: no name, or one of the system's aliases.
        :raises VersionNotFoundError: no such version.
        """
        check_alias(alias)
        self._catalogue.get_manifest(self.name, version_name)
        self._edit(lambda head: head.with_alias(alias, version_name))

    def delete_alias(self, alias: str) -> None:
        """
        Remove an alias; the version stays.

        :raises AliasNotFoundError: no such alias.
        """
        self._edit(lambda head: head.without_alias(alias))

    # --- what people say about it

    @property
    def tags(self) -> dict[str, str]:
        """The model's own tags now."""
        return dict(self._catalogue.head(self.name).tags)

    @property
    def metrics(self) -> dict[str, Any]:
        """The model's own metrics now, any JSON values; none of its versions' are among them."""
        return dict(self._catalogue.head(self.name).metrics)

    @property
    def comment(self) -> str | None:
        """The model's own comment now."""
        return self._catalogue.head(self.name).comment

    def show_tags(self) -> Any:
        """Return the model's own tags now as a ``pandas.DataFrame`` of ``tag_name`` and ``value``."""
        return named_values("tag", self.tags)

    def show_metrics(self) -> Any:
        """Return its own metrics now as a ``pandas.DataFrame`` of ``metric_name`` and ``value``, any JSON values."""
        return named_values("metric", self.metrics)

    def set_tags(self, tags: Mapping[str, str | None]) -> None:
        """Set some tags; one given as None is removed. The others stay."""
        check_tag_changes(tags)
        self._edit(lambda head: head.with_tags(tags))

    def set_metrics(self, metrics: Mapping[str, Any]) -> None:
        """
        Set some metrics to any JSON values. The others stay.

        They are the model's, such as a budget or what a release must reach; a version's own are measured of it, and
        only those are searched.
        """
        plain = check_metrics(metrics)
        self._edit(lambda head: head.with_metrics(plain))

    def delete_metric(self, name: str) -> None:
        """Remove a metric; an absent one is no error."""
        self._edit(lambda head: head.without_metric(name))

    def set_comment(self, comment: str | None) -> None:
        """Set or remove the comment."""
        checked = make_annotations(comment=comment).comment
        self._edit(lambda head: head.with_comment(checked))

    def _edit(self, transition: Callable[[Head], Head], *, dry_run: bool = False) -> None:
        if dry_run:
            transition(self._catalogue.head(self.name))  # the very decision: what it raises, the edit would raise
            return
        edit(self._store, Layout.head(self.name), Head.from_plain, Head(), transition)
