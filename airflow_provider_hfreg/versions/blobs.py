"""
Immutable bytes under the digest of their content.

Invariants:

- The same key holds the same bytes for ever, so a blob that is there is never uploaded again and needs no conditional
  write: two writers of one key write the same thing.
- A blob counts as stored only after the store has shown its size.
- What a collector has condemned is never relied upon, nor written over: the same bytes go to a new generation's key,
  which that collector has not seen and so does not delete.

It deletes nothing: :mod:`airflow_provider_hfreg.versions.garbage` does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from airflow_provider_hfreg.errors import DigestMismatchError, KeyNotFoundError, StorageError
from airflow_provider_hfreg.storage.base import ObjectInfo, ObjectStore, OnBytes
from airflow_provider_hfreg.versions.layout import Layout, digest_of_blob, digest_of_marker
from airflow_provider_hfreg.versions.manifest import VersionFile

_READ_BYTES = 1 << 20
_READ_STORED_BYTES = 8 << 20
_LOOKERS = 8


def hash_file(path: Path, *, on_bytes: OnBytes | None = None) -> str:
    """Return ``sha256:<hex>`` of a file, read a megabyte at a time: hashing runs outside the interpreter's lock."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
            if on_bytes is not None:
                on_bytes(len(block))
    return f"sha256:{digest.hexdigest()}"


def hash_blob(store: ObjectStore, file: VersionFile, on_bytes: OnBytes) -> tuple[int, str]:
    """
    Return the size and digest of a file's blob as the store has it; one that is too long is not read to its end.

    :param on_bytes: told of every part that was read.
    :raises KeyNotFoundError: there is none.
    :raises ObjectChangedError: somebody wrote there while it was read.
    """
    info = store.find_info(file.key)
    if info is None:
        raise KeyNotFoundError(f"There is no object {store.location(file.key)}.")
    digest = hashlib.sha256()
    for start in range(0, min(info.size_bytes, file.size_bytes), _READ_STORED_BYTES):
        content = store.get(file.key, start=start, length=_READ_STORED_BYTES, etag=info.etag)
        digest.update(content)
        on_bytes(len(content))
    return info.size_bytes, f"sha256:{digest.hexdigest()}"


def blob_problem(found: tuple[int, str], file: VersionFile) -> str | None:
    """
    Return what is wrong with a blob of some size and digest, or None.

    >>> digest = "sha256:" + 32 * "ab"
    >>> blob_problem((3, digest), VersionFile("config.json", "blobs/ab", digest, 1024))
    'has 3 bytes instead of 1,024'
    """
    size_bytes, digest = found
    if size_bytes != file.size_bytes:
        return f"has {size_bytes:,} bytes instead of {file.size_bytes:,}"
    return None if digest == file.digest else f"has the digest {digest}"


def check_blob(store: ObjectStore, file: VersionFile, on_bytes: OnBytes) -> None:
    """
    Read a blob and compare its digest.

    :raises DigestMismatchError: it is not what the manifest says.
    :raises KeyNotFoundError: there is none.
    """
    problem = blob_problem(hash_blob(store, file, on_bytes), file)
    if problem is not None:
        raise DigestMismatchError(f"{store.location(file.key)} {problem}.")


def describe_file(path: str, local: Path) -> VersionFile:
    """
    Return what a manifest says of a local file.

    :param path: inside the version's folder.
    """
    digest = hash_file(local)
    return VersionFile(path, Layout.blob(digest), digest, local.stat().st_size)


def is_whole(info: ObjectInfo | None, file: VersionFile) -> bool:
    """
    Tell whether an object is a file's blob, by its size: one of another size is damaged.

    Bytes that went bad inside the store are not seen here, because it takes reading them all: the cache sees it at the
    download.
    """
    return info is not None and info.size_bytes == file.size_bytes


def find_missing(store: ObjectStore, files: Sequence[VersionFile]) -> tuple[VersionFile, ...]:
    """Return those files whose blobs are not stored under their keys, one for each key; one HEAD for each."""
    by_key = list({file.key: file for file in files}.values())
    with ThreadPoolExecutor(_LOOKERS) as threads:
        infos = threads.map(lambda file: store.find_info(file.key), by_key)
        return tuple(file for file, info in zip(by_key, infos, strict=True) if not is_whole(info, file))


@dataclass(frozen=True)
class Placement:
    """
    Where a version's blobs are, or will be.

    :param files: with the keys that the manifest is to name.
    :param missing: those of them to upload, one for each key.
    """

    files: tuple[VersionFile, ...]
    missing: tuple[VersionFile, ...]


def place(store: ObjectStore, files: Sequence[VersionFile], generation: str) -> Placement:
    """
    Decide which stored blobs a new version relies on, and where the others go. The lease must have been taken.

    :param generation: names the keys that this writer makes where a digest is condemned; unique.
    """
    condemned = find_condemned(store)  # before any blob is looked for: see docs/format.md
    by_digest = {file.digest: replace(file, key=Layout.blob(file.digest)) for file in files}
    anew = [replace(file, key=Layout.blob(file.digest, generation)) for file in files if file.digest in condemned]
    absent = find_missing(store, [file for digest, file in by_digest.items() if digest not in condemned])
    with ThreadPoolExecutor(_LOOKERS) as threads:
        elsewhere = dict(zip(absent, threads.map(lambda file: _find_generation(store, file), absent), strict=True))
    found = [replace(file, key=key) for file, key in elsewhere.items() if key is not None]
    keys = {digest: file.key for digest, file in by_digest.items()} | {file.digest: file.key for file in found + anew}
    missing = {file.key: file for file in [*anew, *(file for file, key in elsewhere.items() if key is None)]}
    return Placement(tuple(replace(file, key=keys[file.digest]) for file in files), tuple(missing.values()))


def find_condemned(store: ObjectStore) -> frozenset[str]:
    """Return the digests that some collector may be deleting; one LIST."""
    markers = (digest_of_marker(Layout.CONDEMNED + name) for name in store.list_names(Layout.CONDEMNED))
    return frozenset(filter(None, markers))


def _find_generation(store: ObjectStore, file: VersionFile) -> str | None:
    """Return the key of a whole blob of a later generation, where the first one is gone."""
    for info in store.list_infos(f"{file.key}."):
        if digest_of_blob(info.key) == file.digest and is_whole(info, file):
            return info.key
    return None


def check_stored(store: ObjectStore, files: Iterable[VersionFile]) -> None:
    """
    Return if the store shows each of some uploaded files as it should be.

    :raises StorageError: it acknowledged an upload and then shows another size.
    """
    for file in find_missing(store, tuple(files)):
        raise StorageError(
            f"{store.location(file.key)} was uploaded with {file.size_bytes:,} bytes and the store shows another "
            f"size ({store.find_info(file.key)}). The version was not published. Log again; if it repeats, the store "
            "is at fault."
        )
