"""
Which processes belong to a stack, and their end.

Every process that a stack starts inherits a mark in its environment, which nobody else's has. So they are found
whatever title they gave themselves, whatever session they moved to, and whoever their parent is by now; and a process
that was given the pid of one that ended is left alone. Servers that overwrite their environment with a title
(PostgreSQL, Redis) are found as children of the shell that watches over them, and die with it.

Linux only, as ``/proc`` is.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import psutil

MARK = "HFREG_STACK"

KEEP_ENVIRONMENT = {"SPT_NOENV": "1"}
"""For setproctitle, by which Airflow and Celery name their processes: without it a title is written over the mark."""

_PROC = Path("/proc")


@dataclass(frozen=True)
class Birth:
    """
    A process, told from a later one that was given the same pid.

    :param born: clock ticks between the machine's start and the process's.
    :param boot: the machine's start, by the kernel's own id.
    """

    pid: int
    born: int
    boot: str

    @property
    def is_alive(self) -> bool:
        """Whether this very process runs."""
        return find_birth(self.pid) == self


def find_birth(pid: int) -> Birth | None:
    """Return the process that has a pid now; None if there is none, or it has ended and only waits to be buried."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    state, born = state_and_start(stat)
    return None if state in "ZX" else Birth(pid, born, boot)


def state_and_start(stat: str) -> tuple[str, int]:
    """
    Return a process's state and the ticks at its start, from its line in ``/proc``.

    >>> state_and_start("7 (a) b) S 1 7 7 0 -1 4194560 9 0 0 0 1 2 0 0 20 0 1 0 4711 8192 1")
    ('S', 4711)
    """
    fields = stat.rpartition(")")[2].split()  # a program's name may hold blanks and brackets
    return fields[0], int(fields[19])


def members(mark: str) -> set[int]:
    """Return the living processes that carry a mark, and their descendants."""
    carriers = {process.pid for process in psutil.process_iter() if _carries(process.pid, mark)}
    return {pid for pid in with_descendants(carriers) if find_birth(pid) is not None}


def with_descendants(pids: Collection[int]) -> set[int]:
    """Return processes and all that descends from them."""
    found = set(pids)
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            found |= {child.pid for child in psutil.Process(pid).children(recursive=True)}
    return found


def end_all(mark: str, *, spare: Collection[int] = (), timeout_s: float = 30.0) -> set[int]:
    """
    Kill every process that carries a mark, and return those that are left nevertheless.

    :param spare: pids that live on.
    """
    deadline = time.monotonic() + timeout_s
    # A process may fork between the look and the kill, so look again until there is none.
    while (left := members(mark) - set(spare)) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
    return left


def _carries(pid: int, mark: str) -> bool:
    try:
        environment = (_PROC / str(pid) / "environ").read_bytes()
    except OSError:  # gone, or another user's
        return False
    return f"{MARK}={mark}".encode() in environment.split(b"\0")
