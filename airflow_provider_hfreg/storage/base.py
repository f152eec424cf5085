"""
Bytes by key under one root: the contract that S3 and a local folder both keep.

Invariants, tested for every store by :class:`airflow_provider_hfreg.testing.store.StoreContract`:

- A reader sees an object whole or not at all; never half of a write.
- ``put_if_absent`` has exactly one winner among any number of concurrent callers.
- ``replace_if_match`` succeeds only if the object is still the one whose etag was read.
- A key is a relative path of ``/``-separated, non-empty segments; neither ``.`` nor ``..`` is one. No segment begins
  with ``.hfreg.`` (a local store keeps its own files under such names), and none has a backslash (some servers take it
  for a slash).
- No key is also the folder of another one: a bucket could hold ``a`` and ``a/b``, a file system cannot.

A store knows nothing of models, and never interprets an etag: on S3 it is no MD5 as soon as encryption or multipart
uploads come in. Errors of the client library are translated in one place per store, so that nothing outside
``storage`` ever sees one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from airflow_provider_hfreg.errors import StorageUrlError

OnBytes = Callable[[int], None]
"""Called with the number of bytes moved since the last call; negative where some are moved again after a fault."""

RESERVED_PREFIX = ".hfreg."
"""Begins the names of files that a local store keeps beside the objects; no segment of a key does."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a listing or a HEAD tells of one object."""

    key: str
    size_bytes: int
    etag: str  # opaque; equal etags of one key mean an unchanged object
    modified: datetime  # timezone-aware, the store's clock


def check_key(key: str) -> str:
    """
    Return ``key`` if it is one, else raise.

    >>> check_key("models/finbert/head.json")
    'models/finbert/head.json'

    :raises StorageUrlError: an empty, absolute or escaping key.
    """
    segments = key.split("/")
    if not key or any(segment in ("", ".", "..") for segment in segments) or "\0" in key or "\\" in key:
        raise StorageUrlError(
            f"{key!r} is no key: it must be a relative path without empty, '.' or '..' segments and backslashes."
        )
    if any(segment.startswith(RESERVED_PREFIX) for segment in segments):
        raise StorageUrlError(f"{key!r} is no key: names that begin with {RESERVED_PREFIX!r} are the store's own.")
    return key


@dataclass(frozen=True, slots=True)
class ObjectState:
    """Which of an object's states is meant; to be read as that one, or not at all."""

    size_bytes: int
    etag: str


class ObjectStore(ABC):
    """
    One root and the operations on the objects below it.

    :ivar url: the root, such as ``s3://bucket/prefix`` or ``file:///srv/hfreg``; holds no credential.
    """

    url: str

    # --- reading

    @abstractmethod
    def get(self, key: str, *, start: int = 0, length: int | None = None, etag: str | None = None) -> bytes:
        """
        Return an object's bytes, or ``length`` of them from ``start`` (fewer at its end).

        :param start: where it is negative, so many bytes of the end (all, where it has fewer), ``length`` being None.
        :param etag: all of the bytes are of the object that has it.
        :raises KeyNotFoundError: there is no such object.
        :raises ObjectChangedError: it has another etag.
        """

    @abstractmethod
    def get_with_etag(self, key: str) -> tuple[bytes, str]:
        """Return an object's bytes and the etag to give to :meth:`replace_if_match`."""

    @abstractmethod
    def find_info(self, key: str) -> ObjectInfo | None:
        """Return what is known of an object, or None if it is absent."""

    @abstractmethod
    def list_infos(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """
        Yield every object whose key starts with ``prefix``, in ascending order of the keys' UTF-8 bytes.

        A store may hold all of them in memory to sort them: where there can be millions, list by narrower prefixes.
        """

    @abstractmethod
    def list_names(self, folder: str = "") -> Iterator[str]:
        """
        Yield the names directly below ``folder`` (``""`` or ending in ``/``), ascending; folders end in ``/``.

        One request per thousand names, whatever lies deeper. A folder whose last object was deleted may be shown for
        a while (SeaweedFS does), so that a name ending in ``/`` is no proof of an object.
        """

    @abstractmethod
    def open_reader(self, key: str, *, state: ObjectState | None = None) -> BinaryIO:
        """
        Return a seekable reader by ranged requests; for formats that read from their end, such as Parquet.

        :param state: nothing of another one is read, also where it changes meanwhile: reading raises
            ``ObjectChangedError``. Given, opening asks nothing of a remote store.
        """

    @abstractmethod
    def download(
        self,
        key: str,
        path: Path,
        *,
        on_bytes: OnBytes | None = None,
        digest: str | None = None,
        size_bytes: int | None = None,
    ) -> None:
        """
        Write an object to ``path`` (created or overwritten). A failed download may leave a partial ``path``.

        :param digest: ``sha256:<hex>`` that the content must have; it is hashed while it comes.
        :param size_bytes: that the object is believed to have, so that a remote store need not ask. A wrong one costs
            requests, and room on the disk meanwhile; what the object has is written.
        :raises DigestMismatchError: it has another one; what came is at ``path``.
        """

    # --- writing

    @abstractmethod
    def put(self, key: str, content: bytes) -> None:
        """Store ``content``, over whatever was there."""

    @abstractmethod
    def put_if_absent(self, key: str, content: bytes | Path) -> str:
        """
        Store ``content`` (or a local file's content) unless the key exists, and return its etag.

        A repeated request that meets its own earlier success raises too: the caller tells by reading back.

        :raises KeyExistsError: the key exists; nothing was changed.
        """

    @abstractmethod
    def replace_if_match(self, key: str, content: bytes, etag: str) -> str:
        """
        Store ``content`` if the object still has ``etag``, and return its new one.

        :raises CompareAndSwapLostError: it has another one, or is gone; nothing was changed.
        """

    @abstractmethod
    def upload(self, key: str, path: Path, *, on_bytes: OnBytes | None = None, digest: str | None = None) -> None:
        """
        Store a local file of any size, over whatever was there; nothing is visible before it is whole.

        :param digest: ``sha256:<hex>`` that the content must have; the very bytes that are sent are hashed.
        :raises DigestMismatchError: they have another one, as of a file that somebody writes; nothing was changed.
        """

    @abstractmethod
    def copy(self, source_key: str, target_key: str) -> None:
        """Copy inside the store, over whatever was there; onto itself it only tells that it is there."""

    def can_copy_from(self, source: ObjectStore) -> bool:  # noqa: ARG002 - for stores that can
        """Tell whether :meth:`copy_from` would be done; asks nothing."""
        return False

    def copy_from(self, source: ObjectStore, source_key: str, target_key: str) -> bool:  # noqa: ARG002 - for stores that can
        """
        Copy from another store without the bytes coming to this machine, over whatever was there, if that can be.

        :returns: whether it was done; False: download and upload instead.
        :raises KeyNotFoundError: there is no such object.
        """
        return False

    @abstractmethod
    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; an absent one is no error."""

    # --- places

    @property
    def request_s(self) -> float:
        """How long a request may last that is answered by silence, with all repetitions; 0 where there is no server."""
        return 0.0

    @property
    def unwrapped(self) -> ObjectStore:
        """The store that does the work: itself, unless it stands around another one."""
        return self

    @abstractmethod
    def below(self, folder: str) -> ObjectStore:
        """Return a store of the same kind and credentials whose root is ``folder`` below this one's."""

    def location(self, key: str) -> str:
        """Return the full URL of a key, for messages and reports."""
        return f"{self.url.rstrip('/')}/{key}" if key else self.url
