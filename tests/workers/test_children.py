"""Several worker processes of one machine: kept alive, told to stop, and never left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

import psutil
import pytest

from airflow_provider_hfreg.errors import SettingsError
from airflow_provider_hfreg.testing.servers import ServerProcess
from airflow_provider_hfreg.testing.workers import settings_file
from airflow_provider_hfreg.workers.app import Broker
from airflow_provider_hfreg.workers.children import Children
from airflow_provider_hfreg.workers.settings import parse_settings

_TIMEOUT_S = 180.0

CHILD = """
import os, pathlib, sys, time
seen = f"{os.environ.get('CUDA_VISIBLE_DEVICES', 'all')} {os.environ['OMP_NUM_THREADS']}"
pathlib.Path(sys.argv[1], sys.argv[-1]).write_text(seen)
time.sleep(600)
"""
PARENT = """
import sys
from airflow_provider_hfreg.workers.children import Children
Children([sys.executable, "-c", sys.argv[1], sys.argv[2]], 2, is_gpu=sys.argv[3] == "gpu", cores=int(sys.argv[4])).run()
"""


def wait_for(value, timeout_s=_TIMEOUT_S):
    """Return what ``value()`` gives once it gives something."""
    deadline = time.monotonic() + timeout_s
    while not (found := value()):
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)
    return found


def alive(pids):
    """Those of them that run; one that nobody has waited for yet does not."""
    running = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                running.append(pid)
    return running


class Machine:
    """A parent with two workers of a pool of their own."""

    def __init__(self, plain, folder):
        folder.mkdir(parents=True)
        self.settings = parse_settings(plain)
        (self.pool,) = self.settings.pools.values()
        path = settings_file(plain, folder)
        command = [sys.executable, "-m", "airflow_provider_hfreg.workers", "--settings", str(path), "--processes", "2"]
        self.process = ServerProcess(command, folder / "workers.log", {"OMP_NUM_THREADS": "1"})

    def __enter__(self):
        self.process.start()
        self.workers = wait_for(self.both)
        return self

    def __exit__(self, *_):
        self.process.kill()
        for pid in self.workers.values():  # which are in sessions of their own
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(pid).kill()

    @property
    def parent(self):
        """Above the workers, below the shell that watches over it."""
        return psutil.Process(self.workers[0]).ppid()

    def both(self):
        """The process ids by their number, once two answer."""
        with contextlib.closing(Broker(self.settings, self.pool)) as broker:
            names = [status["worker"].partition("@")[0] for status in broker.statuses(timeout_s=0.5)]
        found = {int(index): int(pid) for _, index, pid in (name.rsplit("-", 2) for name in names)}
        return found if len(found) == 2 else None

    def log_text(self):
        return self.process.log_path.read_text(errors="replace")


@pytest.fixture
def machine(plain_settings, tmp_path):
    pool = f"two-{tmp_path.name}"[:60].rstrip("-_")
    with Machine(plain_settings(pools={pool: {}}, lapse_s=3), tmp_path / "machine") as machine:
        yield machine


def test_two_workers_answer_the_dead_one_comes_again_and_both_stop_when_told(machine):
    assert sorted(machine.workers) == [0, 1]
    first, second = machine.workers[0], machine.workers[1]
    os.kill(second, signal.SIGKILL)
    now = wait_for(lambda: (both := machine.both()) and both[1] != second and both)
    assert now[0] == first
    assert "The worker process 1 ended with -9; another one starts" in machine.log_text()
    machine.workers = now

    os.kill(machine.parent, signal.SIGTERM)

    wait_for(lambda: not alive(now.values()))
    wait_for(lambda: not machine.process.is_running)
    assert machine.log_text().count("stops after the current batch of rows") == 2


def test_workers_whose_parent_is_killed_stop_by_themselves(machine):
    os.kill(machine.parent, signal.SIGKILL)
    wait_for(lambda: not alive(machine.workers.values()), 80.0)  # before they would be killed
    assert machine.log_text().count("stops after the current batch of rows") == 2


@pytest.mark.parametrize(
    ("device", "given", "cores", "seen"),
    [
        ("gpu", {}, 9, ["0 4", "1 4"]),
        ("gpu", {"CUDA_VISIBLE_DEVICES": "3,GPU-8f1e,5"}, 1, ["3 1", "GPU-8f1e 1"]),
        ("cpu", {"CUDA_VISIBLE_DEVICES": "7", "OMP_NUM_THREADS": "6"}, 8, ["7 6", "7 6"]),
    ],
)
def test_each_child_sees_one_gpu_and_its_share_of_the_cores(tmp_path, monkeypatch, device, given, cores, seen):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    command = [sys.executable, "-c", PARENT, CHILD, str(tmp_path), device, str(cores)]
    process = ServerProcess(command, tmp_path / "log", given)
    process.start()
    children = []
    try:
        wait_for(lambda: (tmp_path / "0").exists() and (tmp_path / "1").exists() and (tmp_path / "1").read_text())
        assert [(tmp_path / index).read_text() for index in "01"] == seen
        children = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    finally:
        process.kill()
        for pid in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(pid).kill()


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    with pytest.raises(SettingsError, match="3 processes are asked for, and CUDA_VISIBLE_DEVICES shows 2 GPUs"):
        Children(["true"], 3, is_gpu=True, cores=1)
