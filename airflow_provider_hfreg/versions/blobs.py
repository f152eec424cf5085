"""
Immutable bytes under the digest of their content.

Invariants:

- The same key holds the same bytes for ever, so a blob that is there is never uploaded again and needs no conditional
  write: two writers of one key write the same thing.
- A blob counts as stored only after its size was read back from the store.

It deletes nothing: ``docs/format.md`` says who may.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from airflow_provider_hfreg.errors import StorageError
from airflow_provider_hfreg.storage.base import ObjectStore, OnBytes
from airflow_provider_hfreg.versions.layout import Layout
from airflow_provider_hfreg.versions.manifest import VersionFile

_READ_BYTES = 1 << 20


def hash_file(path: Path, *, on_bytes: OnBytes | None = None) -> str:
    """Return ``sha256:<hex>`` of a file, read a megabyte at a time: hashing runs outside the interpreter's lock."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
            if on_bytes is not None:
                on_bytes(len(block))
    return f"sha256:{digest.hexdigest()}"


def describe_file(path: str, local: Path) -> VersionFile:
    """
    Return what a manifest says of a local file.

    :param path: inside the version's folder.
    """
    digest = hash_file(local)
    return VersionFile(path, Layout.blob(digest), digest, local.stat().st_size)


def is_stored(store: ObjectStore, file: VersionFile) -> bool:
    """
    Tell whether a file's blob is in the store with the right size: a blob of another size is damaged.

    Other damage is not seen here, because it takes reading the whole blob: the cache sees it at the download.
    """
    info = store.find_info(file.key)
    return info is not None and info.size_bytes == file.size_bytes


def put_blob(
    store: ObjectStore, file: VersionFile, local: Path, *, progress: Callable[[VersionFile], OnBytes] | None = None
) -> bool:
    """
    Make sure that a file's blob is stored.

    :param progress: gives the callback for one upload.
    :returns: whether bytes were uploaded.
    :raises StorageError: the store acknowledged the upload and then showed another size.
    """
    if is_stored(store, file):
        return False
    store.upload(file.key, local, on_bytes=None if progress is None else progress(file))
    if not is_stored(store, file):
        raise StorageError(
            f"{store.location(file.key)} was uploaded with {file.size_bytes:,} bytes and the store shows another "
            f"size ({store.find_info(file.key)}). The version was not published. Log again; if it repeats, the store "
            "is at fault."
        )
    return True
