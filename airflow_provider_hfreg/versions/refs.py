"""
The documents that change: a model's head and a version's state.

Invariants:

- A transition is a pure function of the document: what it decides, it decides on the state that the write is
  conditional on. So a deletion cannot race an alias being set; both are edits of one head.
- A document keeps the ids of its last edits: a writer whose answer was lost finds its own and reports success once,
  instead of editing twice.
- Keys that this version of the package does not know stay as they are: a newer one's edits outlive an older one's.

A head that does not exist is an empty one: no default, no alias, nothing deleted. A state that does not exist is what
the manifest says was logged. Nothing here does I/O: :func:`airflow_provider_hfreg.versions.swap.edit` writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_provider_hfreg.errors import AliasNotFoundError, VersionInUseError, VersionNotFoundError
from airflow_provider_hfreg.versions.documents import document_json, field_of, texts_of
from airflow_provider_hfreg.versions.manifest import Annotations

_OPERATIONS_KEPT = 64


@dataclass(frozen=True)
class Head:
    """
    A model's pointers, and what is said about it.

    :param default: the version that the bare model name means; None means the oldest.
    :param tombstones: deleted version → when it was deleted; a name is not silently used again.
    :param others: what the document holds besides, by key.
    """

    default: str | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)
    tombstones: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    comment: str | None = None
    revision: int = 0
    operations: tuple[str, ...] = ()
    others: Mapping[str, Any] = field(default_factory=dict)

    def version_of_alias(self, alias: str) -> str:
        """
        Return the version that an alias points to.

        :raises AliasNotFoundError: there is none; the message lists those there are.
        """
        if alias not in self.aliases:
            known = ", ".join(f"{name} → {version}" for name, version in sorted(self.aliases.items()))
            raise AliasNotFoundError(f"There is no alias {alias!r}. Aliases: {known or 'none was set'}.")
        return self.aliases[alias]

    def aliases_of(self, version_name: str) -> tuple[str, ...]:
        """Return the aliases that point to a version, by name."""
        return tuple(alias for alias, version in sorted(self.aliases.items()) if version == version_name)

    def names_of(self, version_name: str) -> tuple[str, ...]:
        """Return the pointers that hold a version: ``the default`` and aliases."""
        aliases = tuple(f"alias {alias!r}" for alias in self.aliases_of(version_name))
        return ("the default", *aliases) if self.default == version_name else aliases

    def with_default(self, version_name: str | None) -> Head:
        """Return the head with another default version; None means the oldest again."""
        return replace(self, default=None if version_name is None else self._alive(version_name))

    def with_alias(self, alias: str, version_name: str) -> Head:
        """Return the head with an alias set or moved."""
        return replace(self, aliases={**self.aliases, alias: self._alive(version_name)})

    def without_alias(self, alias: str) -> Head:
        """Return the head without an alias, which must be there."""
        self.version_of_alias(alias)
        return replace(self, aliases=without(self.aliases, alias))

    def with_tombstone(
        self, version_name: str, when: str, *, alive: Sequence[str] = (), oldest: Sequence[str] = ()
    ) -> Head:
        """
        Return the head with a version deleted.

        :param alive: the model's versions that are visible now; with the last one goes what was said of the model.
        :param oldest: those that may be the oldest: where no default was set, it is held by that if there are others.
        :raises VersionInUseError: a pointer holds it.
        :raises VersionNotFoundError: it was deleted before.
        """
        holders = self.names_of(self._alive(version_name))
        if self.default is None and len(alive) > 1 and version_name in oldest:
            holders = ("the default (the oldest, as none was set)", *holders)
        if holders:
            raise VersionInUseError(
                f"Version {version_name!r} is {' and '.join(holders)} of its model and was not deleted. "
                "Point them to another version first."
            )
        deleted = replace(self, tombstones={**self.tombstones, version_name: when})
        if list(alive) == [version_name]:  # the last one: what was said is of a model that is no more
            return replace(deleted, tags={}, metrics={}, comment=None)
        return deleted

    def with_all_deleted(self, version_names: Sequence[str], when: str) -> Head:
        """
        Return the head of a model with all its versions deleted, and what was said about the model forgotten.

        :raises VersionInUseError: a default or an alias was set; it may be in use by that name.
        """
        pointers = {"the default": self.default} if self.default else {}
        pointers |= {f"alias {alias!r}": version for alias, version in sorted(self.aliases.items())}
        if pointers:
            held = ", ".join(f"{pointer} → {version}" for pointer, version in pointers.items())
            raise VersionInUseError(
                f"The model was not deleted: it has {held}. Remove them first (delete_alias, set_default(None))."
            )
        deleted = {name: when for name in version_names if name not in self.tombstones}
        return replace(self, tombstones={**self.tombstones, **deleted}, tags={}, metrics={}, comment=None)

    @property
    def said(self) -> tuple[Mapping[str, str], Mapping[str, Any], str | None]:
        """The model's own tags, metrics and comment."""
        return self.tags, self.metrics, self.comment

    def with_said(self, earlier: Head) -> Head:
        """Return the head with what an earlier one said of the model, where this one says nothing newer."""
        return replace(
            self,
            tags={**earlier.tags, **self.tags},
            metrics={**earlier.metrics, **self.metrics},
            comment=earlier.comment if self.comment is None else self.comment,
        )

    def with_tags(self, changes: Mapping[str, str | None]) -> Head:
        """Return the head with some of the model's own tags set, and those given as None removed."""
        return replace(self, tags=merged(self.tags, changes))

    def with_metrics(self, changes: Mapping[str, Any]) -> Head:
        """Return the head with some of the model's own metrics set. None is a value: JSON's null."""
        return replace(self, metrics={**self.metrics, **changes})

    def without_metric(self, name: str) -> Head:
        """Return the head without one metric; an absent one is no error."""
        return replace(self, metrics=without(self.metrics, name))

    def with_comment(self, comment: str | None) -> Head:
        """Return the head with another comment on the model."""
        return replace(self, comment=comment)

    def _alive(self, version_name: str) -> str:
        if version_name in self.tombstones:
            raise VersionNotFoundError(f"Version {version_name!r} was deleted at {self.tombstones[version_name]}.")
        return version_name

    def stamped(self, operation: str) -> Head:
        """Return the head as the next revision, written by ``operation``."""
        return replace(self, revision=self.revision + 1, operations=_appended(self.operations, operation))

    def to_bytes(self) -> bytes:
        """Return the document as it is stored."""
        return document_json({**self.others, **self._known()})

    def _known(self) -> dict[str, Any]:
        return {
            "default": self.default,
            "aliases": dict(self.aliases),
            "tombstones": dict(self.tombstones),
            "tags": dict(self.tags),
            "metrics": dict(self.metrics),
            "comment": self.comment,
            "revision": self.revision,
            "operations": list(self.operations),
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Head:
        """Rebuild a head from its document."""
        head = cls(
            default=field_of(plain, "default", str | None),
            aliases=texts_of(plain, "aliases"),
            tombstones=texts_of(plain, "tombstones"),
            tags=texts_of(plain, "tags"),
            metrics=field_of(plain, "metrics", dict, {}),
            comment=field_of(plain, "comment", str | None),
            revision=field_of(plain, "revision", int, 0),
            operations=tuple(field_of(plain, "operations", list, [])),
        )
        return replace(head, others=_others(plain, head._known()))


@dataclass(frozen=True)
class State:
    """
    A version's annotations after the first edit.

    :param others: what the document holds besides, by key.
    """

    annotations: Annotations
    revision: int = 0
    operations: tuple[str, ...] = ()
    others: Mapping[str, Any] = field(default_factory=dict)

    def with_tags(self, changes: Mapping[str, str | None]) -> State:
        """Return the state with some tags set, and those given as None removed."""
        return self._with(tags=merged(self.annotations.tags, changes))

    def with_metrics(self, changes: Mapping[str, Any]) -> State:
        """Return the state with some metrics set. None is a value: JSON's null."""
        return self._with(metrics={**self.annotations.metrics, **changes})

    def without_metric(self, name: str) -> State:
        """Return the state without one metric; an absent one is no error."""
        return self._with(metrics=without(self.annotations.metrics, name))

    def with_comment(self, comment: str | None) -> State:
        """Return the state with another comment."""
        return self._with(comment=comment)

    def _with(self, **changes: Any) -> State:
        return replace(self, annotations=replace(self.annotations, **changes))

    def stamped(self, operation: str) -> State:
        """Return the state as the next revision, written by ``operation``."""
        return replace(self, revision=self.revision + 1, operations=_appended(self.operations, operation))

    def to_bytes(self) -> bytes:
        """Return the document as it is stored."""
        return document_json({**self.others, **self._known()})

    def _known(self) -> dict[str, Any]:
        return {**self.annotations.to_json(), "revision": self.revision, "operations": list(self.operations)}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> State:
        """Rebuild a state from its document."""
        revision = field_of(plain, "revision", int, 0)
        state = cls(Annotations.from_json(plain), revision, tuple(field_of(plain, "operations", list, [])))
        return replace(state, others=_others(plain, state._known()))


def merged(tags: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    """
    Return tags with some set, and those given as None removed.

    >>> merged({"team": "risk", "stage": "trial"}, {"stage": None, "owner": "ana"})
    {'team': 'risk', 'owner': 'ana'}
    """
    return {key: value for key, value in {**tags, **changes}.items() if value is not None}


def without(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """
    Return values but for one.

    >>> without({"f1": 0.8, "accuracy": 0.9}, "f1")
    {'accuracy': 0.9}
    """
    return {key: value for key, value in values.items() if key != name}


def _appended(operations: tuple[str, ...], operation: str) -> tuple[str, ...]:
    return (*operations, operation)[-_OPERATIONS_KEPT:]


def _others(plain: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in plain.items() if key not in known and key != "format_version"}
