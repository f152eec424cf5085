"""
A version's folder on this host, held while it is read; its blobs fetched by whoever comes first.

See :mod:`airflow_provider_hfreg.versions.cache` for how it lies on the disk and what is promised.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from airflow_provider_hfreg.errors import (
    BlobMissingError,
    DigestMismatchError,
    KeyNotFoundError,
    ObjectChangedError,
    StorageError,
    StorageUnavailableError,
)
from airflow_provider_hfreg.storage.base import ObjectStore, OnBytes
from airflow_provider_hfreg.storage.disk import explained
from airflow_provider_hfreg.versions.cache.entries import Entry, Look
from airflow_provider_hfreg.versions.cache.eviction import EVICTION, bound_bytes, make_room
from airflow_provider_hfreg.versions.cache.holds import HeldFolder, hold, hold_for_life, trim_after_readers
from airflow_provider_hfreg.versions.cache.links import link_text, mend
from airflow_provider_hfreg.versions.cache.places import Places
from airflow_provider_hfreg.versions.cache_settings import CHOOSE_FOLDER, check_cache_size_gib
from airflow_provider_hfreg.versions.layout import digest_hex
from airflow_provider_hfreg.versions.manifest import Manifest, VersionFile

ProgressOf = Callable[[VersionFile], OnBytes]

_log = logging.getLogger(__name__)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class HostCache:
    """
    One cache folder, as one process sees it.

    :param folder: created when it is first needed; best on a local disk with room for the models.
    :param size_gib: of all blobs together; None: half of the disk; ``inf``: no bound but the disk's.
    :raises SettingsError: a size that is none.
    """

    def __init__(self, folder: Path, *, size_gib: float | None = None) -> None:
        self.folder = folder.absolute()
        self._places = Places(self.folder)
        self._size_gib = None if size_gib is None else check_cache_size_gib(size_gib, "cache_size_gib")
        self._seen: dict[str, Look] = {}
        self._lock = threading.Lock()

    # --- a version's folder

    def hold(
        self, store: ObjectStore, manifest: Manifest, *, verify: bool = False, progress: ProgressOf | None = None
    ) -> HeldFolder:
        """
        Return a folder with the version's files, which stays while it is held; fetch those that this host lacks.

        :param verify: read every file and compare its digest, instead of trusting the record of the last time.
        :raises BlobMissingError: the store has lost a file of the version.
        :raises DigestMismatchError: the store's copy of a file is damaged.
        :raises StorageUnavailableError: the disk is full of what others read.
        """
        trim_after_readers()
        folder = self._places.folders / digest_hex(manifest.content_digest)
        links = {file.path: link_text(file.path, self._entry(file).name) for file in manifest.files}
        with self._explained(manifest.size_bytes), self._places.locked(EVICTION, shared=True):
            held = hold(self._places, folder, self._trim)
            mend(self._places, folder, links)  # before the blobs come: the links say which ones must stay
        try:
            for file in manifest.files:
                try:
                    self._fetch(store, file, manifest, verify=verify, progress=progress)
                except KeyNotFoundError as error:
                    raise _missing(store, manifest, file) from error
        except BaseException:
            held.release()
            raise
        return held

    def folder_of(
        self, store: ObjectStore, manifest: Manifest, *, verify: bool = False, progress: ProgressOf | None = None
    ) -> Path:
        """Return such a folder, held until this process ends."""
        held = self.hold(store, manifest, verify=verify, progress=progress)
        hold_for_life(held)
        return held.path

    def prefetch(self, store: ObjectStore, manifest: Manifest, *, progress: ProgressOf | None = None) -> None:
        """Fetch what this host lacks, for a load that comes soon; it may be evicted before."""
        self.hold(store, manifest, progress=progress).release()

    # --- one blob

    def _entry(self, file: VersionFile) -> Entry:
        return Entry(self._places, digest_hex(file.digest))

    def _fetch(
        self, store: ObjectStore, file: VersionFile, manifest: Manifest, *, verify: bool, progress: ProgressOf | None
    ) -> None:
        """Make sure that this host has a blob, downloading it if it lacks it or holds a damaged one."""
        entry = self._entry(file)
        if not self._is_trusted(entry, file, verify=verify):
            with self._explained(file.size_bytes), self._places.locked(f"{entry.name}.lock"):
                # Another process may have fetched it while this one waited.
                look = entry.find_intact(file.digest, file.size_bytes, verify=verify)
                if look is None:
                    self._make_room(manifest, file)
                    look = self._download(store, file, entry, progress)
            with self._lock:
                self._seen[file.digest] = look
        entry.touch()

    def _is_trusted(self, entry: Entry, file: VersionFile, *, verify: bool) -> bool:
        """Tell whether this process has found the entry whole before, and nobody has written to it since."""
        with self._lock:
            seen = self._seen.get(file.digest)
        return seen is not None and not verify and seen.size_bytes == file.size_bytes and entry.look() == seen

    def _make_room(self, manifest: Manifest, file: VersionFile) -> None:
        bound = bound_bytes(self._places, self._size_gib)
        if manifest.size_bytes > bound:
            _log.warning(
                "%s/%s has %.1f GiB and the cache %s is bounded at %.1f GiB: everything else goes, and it too once "
                "nobody reads it. Set cache_size_gib higher.",
                *(manifest.model_name, manifest.version_name, manifest.size_bytes / (1 << 30)),
                *(self.folder, bound / (1 << 30)),
            )
        make_room(self._places, self._size_gib, file.size_bytes)

    def _trim(self) -> None:
        if not self.folder.exists():  # deleted since, and not to be made again for this
            return
        try:
            make_room(self._places, self._size_gib)
        except OSError as error:  # whoever reads next makes room; this one has read, and is told of no error
            _log.warning("The cache %s could not be brought under its bound: %s.", self.folder, error)

    def _download(self, store: ObjectStore, file: VersionFile, entry: Entry, progress: ProgressOf | None) -> Look:
        with self._places.scratch() as scratch:
            partial = scratch / entry.name
            try:
                _download_once(store, file, partial, progress)
            except (DigestMismatchError, ObjectChangedError):
                try:
                    _download_once(store, file, partial, progress)
                except DigestMismatchError as error:
                    raise _mismatch(store, file, error) from error
            _check_size(store, file, partial.stat().st_size)
            return entry.place(partial)

    @contextmanager
    def _explained(self, size_bytes: int) -> Iterator[None]:
        """Say of a full or unwritable folder which one it is."""
        try:
            yield
        except OSError as error:
            kind = StorageUnavailableError if error.errno in _FULL else StorageError
            raise kind(
                f"The cache folder {self.folder} cannot hold {size_bytes:,} bytes more: {error.strerror or error}. "
                "Make room there, let this user write there, or point HFREG_CACHE (or cache_folder) to another folder."
            ) from error

    # --- room to work in

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """
        Give an empty folder on the cache's own file system, removed at the end.

        Models are packaged and downloaded here rather than in ``/tmp``, which is often small, or memory.

        :raises LocalFileError: this user may make none there, or its disk is full.
        """
        with ExitStack() as until_done:
            with explained("Making a folder in", self.folder, also=CHOOSE_FOLDER):
                scratch = until_done.enter_context(self._places.scratch())
            yield scratch


def _download_once(store: ObjectStore, file: VersionFile, path: Path, progress: ProgressOf | None) -> None:
    on_bytes = None if progress is None else progress(file)
    store.download(file.key, path, on_bytes=on_bytes, digest=file.digest, size_bytes=file.size_bytes)


def _missing(store: ObjectStore, manifest: Manifest, file: VersionFile) -> BlobMissingError:
    return BlobMissingError(
        f"{manifest.model_name}/{manifest.version_name} cannot be loaded: its file {file.path} is gone from the store; "
        f"there is no {store.location(file.key)}. Log the same model again under the same name, which uploads what is "
        "missing, or restore the object from the bucket's versions or a copy."
    )


def _mismatch(store: ObjectStore, file: VersionFile, error: DigestMismatchError) -> DigestMismatchError:
    return DigestMismatchError(
        f"{store.location(file.key)} ({file.path}) is damaged, twice: {error} It was not loaded. Restore the object "
        "from the bucket's versions or a copy; or delete it from the store and then log the same model again under the "
        "same name, which uploads it anew. Without deleting it, the damaged object would be taken for stored."
    )


def _check_size(store: ObjectStore, file: VersionFile, size_bytes: int) -> None:
    """Refuse a manifest whose size is not its digest's: its entry would look damaged at every use, for ever."""
    if size_bytes != file.size_bytes:
        raise DigestMismatchError(
            f"{store.location(file.key)} ({file.path}) has the right digest and {size_bytes:,} bytes, and the "
            f"version's manifest says {file.size_bytes:,}: the manifest was changed after it was published. Restore it "
            "from the bucket's versions, or log the model again under another version name."
        )
