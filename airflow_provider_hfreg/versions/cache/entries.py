"""
One blob on the disk, and its record: how the file looked when it was verified.

What an ordinary write to a file changes is compared at every use: with what a process saw, and where that differs
or nothing was seen yet, with the record; the content only where that differs too, or where it is asked for. The time of
the record's own change is the entry's last use.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from airflow_provider_hfreg.versions.blobs import hash_file
from airflow_provider_hfreg.versions.cache.places import Places


class Look(NamedTuple):
    """What an ordinary write to a file changes. The time of inode change cannot be set back by a program."""

    size_bytes: int
    modified_ns: int
    changed_ns: int
    inode: int

    @property
    def recorded(self) -> list[int]:
        """What the record keeps: without the inode, which some network file systems number anew for every process."""
        return [self.size_bytes, self.modified_ns, self.changed_ns]


@dataclass(frozen=True)
class Entry:
    """
    A place for a blob.

    :param name: the digest's hex.
    """

    places: Places
    name: str

    @property
    def path(self) -> Path:
        """The blob."""
        return self.places.blobs / self.name

    @property
    def record(self) -> Path:
        """Its record."""
        return self.places.records / f"{self.name}.json"

    def look(self) -> Look | None:
        """Return how it looks now; None if it is not there."""
        try:
            return _look(self.path)
        except OSError:
            return None

    def find_intact(self, digest: str, size_bytes: int, *, verify: bool) -> Look | None:
        """
        Return how it looks, if it is what it was when it was verified; else None.

        :param verify: read it, whatever the record says.
        """
        look = self.look()  # before it is read: what is written to it meanwhile is then seen at the next use
        if look is None or look.size_bytes != size_bytes:
            return None
        if not verify and look.recorded == self._recorded():
            return look
        if hash_file(self.path) != digest:
            return None
        self._write_record(look)
        return look

    def place(self, partial: Path) -> Look:
        """
        Put a verified file in place, durably. Its name appears last, so a kill leaves it or nothing.

        :returns: how it looks there.
        """
        partial.chmod(self.places.file_mode(0o444))
        _flush(partial)
        folder = self.places.made("sha256")
        partial.replace(self.path)
        _flush(folder)
        look = _look(self.path)
        self._write_record(look)
        return look

    def touch(self) -> None:
        """Note that it was used now."""
        with contextlib.suppress(OSError):  # another user's that may only be read: then it looks older than it is
            os.utime(self.record)

    def used_ns(self) -> int:
        """Return when it was used last, in nanoseconds since 1970."""
        with contextlib.suppress(OSError):
            return self.record.stat().st_mtime_ns
        return self.path.stat().st_mtime_ns  # a kill came between blob and record

    def remove(self) -> None:
        """Remove it; a reader that has it open keeps reading."""
        self.path.unlink(missing_ok=True)
        self.record.unlink(missing_ok=True)

    def _write_record(self, look: Look) -> None:
        self.places.made("records")
        with self.places.scratch() as scratch:
            written = scratch / "record"
            written.write_text(json.dumps(look.recorded), "utf-8")
            written.chmod(self.places.file_mode(0o666))
            written.replace(self.record)

    def _recorded(self) -> list[int] | None:
        try:
            looked: list[int] = json.loads(self.record.read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return looked


def _look(path: Path) -> Look:
    status = path.stat()
    return Look(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def _flush(path: Path) -> None:
    """Force a file's bytes, or a folder's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
