"""
The processes of a worker: one for each device, in a group that stops together.

A process for one device runs the worker itself. For several, a parent that loads no torch starts a child for each,
shows it that device alone, starts again what dies, and passes on what it is told (SIGTERM, SIGINT: a graceful stop).
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType

from celery.signals import worker_shutting_down

from airflow_provider_hfreg.errors import SettingsError
from airflow_provider_hfreg.workers.app import make_app, serve
from airflow_provider_hfreg.workers.pools import ExecutorPool
from airflow_provider_hfreg.workers.settings import WorkersSettings
from airflow_provider_hfreg.workers.shard_log import PACKAGE
from airflow_provider_hfreg.workers.worker import ShardWorker

log = logging.getLogger(__name__)

_RESTART_S = (1.0, 60.0)  # before a child that died is started again: the shortest wait, and the longest
_POLL_S = 0.2
_STEADY_S = 120.0  # a child that lived this long begins with the shortest wait again


def run_worker(settings: WorkersSettings, pool: ExecutorPool, *, index: int = 0) -> None:
    """
    Run a worker in this process until it is told to stop.

    :param index: of the process on its machine, for its name.
    """
    # Two pools or two processes may share a machine, and a restarted worker is another one.
    name = f"{pool.name}-{index}-{os.getpid()}@{socket.gethostname()}"
    worker = ShardWorker(settings, pool, name=name)
    # What a task shows of its shards are this package's lines from INFO on, whatever this machine's own log leaves out.
    logging.getLogger(PACKAGE).setLevel(logging.INFO)

    def stop(**_: object) -> None:
        worker.stop()

    worker_shutting_down.connect(stop)
    try:
        log.info("Worker %s of the executor pool %r, queue %s", name, pool.name, pool.queue)
        serve(make_app(settings), worker, pool, hostname=f"hfreg-{name}")
    finally:
        worker_shutting_down.disconnect(stop)


def run_processes(
    settings: WorkersSettings, pool: ExecutorPool, *, command: Sequence[str], processes: int | None, index: int | None
) -> None:
    """
    Run a machine's workers until they are told to stop: in this process, or in a child for each device.

    :param command: starts a child; ``--index`` and its number are appended.
    :param processes: None: one for each GPU, else one.
    :param index: of this process, where it is such a child.
    """
    if index is not None:
        run_worker(settings, pool, index=index)
        return
    count = processes or count_devices(pool)
    if count == 1:
        run_worker(settings, pool)
        return
    Children([*command, "--index"], count, is_gpu=pool.device == "cuda").run()


def count_devices(pool: ExecutorPool) -> int:
    """
    Return how many processes a machine of the pool runs: one for each GPU, else one.

    Asked of a short-lived child: a parent that has initialised CUDA could not fork, and would hold memory on a GPU.

    :raises SettingsError: the pool is one of GPUs, and there is none here.
    """
    if pool.device == "cpu":
        return 1
    answer = subprocess.run(
        [sys.executable, "-c", "import torch; print(torch.cuda.device_count())"],
        capture_output=True,
        text=True,
        check=False,
    )
    count = int(answer.stdout) if answer.returncode == 0 and answer.stdout.strip().isdigit() else 0
    if not count:
        raise SettingsError(
            f"The executor pool {pool.name!r} has device 'cuda', and torch sees no GPU on this machine"
            f"{': ' + answer.stderr.strip().splitlines()[-1] if answer.stderr.strip() else ''}. Check the driver with "
            "nvidia-smi, and that torch was installed with CUDA."
        )
    return count


class Children:
    """
    One child process for each device.

    :param command: of a child; its index is appended.
    :param is_gpu: show each child one GPU alone.
    :raises SettingsError: there are fewer GPUs than children.
    """

    def __init__(self, command: Sequence[str], count: int, *, is_gpu: bool) -> None:
        self._command, self._is_gpu = list(command), is_gpu
        visible = [device for device in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if device]
        self._devices = visible or [str(index) for index in range(count)]
        if is_gpu and count > len(self._devices):
            raise SettingsError(f"{count} processes are asked for, and CUDA_VISIBLE_DEVICES shows {len(visible)} GPUs.")
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._began_s: dict[int, float] = {}
        self._due_s = dict.fromkeys(range(count), 0.0)  # when a child that is not there is to start
        self._wait_s = dict.fromkeys(range(count), _RESTART_S[0])
        self._told: signal.Signals | None = None
        self._stopped: set[int] = set()

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
            self._plan_restart(index, child.returncode)
        elif self._told is not None and index not in self._stopped:
            self._stopped.add(index)
            child.send_signal(self._told)

    def _start(self, index: int) -> None:
        shown = {"CUDA_VISIBLE_DEVICES": self._devices[index]} if self._is_gpu else {}
        self._began_s[index] = time.monotonic()
        self._children[index] = subprocess.Popen(
            [*self._command, str(index)], env=os.environ | shown, start_new_session=True
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
