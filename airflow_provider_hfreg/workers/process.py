"""
The processes of a worker: one for each device, in a group that stops together.

A process for one device runs the worker itself. For several, a parent that loads no torch keeps a child for each; see
:mod:`.children`.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Sequence

from celery.signals import worker_shutting_down

from airflow_provider_hfreg.errors import SettingsError
from airflow_provider_hfreg.inference.container import core_count
from airflow_provider_hfreg.workers.app import make_app, serve
from airflow_provider_hfreg.workers.children import Children, end_with_parent
from airflow_provider_hfreg.workers.pools import ExecutorPool
from airflow_provider_hfreg.workers.settings import WorkersSettings
from airflow_provider_hfreg.workers.shard_log import PACKAGE
from airflow_provider_hfreg.workers.worker import ShardWorker

log = logging.getLogger(__name__)


def run_worker(settings: WorkersSettings, pool: ExecutorPool, *, index: int = 0) -> None:
    """
    Run a worker in this process until it is told to stop.

    :param index: of the process on its machine, for its name.
    """
    # Two pools or two processes may share a machine, and a restarted worker is another one.
    place = f"{index}-{os.getpid()}@{socket.gethostname()}"
    name = f"{pool.name}-{place}"
    worker = ShardWorker(settings, pool, name=name)
    # What a task shows of its shards are this package's lines from INFO on, whatever this machine's own log leaves out.
    logging.getLogger(PACKAGE).setLevel(logging.INFO)

    def stop(**_: object) -> None:
        worker.stop()

    worker_shutting_down.connect(stop)
    try:
        log.info("Worker %s of the executor pool %r, queue %s", name, pool.name, pool.queue)
        serve(make_app(settings), worker, pool, place=place)
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
    :raises SettingsError: less than one process, or none of the GPUs that the pool is for.
    """
    if processes is not None and processes < 1:
        raise SettingsError(f"--processes is {processes}; it must be 1 or more. Without it there is one for each GPU.")
    if index is not None:
        end_with_parent()
        run_worker(settings, pool, index=index)
        return
    count = count_devices(pool) if processes is None else processes
    if count == 1:
        run_worker(settings, pool)
        return
    Children([*command, "--index"], count, is_gpu=pool.device == "cuda", cores=core_count()).run()


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
