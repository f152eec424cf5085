"""
Where things lie in a cache folder, with which modes; its locks and its scratch folders.

The cache folder's own mode decides who may do what below it. An administrator who makes it ``2770`` for a group gets a
cache that the group shares; one that this package makes is its user's, as far as the umask says.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_ABANDONED_AFTER_S = 24 * 3600.0


def mode_below(folder_mode: int, wanted: int) -> int:
    """
    Return the mode of a file or folder below one, as far as that one's own mode allows it.

    >>> oct(mode_below(0o2770, 0o444)), oct(mode_below(0o2770, 0o666)), oct(mode_below(0o755, 0o666))
    ('0o440', '0o660', '0o644')

    :param wanted: read and write bits.
    """
    return wanted & folder_mode & 0o666


@dataclass(frozen=True)
class Places:
    """
    One cache folder.

    :param root: absolute; created when it is first needed.
    """

    root: Path

    @property
    def blobs(self) -> Path:
        """Verified blobs by digest."""
        return self.root / "sha256"

    @property
    def records(self) -> Path:
        """How each blob looked."""
        return self.root / "records"

    @property
    def folders(self) -> Path:
        """Versions' folders by content digest."""
        return self.root / "folders"

    def made(self, name: str) -> Path:
        """Return a folder of the cache, after making it as open as the cache folder is."""
        folder = self.root / name
        if not folder.is_dir():
            self.root.mkdir(parents=True, exist_ok=True)
            made = self.root / f".{name}-{secrets.token_hex(4)}"  # nobody meets it with the wrong mode
            made.mkdir()
            self.open_up(made)
            try:
                made.rename(folder)
            except OSError:
                made.rmdir()
                if not folder.is_dir():  # else another process was faster
                    raise
        return folder

    def open_up(self, folder: Path) -> None:
        """Give a folder the mode of the cache folder: the umask of whoever makes it must not keep its group out."""
        folder.chmod(self.root.stat().st_mode & 0o3777)

    def file_mode(self, wanted: int) -> int:
        """Return the mode of a file of the cache."""
        return mode_below(self.root.stat().st_mode, wanted)

    def open_lock(self, name: str) -> int:
        """Return a descriptor of a lock file, which is made if it is missing."""
        path = self.made("locks") / name
        if not path.exists():
            made = path.with_name(f".{name}-{secrets.token_hex(4)}")
            made.touch(mode=0o600)
            made.chmod(self.file_mode(0o666))
            with contextlib.suppress(FileExistsError):
                path.hardlink_to(made)  # whole with its mode, and the first one stays
            made.unlink()
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)  # to write, because NFS locks no other file alone

    @contextlib.contextmanager
    def locked(self, name: str, *, shared: bool = False) -> Iterator[None]:
        """
        Hold a lock, among threads and processes.

        :param shared: with others who share it; else alone.
        """
        descriptor = self.open_lock(name)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
            yield
        finally:
            unlock(descriptor)

    def is_locked(self, name: str) -> bool:
        """Tell whether somebody holds a lock at this moment."""
        descriptor = self.open_lock(name)
        try:
            return not try_lock(descriptor)
        finally:
            unlock(descriptor)

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """Give an empty folder on the cache's own file system, removed at the end, or by another process later."""
        parent = self.made("scratch")
        folder = parent / secrets.token_hex(8)
        lock = os.open(f"{folder}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            folder.mkdir(mode=0o700)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            Path(f"{folder}.lock").unlink(missing_ok=True)
            unlock(lock)

    def sweep_scratch(self) -> None:
        """Remove what killed processes of this user left behind."""
        for lock in self.made("scratch").glob("*.lock"):
            with contextlib.suppress(OSError):  # another user's, or gone meanwhile
                descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
                try:
                    # One that was made this moment is not locked yet; its folder comes after the lock.
                    if lock.with_suffix("").exists() and try_lock(descriptor):
                        shutil.rmtree(lock.with_suffix(""))
                        lock.unlink()
                    elif _is_abandoned(lock) and try_lock(descriptor):
                        lock.unlink()
                finally:
                    unlock(descriptor)


def try_lock(descriptor: int) -> bool:
    """Lock alone if nobody holds it; tell whether."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(descriptor: int) -> None:
    """Give a lock back, if it was taken, for all who have the descriptor: closing leaves it to a child forked since."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _is_abandoned(path: Path) -> bool:
    return time.time() - path.stat().st_mtime > _ABANDONED_AFTER_S
