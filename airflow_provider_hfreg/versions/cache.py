"""
The cache of a host: verified copies of blobs, shared by every process, and folders that ``from_pretrained`` reads.

.. code-block:: text

    <cache>/sha256/<hex>                 a blob, read-only; only ever a whole, verified one
    <cache>/records/<hex>.json           how the file looked when it was verified; changed last when it was used last
    <cache>/locks/<hex>.lock             one download at a time; the system drops a lock with its process
    <cache>/scratch/<name>               downloads under way, and folders being packaged
    <cache>/folders/<content hex>/<path> links to blobs: a version's folder

Invariants:

- A name below ``sha256`` appears by rename, after the digest was verified and the bytes were flushed: a kill at any
  moment leaves no partial entry.
- An entry is looked at on its first use in every process: size, times of change and, where they differ from the
  record, the digest. So an ordinary write into the cache is noticed without reading gigabytes at every load;
  ``verify=True`` reads them, which also finds what a disk changed by itself.
- A damaged entry is fetched once more; if the store's copy is damaged too, :class:`DigestMismatchError`.

Eviction is not done here. What it needs is kept: the last use in the records, and links only from ``folders``.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from airflow_provider_hfreg.errors import BlobMissingError, DigestMismatchError, KeyNotFoundError, StorageError
from airflow_provider_hfreg.storage.base import ObjectStore, OnBytes
from airflow_provider_hfreg.versions.blobs import hash_file
from airflow_provider_hfreg.versions.layout import digest_hex
from airflow_provider_hfreg.versions.manifest import Manifest, VersionFile

ProgressOf = Callable[[VersionFile], OnBytes]


def default_cache_folder() -> Path:
    """Return ``$HFREG_CACHE``, else ``~/.cache/hfreg``."""
    chosen = os.environ.get("HFREG_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "hfreg"


class HostCache:
    """
    One cache folder, as one process sees it.

    :param folder: created when it is first needed; best on a local disk with room for the models.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._looked_at: set[str] = set()
        self._lock = threading.Lock()

    # --- a version's folder

    def folder_of(
        self, store: ObjectStore, manifest: Manifest, *, verify: bool = False, progress: ProgressOf | None = None
    ) -> Path:
        """
        Return a folder with the version's files, fetching those that this host lacks.

        :param verify: read every file and compare its digest, instead of trusting the record of the last time.
        :raises BlobMissingError: the store has lost a file of the version.
        :raises DigestMismatchError: the store's copy of a file is damaged.
        """
        blobs = {}
        for file in manifest.files:
            try:
                blobs[file.path] = self.fetch(store, file, verify=verify, progress=progress)
            except KeyNotFoundError as error:
                raise _missing(store, manifest, file) from error
        folder = self.folder / "folders" / digest_hex(manifest.content_digest)
        if not _links_to(folder, blobs):
            with self._explained(manifest.size_bytes), self._locked(folder.name):
                self._build(folder, blobs)
        return folder

    def _build(self, folder: Path, blobs: dict[str, Path]) -> None:
        """Put a folder of links in place, unless another process did while this one waited for the lock."""
        if _links_to(folder, blobs):
            return
        with self.scratch() as scratch:
            built = scratch / "folder"
            built.mkdir()
            for path, blob in blobs.items():
                link = built / path
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(blob)
            folder.parent.mkdir(exist_ok=True)
            if folder.exists():
                folder.rename(scratch / "damaged")
            built.rename(folder)

    # --- one blob

    def fetch(
        self, store: ObjectStore, file: VersionFile, *, verify: bool = False, progress: ProgressOf | None = None
    ) -> Path:
        """
        Return the local copy of a blob, downloading it if this host lacks it or holds a damaged one.

        :raises KeyNotFoundError: the store has none.
        :raises DigestMismatchError: the store's copy is damaged; names the key, the expected and the found digest.
        """
        path = self.folder / "sha256" / digest_hex(file.digest)
        if self._is_trusted(path, file, verify=verify):
            return path
        with self._explained(file.size_bytes), self._locked(path.name):
            # Another process may have fetched it while we waited.
            if not self._is_intact(path, file, verify=verify):
                self._download(store, file, path, progress)
        with self._lock:
            self._looked_at.add(file.digest)
        return path

    def _is_trusted(self, path: Path, file: VersionFile, *, verify: bool) -> bool:
        """Tell whether this process has looked at the entry before, and it is still there with its size."""
        with self._lock:
            looked_at = file.digest in self._looked_at
        return looked_at and not verify and path.is_file() and path.stat().st_size == file.size_bytes

    @contextmanager
    def _explained(self, size_bytes: int) -> Iterator[None]:
        """Say of a full or unwritable folder which one it is."""
        try:
            yield
        except OSError as error:
            raise StorageError(
                f"The cache folder {self.folder} cannot hold {size_bytes:,} bytes more: {error.strerror or error}. "
                "Make room there, or point HFREG_CACHE to another folder."
            ) from error

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        lock = self.folder / "locks" / f"{name}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            yield

    def _is_intact(self, path: Path, file: VersionFile, *, verify: bool) -> bool:
        if not path.is_file() or path.stat().st_size != file.size_bytes:
            return False
        if not verify and _look(path) == _recorded(self._record(path)):
            os.utime(self._record(path))
            return True
        if hash_file(path) != file.digest:
            return False
        self._write_record(path)
        return True

    def _download(self, store: ObjectStore, file: VersionFile, path: Path, progress: ProgressOf | None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with self.scratch() as scratch:
            partial = scratch / path.name
            for attempt in (1, 2):
                store.download(file.key, partial, on_bytes=None if progress is None else progress(file))
                found = hash_file(partial)
                if found == file.digest:
                    break
                if attempt == 2:
                    raise _mismatch(store, file, found)
            _check_size(store, file, partial.stat().st_size)
            partial.chmod(0o444)
            _flush(partial)
            partial.replace(path)
        _flush(path.parent)
        self._write_record(path)

    def _record(self, path: Path) -> Path:
        return self.folder / "records" / f"{path.name}.json"

    def _write_record(self, path: Path) -> None:
        record = self._record(path)
        record.parent.mkdir(parents=True, exist_ok=True)
        with self.scratch() as scratch:
            written = scratch / record.name
            written.write_text(json.dumps(_look(path)), "utf-8")
            written.replace(record)

    # --- room to work in

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """
        Give an empty folder on the cache's own file system, removed at the end.

        Models are packaged and downloaded here rather than in ``/tmp``, which is often small, or memory.
        """
        parent = self.folder / "scratch"
        parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=parent))
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _missing(store: ObjectStore, manifest: Manifest, file: VersionFile) -> BlobMissingError:
    return BlobMissingError(
        f"{manifest.model_name}/{manifest.version_name} cannot be loaded: its file {file.path} is gone from the store; "
        f"there is no {store.location(file.key)}. Log the same model again under the same name, which uploads what is "
        "missing, or restore the object from the bucket's versions or a copy."
    )


def _mismatch(store: ObjectStore, file: VersionFile, found: str) -> DigestMismatchError:
    return DigestMismatchError(
        f"{store.location(file.key)} ({file.path}) is damaged: expected {file.digest}, got {found}, twice. It was not "
        "loaded. Restore the object from the bucket's versions or a copy; or delete it from the store and then log the "
        "same model again under the same name, which uploads it anew. Without deleting it, the damaged object would be "
        "taken for stored."
    )


def _check_size(store: ObjectStore, file: VersionFile, size_bytes: int) -> None:
    """Refuse a manifest whose size is not its digest's: its entry would look damaged at every use, for ever."""
    if size_bytes != file.size_bytes:
        raise DigestMismatchError(
            f"{store.location(file.key)} ({file.path}) has the right digest and {size_bytes:,} bytes, and the "
            f"version's manifest says {file.size_bytes:,}: the manifest was changed after it was published. Restore it "
            "from the bucket's versions, or log the model again under another version name."
        )


def _look(path: Path) -> list[int]:
    """What an ordinary write to a file changes. The time of inode change cannot be set back by a program."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _recorded(record: Path) -> list[int] | None:
    try:
        looked: list[int] = json.loads(record.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return looked


def _links_to(folder: Path, blobs: dict[str, Path]) -> bool:
    try:
        found = {str(link.relative_to(folder)): link.readlink() for link in folder.rglob("*") if link.is_symlink()}
    except OSError:
        return False
    return found == blobs


def _flush(path: Path) -> None:
    """Force a file's bytes, or a folder's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
