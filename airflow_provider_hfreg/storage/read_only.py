"""
A store that refuses to be written to, around any other.

It is the registry's read-only mode: whatever writes, today or in a later version of this package, is refused in one
place, and nobody has to remember to ask. The bucket's own policy is the real guard; this one keeps a notebook or a
report from editing what it was opened to look at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from airflow_provider_hfreg.errors import StorageDeniedError
from airflow_provider_hfreg.storage.base import ObjectInfo, ObjectState, ObjectStore, OnBytes


class ReadOnlyStore(ObjectStore):
    """
    Reads from a store; every write raises :class:`StorageDeniedError` and reaches nothing.

    :param store: does the reading.
    """

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self.url = store.url

    def __repr__(self) -> str:
        return f"ReadOnlyStore({self.store!r})"

    def location(self, key: str) -> str:
        """Return the full URL of a key."""
        return self.store.location(key)

    # --- reading

    def get(self, key: str, *, start: int = 0, length: int | None = None, etag: str | None = None) -> bytes:
        """As the store."""
        return self.store.get(key, start=start, length=length, etag=etag)

    def get_with_etag(self, key: str) -> tuple[bytes, str]:
        """As the store."""
        return self.store.get_with_etag(key)

    def find_info(self, key: str) -> ObjectInfo | None:
        """As the store."""
        return self.store.find_info(key)

    def list_infos(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """As the store."""
        return self.store.list_infos(prefix)

    def list_names(self, folder: str = "") -> Iterator[str]:
        """As the store."""
        return self.store.list_names(folder)

    def open_reader(self, key: str, *, state: ObjectState | None = None) -> BinaryIO:
        """As the store."""
        return self.store.open_reader(key, state=state)

    def download(
        self,
        key: str,
        path: Path,
        *,
        on_bytes: OnBytes | None = None,
        digest: str | None = None,
        size_bytes: int | None = None,
    ) -> None:
        """As the store."""
        self.store.download(key, path, on_bytes=on_bytes, digest=digest, size_bytes=size_bytes)

    # --- writing

    def put(self, key: str, content: bytes) -> None:  # noqa: ARG002 - refused, whatever it is
        """Refused."""
        raise self._refused(key)

    def put_if_absent(self, key: str, content: bytes | Path) -> str:  # noqa: ARG002 - refused, whatever it is
        """Refused."""
        raise self._refused(key)

    def replace_if_match(self, key: str, content: bytes, etag: str) -> str:  # noqa: ARG002 - refused, whatever it is
        """Refused."""
        raise self._refused(key)

    def upload(self, key: str, path: Path, *, on_bytes: OnBytes | None = None, digest: str | None = None) -> None:  # noqa: ARG002 - refused
        """Refused."""
        raise self._refused(key)

    def copy(self, source_key: str, target_key: str) -> None:  # noqa: ARG002 - refused, whatever it is
        """Refused."""
        raise self._refused(target_key)

    def copy_from(self, source: ObjectStore, source_key: str, target_key: str) -> bool:  # noqa: ARG002 - refused
        """Refused."""
        raise self._refused(target_key)

    def delete(self, keys: Iterable[str]) -> None:
        """Refused, if there is anything to delete."""
        for key in keys:
            raise self._refused(key)

    @property
    def unwrapped(self) -> ObjectStore:
        """The store that does the reading."""
        return self.store.unwrapped

    def below(self, folder: str) -> ReadOnlyStore:
        """As read-only as this one."""
        return ReadOnlyStore(self.store.below(folder))

    def _refused(self, key: str) -> StorageDeniedError:
        return StorageDeniedError(
            f"{self.location(key)} was not written: the registry {self.url} was opened read-only. Open it without "
            "read_only=True if you mean to change it."
        )
