"""
A folder with a model's files, here or in a store, read file by file.

A version is made of a :class:`Source` in two passes: first every file is looked at and hashed, then those that the
registry lacks are uploaded. A remote folder therefore comes to this machine one file at a time and never into memory; a
file is kept between the passes only where the disk has room for the whole model.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from airflow_provider_hfreg.errors import (
    BlobMissingError,
    DigestMismatchError,
    HfregError,
    KeyNotFoundError,
    LocalFileError,
)
from airflow_provider_hfreg.pipelines.weights import LARGEST_HEADER_BYTES
from airflow_provider_hfreg.storage.base import RESERVED_PREFIX, ObjectStore, OnBytes
from airflow_provider_hfreg.storage.disk import check_readable, explained
from airflow_provider_hfreg.storage.urls import local_path, open_store
from airflow_provider_hfreg.versions.blobs import check_blob
from airflow_provider_hfreg.versions.cache_settings import CHOOSE_FOLDER
from airflow_provider_hfreg.versions.layout import digest_hex
from airflow_provider_hfreg.versions.manifest import Manifest, VersionFile

if TYPE_CHECKING:
    from airflow_provider_hfreg.storage.settings import S3Settings

_HEADER_LENGTH_BYTES = 8
_WEIGHTS = ".safetensors"


class Source(Protocol):
    """Where the files of a version come from."""

    location: str

    def sizes(self) -> Mapping[str, int]:
        """Return path → size of every file below the folder."""

    def sketch(self, paths: tuple[str, ...]) -> Path:
        """
        Return a local folder that tells what the model is: small files whole, weights at least by their headers.

        A weights file in it has its true size, though it may hold nothing but its header.
        """

    def opened(self, path: str) -> AbstractContextManager[Path]:
        """Give a whole file as a local one, until the context ends."""

    def send(self, store: ObjectStore, file: VersionFile) -> bool:
        """
        Store a file's blob without its bytes coming to this machine, and tell whether it was done.

        What a server copies by itself is as good as what it had, so what it has is looked at first.
        """


@contextmanager
def source_of(
    folder: str | Path, s3: S3Settings | None, scratch: Callable[[], AbstractContextManager[Path]]
) -> Iterator[Source]:
    """
    Give the files of a folder that a person named. Those of this machine are read where they lie, without any scratch.

    :param folder: a path, ``file:///…`` or ``s3://…``.
    :param scratch: gives an empty local folder.
    """
    path = local_path(folder)
    if path is not None:
        yield LocalFolder(path)
        return
    with scratch() as made:
        yield StoredFolder(open_store(str(folder), s3), made)


@contextmanager
def told_as(location: str, folder: Path) -> Iterator[None]:
    """Let an error name the place that the caller gave, not our copy of it, which is gone when he reads the message."""
    try:
        yield
    except HfregError as error:
        error.args = tuple(str(argument).replace(str(folder), location) for argument in error.args)
        raise


class LocalFolder:
    """
    A folder of this machine. Links to files and folders are followed: the hub's client caches snapshots as links.

    :param location: how messages call it, where the folder is a copy of something.
    """

    def __init__(self, folder: Path, *, location: str | None = None) -> None:
        self.location = str(folder) if location is None else location
        self._folder = folder

    def sizes(self) -> Mapping[str, int]:
        """
        Return path → size of every file below the folder, but for those that a local store keeps for itself.

        :raises LocalFileError: a folder cannot be read, or a link leads nowhere: the version would lack files.
        """
        files = self._files()
        if not files:
            raise KeyNotFoundError(f"{self.location} is no folder, or holds no file: there is nothing to log.")
        return {path.relative_to(self._folder).as_posix(): path.stat().st_size for path in files}

    def _files(self) -> list[Path]:
        with explained("Listing", self._folder):
            if not self._folder.is_dir():
                return []
            return list(_files_below(self._folder, frozenset(self._folder.resolve().parents)))

    def sketch(self, paths: tuple[str, ...]) -> Path:
        """
        Return the folder itself.

        :raises LocalFileError: one of the files cannot be read; told before the first of them is hashed.
        """
        for path in paths:
            check_readable(self._folder / path)
        return self._folder

    @contextmanager
    def opened(self, path: str) -> Iterator[Path]:
        """Give a file where it lies."""
        check_readable(self._folder / path)
        yield self._folder / path

    def send(self, store: ObjectStore, file: VersionFile) -> bool:  # noqa: ARG002 - the bytes are here already
        """Nothing to spare: the bytes are here."""
        return False


def _files_below(folder: Path, around: frozenset[Path]) -> Iterator[Path]:
    """
    Find the files below a folder.

    :param around: the real folders that were gone through to it, and that the first of them lies in. A link back to one
        of these leads to the same files again, without end: it is not followed.
    :raises LocalFileError: a link leads nowhere.
    """
    real = folder.resolve()
    if real in around:
        return
    for path in sorted(folder.iterdir()):
        if path.name.startswith(RESERVED_PREFIX):
            continue
        if path.is_dir():
            yield from _files_below(path, around | {real})
        elif path.is_file():
            yield path
        elif path.is_symlink():
            raise LocalFileError(
                f"{path} is a link to {path.readlink()}, which is not there: the version would lack it. Bring that "
                "back (a model of the hub: download it again), or remove the link."
            )


class StoredFolder:
    """
    A folder of a store.

    :param scratch: an empty local folder; whoever made it removes it.
    :param keep: whether a file stays there after it was hashed; None: where the disk has room for twice the model.
    """

    def __init__(self, store: ObjectStore, scratch: Path, *, keep: bool | None = None) -> None:
        self.location = store.url
        self._store = store
        self._scratch = scratch
        self._keep = keep

    def sizes(self) -> Mapping[str, int]:
        """Return path → size of every object below the folder."""
        sizes = {info.key: info.size_bytes for info in self._store.list_infos()}
        if not sizes:
            raise KeyNotFoundError(f"{self.location} holds no object: there is nothing to log.")
        if self._keep is None:
            self._keep = shutil.disk_usage(self._scratch).free > 2 * sum(sizes.values())
        return sizes

    def sketch(self, paths: tuple[str, ...]) -> Path:
        """Return a folder with the small files, and weights of the right size that hold their header and a hole."""
        folder = self._scratch / "sketch"
        for path in paths:
            target = folder / path
            with _fetched_to(target):
                if path.endswith(_WEIGHTS):
                    info = self._store.find_info(path)
                    _sketch_weights(self._store, path, 0 if info is None else info.size_bytes, target)
                else:
                    self._store.download(path, target)
        return folder

    @contextmanager
    def opened(self, path: str) -> Iterator[Path]:
        """Give a file's local copy, fetched unless it was kept."""
        target = self._scratch / "files" / path
        if not target.exists():
            with _fetched_to(target):
                self._store.download(path, target)
        yield target
        if not self._keep:
            target.unlink()

    def send(self, store: ObjectStore, file: VersionFile) -> bool:  # noqa: ARG002 - a file of a folder has no digest yet
        """Not done: a file is published under the digest that was taken of it here."""
        return False


@contextmanager
def _fetched_to(target: Path) -> Iterator[None]:
    """Make a file's folder; say of a disk that fails meanwhile where it is and how to choose another."""
    with explained("Fetching", target, also=CHOOSE_FOLDER):
        target.parent.mkdir(parents=True, exist_ok=True)
        yield


def _sketch_weights(store: ObjectStore, key: str, size_bytes: int, target: Path) -> None:
    length = store.get(key, length=_HEADER_LENGTH_BYTES)
    # A file that is no safetensors says anything.
    header_bytes = min(int.from_bytes(length, "little"), size_bytes, LARGEST_HEADER_BYTES)
    target.write_bytes(length + store.get(key, start=_HEADER_LENGTH_BYTES, length=header_bytes))
    with target.open("r+b") as file:
        file.truncate(size_bytes)


class StoredVersion:
    """
    The files of a version of another registry, each verified by its digest.

    :param manifest: of the version.
    :param scratch: an empty local folder for one file at a time; whoever made it removes it.
    :param progress: gives the callback for one download.
    :param verify: read a blob and compare its digest before a server copies it by itself. False: its size alone is
        looked at, and a damaged blob becomes a damaged blob under the same digest, on which later versions rely.
    """

    def __init__(
        self,
        store: ObjectStore,
        manifest: Manifest,
        scratch: Path,
        *,
        progress: Callable[[VersionFile], OnBytes],
        verify: bool = True,
    ) -> None:
        self.location = f"{manifest.model_name}/{manifest.version_name} in {store.url}"
        self._store = store
        self._files = {file.path: file for file in manifest.files}
        self._scratch = scratch
        self._progress = progress
        self._verify = verify

    def sizes(self) -> Mapping[str, int]:
        """Return path → size, as the manifest says."""
        return {path: file.size_bytes for path, file in self._files.items()}

    def sketch(self, paths: tuple[str, ...]) -> Path:
        """
        Return a folder with the small files, verified, and weights of the right size that hold their header and a hole.

        :raises IntegrityError: as :meth:`opened`.
        """
        folder = self._scratch / "sketch"
        for path in paths:
            target, file = folder / path, self._files[path]
            if path.endswith(_WEIGHTS):
                with self._explained(file), _fetched_to(target):
                    _sketch_weights(self._store, file.key, file.size_bytes, target)
            else:
                self._fetch(file, target)
        return folder

    @contextmanager
    def opened(self, path: str) -> Iterator[Path]:
        """
        Give a file's local copy.

        :raises BlobMissingError: the registry has lost it.
        :raises DigestMismatchError: the registry's copy is damaged.
        """
        file = self._files[path]
        target = self._scratch / digest_hex(file.digest)
        self._fetch(file, target)
        yield target
        target.unlink()

    def _fetch(self, file: VersionFile, target: Path) -> None:
        with self._explained(file), _fetched_to(target):
            self._store.download(
                file.key, target, on_bytes=self._progress(file), digest=file.digest, size_bytes=file.size_bytes
            )

    def send(self, store: ObjectStore, file: VersionFile) -> bool:
        """
        Let the server copy the blob, where one server holds both registries; read and hash it before.

        Before and not after: a copy of damaged bytes would lie under their digest in the meantime, and a logger has no
        right to delete it.

        :raises IntegrityError: as :meth:`opened`.
        """
        if not store.can_copy_from(self._store):
            return False
        original = self._files[file.path]
        with self._explained(original):
            if self._verify:
                check_blob(self._store, original, self._progress(original))
            return store.copy_from(self._store, original.key, file.key)

    @contextmanager
    def _explained(self, file: VersionFile) -> Iterator[None]:
        """Say of a lost or damaged blob which file of which version it is."""
        try:
            yield
        except KeyNotFoundError as error:
            raise self._lost(file) from error
        except DigestMismatchError as error:
            raise DigestMismatchError(
                f"{file.path} of {self.location} is damaged: {error} Nothing was published. Restore the object there, "
                "or delete it and log the same model again there under the same name."
            ) from error

    def _lost(self, file: VersionFile) -> BlobMissingError:
        return BlobMissingError(
            f"{self.location} has lost its file {file.path}: there is no {self._store.location(file.key)}. Nothing was "
            "published. Log the same model again there, which uploads what is missing, or restore the object."
        )
