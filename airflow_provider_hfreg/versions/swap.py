"""
The one compare-and-swap loop, by which every changing document is edited.

Invariants:

- An edit is applied exactly once, or raises: the operation id in the document tells a lost answer from a lost race.
- Retries are bounded, and their pauses random, so that writers who collided once do not collide again in step.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Protocol, Self, TypeVar

from airflow_provider_hfreg.errors import (
    CompareAndSwapLostError,
    KeyExistsError,
    KeyNotFoundError,
    StorageUnavailableError,
    UnknownFormatError,
)
from airflow_provider_hfreg.storage.base import ObjectStore
from airflow_provider_hfreg.versions.documents import read_document

_ATTEMPTS = 60  # 20 writers of one document need about 20; the rest is for a slow store
_UNAVAILABLE_ATTEMPTS = 3  # on top of the client's own retries
_FIRST_PAUSE_S = 0.01
_LONGEST_PAUSE_S = 1.0


class Document(Protocol):
    """What :func:`edit` needs of a document."""

    @property
    def operations(self) -> tuple[str, ...]:
        """Ids of the last edits, oldest first."""

    def stamped(self, operation: str) -> Self:
        """Return the document as the next revision, written by ``operation``."""

    def to_bytes(self) -> bytes:
        """Return the document as it is stored."""


D = TypeVar("D", bound=Document)
FromPlain = Callable[[Mapping[str, Any]], D]


def read(store: ObjectStore, key: str, from_plain: FromPlain[D], absent: D) -> D:
    """
    Return a document, or ``absent`` where nothing was ever edited.

    :raises UnknownFormatError: what lies there is not as this package writes it.
    """
    return _read_with_etag(store, key, from_plain, absent)[0]


def edit(
    store: ObjectStore,
    key: str,
    from_plain: FromPlain[D],
    absent: D,
    transition: Callable[[D], D],
    *,
    attempts: int = _ATTEMPTS,
) -> D:
    """
    Apply a transition to a document by compare-and-swap, however many others do so at the same time.

    :param absent: what the document is before its first edit.
    :param transition: changes nothing itself; called again with the newer document when another writer was faster, so
        what it reads besides is as new. What it raises ends the edit with nothing changed.
    :returns: the document as written.
    :raises CompareAndSwapLostError: others were faster every time.
    """
    operation = uuid.uuid4().hex[:16]
    unavailable = 0
    for attempt in range(attempts):
        document, etag = _read_with_etag(store, key, from_plain, absent)
        if operation in document.operations:
            return document  # the answer to our own write was lost
        changed = transition(document)
        if changed == document:
            return document
        try:
            _write(store, key, changed.stamped(operation), etag)
        except (KeyExistsError, CompareAndSwapLostError):
            pass
        except StorageUnavailableError:
            # Applied or not, nobody knows: the next read tells.
            unavailable += 1
            if unavailable == _UNAVAILABLE_ATTEMPTS:
                raise
        else:
            return changed.stamped(operation)
        time.sleep(_pause_s(attempt))
    raise CompareAndSwapLostError(
        f"{store.location(key)} was changed by others before each of {attempts} attempts to edit it. Nothing was "
        "changed by this call; try again."
    )


def _read_with_etag(store: ObjectStore, key: str, from_plain: FromPlain[D], absent: D) -> tuple[D, str | None]:
    try:
        content, etag = store.get_with_etag(key)
    except KeyNotFoundError:
        return absent, None
    location = store.location(key)
    try:
        return from_plain(read_document(content, location)), etag
    except TypeError as error:
        raise UnknownFormatError(
            f"{location} is not as this package writes it: {error}. Something else wrote there: restore the object "
            "from the bucket's versions."
        ) from None


def _write(store: ObjectStore, key: str, document: Document, etag: str | None) -> None:
    if etag is None:
        store.put_if_absent(key, document.to_bytes())
    else:
        store.replace_if_match(key, document.to_bytes(), etag)


def _pause_s(attempt: int) -> float:
    """Full jitter: writers that collided once must not collide again in step."""
    return random.uniform(0, min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**attempt))  # noqa: S311 - spreads load, no secret
