"""
Objects as files below a folder, with the guarantees of S3.

- ``put_if_absent`` is ``link(2)`` from a finished temporary file: the kernel lets one caller win.
- Overwriting, ``replace_if_match`` and ``delete`` hold ``flock`` on ``.hfreg.lock`` in the object's own folder, so that
  processes meet the same lock whichever root they opened; it dies with its process. Removing nothing but objects
  (folders and lock files stay) keeps every race of mkdir and rmdir out.
- A write goes to ``.hfreg.tmp-*`` beside its target, is synced, then linked or renamed, then the folder is synced:
  what was acknowledged survives a power cut, and a reader that has a file open keeps reading the old one. What a kill
  leaves behind is never listed, and removed by a listing that finds it a day old.
- An etag is the content's digest up to 1 MiB. Above, it is made of inode, size and time of change, set from a
  nanosecond clock: the kernel's own stamp has steps of 4 ms, in which an inode can be freed and used again.

Folders are created as needed, the root included; empty ones are not shown, as on S3. On NFS, ``flock`` needs version 4
or a lock daemon. POSIX only, as Airflow is.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from airflow_provider_hfreg.errors import (
    CompareAndSwapLostError,
    ConditionalWritesUnsupportedError,
    HfregError,
    KeyExistsError,
    KeyNotFoundError,
    ObjectChangedError,
    StorageDeniedError,
    StorageUnavailableError,
    StorageUrlError,
)
from airflow_provider_hfreg.storage.base import ObjectInfo, ObjectState, ObjectStore, OnBytes, check_key
from airflow_provider_hfreg.storage.digests import PassingDigest
from airflow_provider_hfreg.storage.files import (
    copy_bytes,
    etag_of,
    finish,
    folder_entries,
    folder_lock,
    reserve,
    sync_folder,
    temporary_file,
)
from airflow_provider_hfreg.storage.readers import RangedReader
from airflow_provider_hfreg.storage.urls import StoreUrl, parse_url

_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_ABSENT = {errno.ENOENT, errno.EISDIR, errno.ENOTDIR}
_IN_THE_WAY = {errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY}
_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}
_FULL = {errno.ENOSPC, errno.EDQUOT}


class LocalStore(ObjectStore):
    """
    A folder.

    :param url: ``file:///folder``; need not exist.
    :raises StorageUrlError: no such URL.
    """

    def __init__(self, url: str) -> None:
        parsed = parse_url(url)
        if parsed.scheme != "file":
            raise StorageUrlError(f"{url!r} is no file:// URL.")
        self.url = str(parsed)
        self.root = Path(parsed.path)

    def __repr__(self) -> str:
        return f"LocalStore({self.url!r})"

    def location(self, key: str) -> str:
        """Return the full URL of a key."""
        return str(StoreUrl("file", "", str(self.root / key))) if key else self.url

    # --- reading

    def get(self, key: str, *, start: int = 0, length: int | None = None, etag: str | None = None) -> bytes:
        """Read the file, or a part of it."""
        with self._open(key) as stream:
            size_bytes = os.fstat(stream.fileno()).st_size
            stream.seek(max(0, size_bytes + start) if start < 0 else start)
            content = stream.read(-1 if length is None else length)
            # Looked for after reading: other programs write into a file where it is, and what they do first is to
            # change its time.
            if etag is not None and etag_of(stream) != etag:
                raise ObjectChangedError(f"{self.location(key)} was changed by another writer since it was seen.")
            return content

    def get_with_etag(self, key: str) -> tuple[bytes, str]:
        """Read the file; bytes and etag are of one inode, whoever renames over it meanwhile."""
        with self._open(key) as stream:
            etag = etag_of(stream)
            stream.seek(0)
            return stream.read(), etag

    def find_info(self, key: str) -> ObjectInfo | None:
        """Look at the file; up to 1 MiB it is read for its etag."""
        try:
            with self._open(key) as stream:
                status = os.fstat(stream.fileno())
                modified = datetime.fromtimestamp(status.st_mtime, UTC)
                return ObjectInfo(key, status.st_size, etag_of(stream), modified)
        except KeyNotFoundError:
            return None

    def list_infos(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Walk the folders that the prefix allows; files up to 1 MiB are read for their etags."""
        folder, slash, start = prefix.rpartition("/")
        for key in self._walk(folder + slash, start):
            info = self.find_info(key)
            if info is not None:  # else deleted since the folder was read
                yield info

    def list_names(self, folder: str = "") -> Iterator[str]:
        """Read one folder, and of each folder in it as much as tells whether it holds an object."""
        for name in self._entries(folder):
            if not name.endswith("/") or next(self._walk(folder + name), None) is not None:
                yield name

    def open_reader(self, key: str, *, state: ObjectState | None = None) -> BinaryIO:
        """Open the file; a later write does not change what is read. With a state, every read looks for it."""
        if state is None:
            return self._open(key)
        etag = state.etag

        def read_range(start: int, length: int) -> bytes:
            return self.get(key, start=start, length=length, etag=etag)

        return io.BufferedReader(RangedReader(read_range, state.size_bytes))

    def download(
        self,
        key: str,
        path: Path,
        *,
        on_bytes: OnBytes | None = None,
        digest: str | None = None,
        size_bytes: int | None = None,  # noqa: ARG002 - the file tells
    ) -> None:
        """Copy the file, into room that is reserved first."""
        passing = PassingDigest(digest)
        with self._open(key) as source, path.open("wb") as target:
            reserve(target.fileno(), os.fstat(source.fileno()).st_size)
            copy_bytes(source, target, on_bytes, passing)
        passing.check(self.location(key))

    # --- writing

    def put(self, key: str, content: bytes) -> None:
        """Write beside, rename over."""
        with self._writing(key) as temporary:
            temporary.write(content)
            self._rename(temporary, key)

    def put_if_absent(self, key: str, content: bytes | Path) -> str:
        """Write beside, link."""
        with _open_content(content) as source, self._writing(key) as temporary:
            copy_bytes(source, temporary)
            return self._link(temporary, key)

    def replace_if_match(self, key: str, content: bytes, etag: str) -> str:
        """Write beside; under the folder's lock compare the etag and rename over."""
        if self.find_info(key) is None:  # also keeps a lost race from making folders
            raise self._swap_lost(key)
        with self._writing(key) as temporary:
            temporary.write(content)
            return self._rename(temporary, key, etag)

    def upload(self, key: str, path: Path, *, on_bytes: OnBytes | None = None, digest: str | None = None) -> None:
        """Copy beside, rename over."""
        passing = PassingDigest(digest)
        with path.open("rb") as source, self._writing(key) as temporary:
            copy_bytes(source, temporary, on_bytes, passing)
            passing.check(str(path))
            self._rename(temporary, key)

    def copy(self, source_key: str, target_key: str) -> None:
        """Copy beside the target, rename over."""
        with self._open(source_key) as source, self._writing(target_key) as temporary:
            copy_bytes(source, temporary)
            self._rename(temporary, target_key)

    def delete(self, keys: Iterable[str]) -> None:
        """Remove the files; their folders stay, and are not listed."""
        for key in keys:
            path = self._path(key)
            if path.is_file():  # else no lock file is made where nothing was
                with self._translated("deleting", key), folder_lock(path.parent):
                    path.unlink(missing_ok=True)
                    sync_folder(path.parent)

    # --- places

    def below(self, folder: str) -> LocalStore:
        """Meets the same locks: they lie beside the objects."""
        return LocalStore(self.location(check_key(folder.rstrip("/"))))

    # --- files

    def _path(self, key: str) -> Path:
        return self.root / check_key(key)

    def _open(self, key: str) -> BinaryIO:
        path = self._path(key)
        try:
            return path.open("rb")
        except OSError as error:
            if error.errno in _ABSENT:
                raise KeyNotFoundError(
                    f"There is no object {self.location(key)}. Check the name, and whether it was deleted."
                ) from error
            raise self._error("reading", key, error) from error

    def _entries(self, folder: str) -> list[str]:
        path = self._path(folder.removesuffix("/")) if folder else self.root
        with self._translated("listing", folder):
            return folder_entries(path)

    def _walk(self, folder: str, start: str = "") -> Iterator[str]:
        """Yield the keys below ``folder`` whose next name begins with ``start``, in order."""
        for name in self._entries(folder):
            if not name.startswith(start):
                continue
            if name.endswith("/"):
                yield from self._walk(folder + name)
            else:
                yield folder + name

    @contextlib.contextmanager
    def _writing(self, key: str) -> Iterator[BinaryIO]:
        with self._translated("writing", key), temporary_file(self._path(key).parent) as temporary:
            yield temporary

    def _link(self, temporary: BinaryIO, key: str) -> str:
        path = self._path(key)
        finish(temporary)
        etag = etag_of(temporary)
        try:
            os.link(temporary.name, path)
        except FileExistsError as error:
            raise KeyExistsError(f"{self.location(key)} exists already; nothing was changed.") from error
        except OSError as error:
            if error.errno in _NO_HARD_LINKS:
                raise self._no_links(error) from error
            raise
        sync_folder(path.parent)
        return etag

    def _rename(self, temporary: BinaryIO, key: str, expected: str | None = None) -> str:
        path = self._path(key)
        finish(temporary)
        etag = etag_of(temporary)
        with folder_lock(path.parent):
            if expected is not None and self._find_etag(key) != expected:
                raise self._swap_lost(key)
            Path(temporary.name).rename(path)
        sync_folder(path.parent)
        return etag

    def _find_etag(self, key: str) -> str | None:
        info = self.find_info(key)
        return info.etag if info else None

    # --- errors

    @contextlib.contextmanager
    def _translated(self, action: str, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._error(action, key, error) from error

    def _error(self, action: str, key: str, error: OSError) -> HfregError:
        what = f"{action.capitalize()} {self.location(key)} failed ({error.strerror or error})."
        if error.errno in _DENIED:
            return StorageDeniedError(f"{what} Give this user the permission, or choose another folder.")
        if error.errno in _FULL:
            return StorageUnavailableError(f"{what} Free some space on the disk, then try again.")
        if error.errno in _IN_THE_WAY or isinstance(error, NotADirectoryError):
            return StorageUrlError(f"{what} One name cannot be an object and a folder too; choose another name.")
        if error.errno == errno.ENAMETOOLONG:
            return StorageUrlError(f"{what} The file system allows no name as long; choose a shorter one.")
        return StorageUnavailableError(f"{what} The disk is unwell, or the folder was removed meanwhile; try again.")

    def _swap_lost(self, key: str) -> CompareAndSwapLostError:
        return CompareAndSwapLostError(
            f"{self.location(key)} was changed by another writer since it was read. Read it again and repeat."
        )

    def _no_links(self, error: OSError) -> ConditionalWritesUnsupportedError:
        return ConditionalWritesUnsupportedError(
            f"The file system of {self.url} has no hard links ({error.strerror}), by which put-if-absent has one "
            "winner. Choose a folder on a local disk or on NFS, or an S3 server."
        )


def _open_content(content: bytes | Path) -> BinaryIO:
    return io.BytesIO(content) if isinstance(content, bytes) else content.open("rb")
