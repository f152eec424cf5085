"""
A machine's worker processes, kept by a parent that loads no torch: a child for each device, which sees that one alone.

- What dies is started again, after a second, and after ever longer while it keeps dying.
- What the parent is told (SIGTERM, SIGINT: a graceful stop) it passes on, as often as it is told, and ends after the
  last child.
- A child outlives its parent by no more than a graceful stop: its standard input is a pipe that only the parent holds
  open, so that its end tells of a parent that is gone, however it went. Without that a kill -9 of the parent would
  leave workers that take shards, hold their GPUs, and that nobody stops.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType

from airflow_provider_hfreg.errors import SettingsError

log = logging.getLogger(__name__)

_RESTART_S = (1.0, 60.0)  # before a child that died is started again: the shortest wait, and the longest
_POLL_S = 0.2
_STEADY_S = 120.0  # a child that lived this long begins with the shortest wait again
_GRACE_S = 90.0  # of a child whose parent is gone: longer than a graceful stop takes


class Children:
    """
    One child process for each device.

    :param command: of a child; its index is appended.
    :param is_gpu: show each child one GPU alone.
    :param cores: that they share: each computes on its part, unless ``OMP_NUM_THREADS`` says on how many.
    :raises SettingsError: there are fewer GPUs than children.
    """

    def __init__(self, command: Sequence[str], count: int, *, is_gpu: bool, cores: int) -> None:
        self._command, self._is_gpu = list(command), is_gpu
        self._environment = {"OMP_NUM_THREADS": str(max(1, cores // count))} | os.environ
        visible = [device for device in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if device]
        self._devices = visible or [str(index) for index in range(count)]
        if is_gpu and count > len(self._devices):
            raise SettingsError(f"{count} processes are asked for, and CUDA_VISIBLE_DEVICES shows {len(visible)} GPUs.")
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._began_s: dict[int, float] = {}
        self._due_s = dict.fromkeys(range(count), 0.0)  # when a child that is not there is to start
        self._wait_s = dict.fromkeys(range(count), _RESTART_S[0])
        self._told: signal.Signals | None = None
        self._passed_on: set[int] = set()

    def run(self) -> None:
        """Keep the children alive until this process is told to stop and the last one has ended."""
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, self._stop)
        while self._told is None or self._children:
            for index in self._due_s:
                self._attend(index)
            time.sleep(_POLL_S)

    def _attend(self, index: int) -> None:
        """Start, tell or bury one child, whatever is due."""
        child = self._children.get(index)
        if child is None:
            if self._told is None and time.monotonic() >= self._due_s[index]:
                self._start(index)
        elif child.poll() is not None:
            del self._children[index]
            if child.stdin is not None:
                child.stdin.close()
            self._plan_restart(index, child.returncode)
        elif self._told is not None and index not in self._passed_on:
            self._passed_on.add(index)
            child.send_signal(self._told)

    def _start(self, index: int) -> None:
        shown = {"CUDA_VISIBLE_DEVICES": self._devices[index]} if self._is_gpu else {}
        self._began_s[index] = time.monotonic()
        self._children[index] = subprocess.Popen(
            [*self._command, str(index)], env=self._environment | shown, start_new_session=True, stdin=subprocess.PIPE
        )

    def _plan_restart(self, index: int, status: int) -> None:
        if self._told is not None:
            return
        now_s = time.monotonic()
        if now_s - self._began_s[index] > _STEADY_S:
            self._wait_s[index] = _RESTART_S[0]
        wait_s = self._wait_s[index]
        log.error("The worker process %d ended with %d; another one starts in %.0f s.", index, status, wait_s)
        self._due_s[index], self._wait_s[index] = now_s + wait_s, min(_RESTART_S[1], 2 * wait_s)

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        self._told = signal.Signals(number)
        self._passed_on.clear()


def end_with_parent() -> None:
    """In a child: stop in order when the parent is gone, and at last without order."""
    threading.Thread(target=_watch_parent, name="hfreg-parent", daemon=True).start()


def _watch_parent() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    log.error("The process that started this worker is gone: it stops.")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_S)
    os.kill(os.getpid(), signal.SIGKILL)
