"""
One blob on the disk, and its record: how the file looked when it was verified.

What an ordinary write to a file changes is compared at the first use in a process; the content only where that differs,
or where it is asked for. The time of the record's own change is the entry's last use.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from airflow_provider_hfreg.versions.blobs import hash_file
from airflow_provider_hfreg.versions.cache.places import Places


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

    def has_size(self, size_bytes: int) -> bool:
        """Tell whether it is there and of that size."""
        try:
            return self.path.stat().st_size == size_bytes
        except OSError:
            return False

    def is_intact(self, digest: str, size_bytes: int, *, verify: bool) -> bool:
        """
        Tell whether it is what it was when it was verified.

        :param verify: read it, whatever the record says.
        """
        if not self.has_size(size_bytes):
            return False
        if not verify and _look(self.path) == self._recorded():
            return True
        if hash_file(self.path) != digest:
            return False
        self.write_record()
        return True

    def place(self, partial: Path) -> None:
        """Put a verified file in place, durably. Its name appears last, so a kill leaves it or nothing."""
        partial.chmod(self.places.file_mode(0o444))
        _flush(partial)
        folder = self.places.made("sha256")
        partial.replace(self.path)
        _flush(folder)
        self.write_record()

    def write_record(self) -> None:
        """Note how it looks now."""
        self.places.made("records")
        with self.places.scratch() as scratch:
            written = scratch / "record"
            written.write_text(json.dumps(_look(self.path)), "utf-8")
            written.chmod(self.places.file_mode(0o666))
            written.replace(self.record)

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

    def _recorded(self) -> list[int] | None:
        try:
            looked: list[int] = json.loads(self.record.read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return looked


def _look(path: Path) -> list[int]:
    """What an ordinary write to a file changes. The time of inode change cannot be set back by a program."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _flush(path: Path) -> None:
    """Force a file's bytes, or a folder's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
