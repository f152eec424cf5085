"""
Memory that a process is done with, given back to the system.

glibc's malloc keeps what is freed below something that is still used. A network leaves such things behind (oneDNN keeps
a primitive for each shape that it has seen), between the large buffers of window after window: after a million rows a
process held twice what it used, and went on growing. ``malloc_trim(3)`` gives the free pages back, in milliseconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import time

_EVERY_S = 5.0

_given_back_s = -_EVERY_S


def give_back() -> None:
    """Give back what is free, every five seconds at most; does nothing where the system's malloc has no such call."""
    global _given_back_s  # noqa: PLW0603 - of a process, as its heap is
    if time.monotonic() - _given_back_s < _EVERY_S:
        return
    _given_back_s = time.monotonic()
    with contextlib.suppress(AttributeError, OSError, TypeError):  # TypeError: CDLL(None) on Windows
        ctypes.CDLL(None).malloc_trim(0)
