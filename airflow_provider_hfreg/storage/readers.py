"""
A seekable stream over ranged reads, with read-ahead that adapts to how it is read.

Reading forward doubles what is fetched beyond the asked, up to 8 MiB, so that a CSV file costs few requests; a jump
starts again at 64 KiB, so that a Parquet file costs little more than its columns. Invariant: a read is short only at
the end. Not thread-safe, as no Python stream is.
"""

from __future__ import annotations

import io
from collections.abc import Callable

_LEAST_AHEAD_BYTES = 64 << 10
_MOST_AHEAD_BYTES = 8 << 20


class RangedReader(io.RawIOBase):
    """
    Raw stream; wrap it in :class:`io.BufferedReader`.

    >>> io.BufferedReader(RangedReader(lambda start, length: b"0123456789"[start:start + length], 10)).read(4)
    b'0123'

    :param read_range: returns ``length`` bytes from ``start``; fewer only at the end.
    :param size_bytes: of the whole.
    """

    def __init__(self, read_range: Callable[[int, int], bytes], size_bytes: int) -> None:
        super().__init__()
        self._read_range = read_range
        self._size_bytes = size_bytes
        self._position = 0
        self._held = b""
        self._held_start = 0
        self._ahead_bytes = _LEAST_AHEAD_BYTES

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; asks nothing of the store."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size_bytes}[whence]
        if origin + offset < 0:
            raise ValueError(f"seek to {origin + offset}: before the start")
        self._position = origin + offset
        return self._position

    def tell(self) -> int:
        """The position, in bytes from the start."""
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill ``buffer`` from the position on; short only at the end."""
        wanted = min(len(buffer), self._size_bytes - self._position)
        if wanted <= 0:
            return 0
        held = self._position - self._held_start
        if not 0 <= held <= len(self._held) - wanted:
            self._fetch(wanted)
            held = 0
        found = memoryview(self._held)[held : held + wanted]
        buffer[: len(found)] = found
        self._position += len(found)
        return len(found)

    def _fetch(self, wanted: int) -> None:
        """Hold ``wanted`` bytes from the position, and some ahead."""
        forward = self._held_start <= self._position <= self._held_start + len(self._held) and self._held
        self._ahead_bytes = min(2 * self._ahead_bytes, _MOST_AHEAD_BYTES) if forward else _LEAST_AHEAD_BYTES
        length = min(wanted + self._ahead_bytes, self._size_bytes - self._position)
        self._held = self._read_range(self._position, length)
        self._held_start = self._position
