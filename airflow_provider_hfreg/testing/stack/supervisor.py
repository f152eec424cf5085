"""
The process that a stack's other processes live in: it starts them in order, starts again what ends, ends them in order.

Invariants: it is the leader of a session of its own and outlives whoever started it. One supervisor a folder, by a lock
that ends with it. Its parts are :class:`~airflow_provider_hfreg.testing.servers.ServerProcess`: when it is killed with
-9 they die too, but for tasks of Airflow, which live in groups of their own; ``down`` finds those by their mark.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

import filelock
import httpx
from cryptography.fernet import Fernet

from airflow_provider_hfreg.errors import HfregError, StackError
from airflow_provider_hfreg.testing.airflow import RunningAirflow
from airflow_provider_hfreg.testing.postgres import postgres_server
from airflow_provider_hfreg.testing.servers import S3Server, ServerProcess, free_ports, seaweedfs
from airflow_provider_hfreg.testing.stack import parts
from airflow_provider_hfreg.testing.stack.processes import KEEP_ENVIRONMENT, MARK, end_all, find_birth, with_descendants
from airflow_provider_hfreg.testing.stack.roll_call import count_workers
from airflow_provider_hfreg.testing.stack.state import Phase, StackFolder, StackState
from airflow_provider_hfreg.testing.workers import redis_server

_READY_TIMEOUT_S = 600.0  # a minute on two free cores; a machine that is busy takes several
_SAY_S = 10.0
_POLL_S = 0.5
_RESTART_S = 3.0  # between two starts of a part
_STOP_TIMEOUT_S = 20.0
_AIRFLOW = ("metadatabase", "scheduler", "dag_processor", "triggerer")


class Supervisor:
    """
    Runs a stack in this process.

    :param folder: where it lies; there.
    :param dags: folders of DAGs.
    :param mark: as this process itself carries it in its environment.
    """

    def __init__(self, folder: StackFolder, dags: Sequence[Path], mark: str) -> None:
        birth = find_birth(os.getpid())
        assert birth is not None
        self._folder, self._dags = folder, dags
        self._state = StackState(mark, birth)
        self._parts: dict[str, ServerProcess] = {}
        self._started_s: dict[str, float] = {}
        self._began_s = time.monotonic()

    def run(self) -> None:
        """
        Start everything, and keep it running until this process is told to stop (SIGTERM, SIGINT).

        :raises StackError: another supervisor has this folder, or a part does not start.
        """
        try:
            lock = filelock.FileLock(self._folder.path / "lock")
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise StackError(f"Another stack runs in {self._folder.path}.") from None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _stop)
        with lock, contextlib.ExitStack() as servers:
            servers.callback(self._forget)
            self._folder.write_state(self._state)
            try:
                self._start(servers)
                self._tell(phase=Phase.READY)
                self._say("All is up.")
                while True:
                    self._attend()
                    time.sleep(_POLL_S)
            finally:
                self._tell(phase=Phase.STOPPING)
                self._end_parts()

    # --- starting

    def _start(self, servers: contextlib.ExitStack) -> None:
        path = self._folder.path
        _make_room(path)
        self._say(f"Everything lies in {path}.")
        postgres = servers.enter_context(postgres_server(path / "postgres"))
        postgres.create_database("airflow")
        self._watch("postgres", postgres.process)
        redis = servers.enter_context(redis_server(path / "redis"))
        self._watch("redis", redis.process)
        s3 = servers.enter_context(seaweedfs(path / "seaweedfs"))
        bucket_url = s3.create_bucket(parts.BUCKET)
        self._watch("seaweedfs", s3.process)

        url = urlsplit(redis.url)
        places = parts.Places(postgres.url("airflow"), f"redis://{url.netloc}", _connection(s3, bucket_url))
        api, *log_ports = free_ports(3)
        environment = parts.environment(path, self._dags, (api, *log_ports), places, self._keys())
        ui_url = environment["AIRFLOW__API__BASE_URL"]
        self._tell(environment=environment, ui_url=ui_url, s3_endpoint_url=s3.endpoint_url, bucket_url=bucket_url)
        self._folder.write_environment(environment)

        self._run("Airflow's database is set up", "db", "migrate")
        for name, command in parts.airflow_commands().items():
            self._launch(name, command)
        for name in parts.WORKERS:
            self._launch(name, parts.worker_command())
        exported = path / "pools.json"
        exported.write_text(self._run("the Airflow pool of the executor pool is exported", "hfreg", "pools", "export"))
        self._run("and imported", "pools", "import", str(exported))
        airflow = RunningAirflow(ui_url, self._parts["api-server"])
        self._wait("Airflow", lambda: airflow.is_healthy(_AIRFLOW), "scheduler", "dag-processor", "triggerer")
        self._wait("Airflow's worker", self._is_airflow_worker_ready, parts.AIRFLOW_WORKER)
        self._wait("the resident workers", lambda: count_workers(environment) >= len(parts.WORKERS), *parts.WORKERS)
        self._run("`airflow hfreg doctor` finds all well", "hfreg", "doctor")

    def _keys(self) -> parts.Keys:
        return parts.Keys(
            messages=self._folder.secret("messages"),
            tokens=self._folder.secret("tokens"),
            sessions=self._folder.secret("sessions"),
            connections=self._folder.secret("connections", lambda: Fernet.generate_key().decode()),
        )

    def _launch(self, name: str, command: list[str]) -> None:
        process = ServerProcess(command, self._folder.part_log(name), self._state.environment)
        process.start()
        self._watch(name, process)

    def _watch(self, name: str, process: ServerProcess) -> None:
        self._parts[name] = process
        self._note_start(name)
        self._say(f"{name} is started")

    def _note_start(self, name: str) -> None:
        self._started_s[name] = time.monotonic()
        pid = self._parts[name].pid
        birth = None if pid is None else find_birth(pid)
        if birth is not None:
            self._state = self._state.with_part(name, birth)
            self._folder.write_state(self._state)

    def _run(self, what: str, *words: str) -> str:
        """Run one of Airflow's commands to its end, and return what it wrote."""
        path = self._folder.part_log("commands")
        command = parts.airflow_command(*words)
        environment = os.environ | self._state.environment
        with path.open("ab") as log:
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=log, check=False)
            log.write(done.stdout)
        if done.returncode:
            raise StackError(f"`airflow {' '.join(words)}` failed. The end of {path}:\n{_tail(path)}")
        self._say(what)
        return done.stdout.decode()

    def _wait(self, what: str, answers: Callable[[], bool], *needed: str) -> None:
        """
        Return once something answers.

        :raises StackError: it does not in time, or a part that it needs ended.
        """
        began_s = said_s = time.monotonic()
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if answers():
                    self._say(f"{what}: there")
                    return
            now_s = time.monotonic()
            for name in needed:
                if not self._parts[name].is_running or now_s - began_s > _READY_TIMEOUT_S:
                    raise StackError(
                        f"Waited for {what} in vain: {name} {self._condition(name)}. The end of its log, "
                        f"{self._parts[name].log_path}:\n{self._parts[name].log_tail(30)}"
                    )
            if now_s - said_s >= _SAY_S:
                said_s = now_s
                self._say(f"waiting for {what}, {now_s - began_s:.0f} s so far")
            time.sleep(_POLL_S)

    def _condition(self, name: str) -> str:
        return f"gave no answer in {_READY_TIMEOUT_S:.0f} s" if self._parts[name].is_running else "has ended"

    def _is_airflow_worker_ready(self) -> bool:
        # Celery's own word once it listens to the queue; to ask it over the broker takes a process with Airflow in it.
        return " ready." in self._parts[parts.AIRFLOW_WORKER].log_path.read_text(errors="replace")

    # --- running

    def _attend(self) -> None:
        """Start again what has ended, unless it is held back."""
        for name, process in self._parts.items():
            if process.is_running or self._is_held(name) or time.monotonic() - self._started_s[name] < _RESTART_S:
                continue
            self._say(f"{name} has ended and is started again")
            process.kill()
            process.start()
            self._note_start(name)

    def _is_held(self, name: str) -> bool:
        hold = self._folder.hold(name)
        try:
            until = float(hold.read_text() or 0)
        except FileNotFoundError:
            return False
        if time.time() < until:
            return True
        hold.unlink(missing_ok=True)
        return False

    # --- ending

    def _end_parts(self) -> None:
        """Ask what is ours to end by itself, and end it then; the servers go with their contexts, after it."""
        asked = [name for name in self._parts if name not in ("postgres", "redis", "seaweedfs")]
        self._say("stopping")
        for name in asked:
            self._parts[name].send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        while any(self._parts[name].is_running for name in asked) and time.monotonic() < deadline:
            time.sleep(0.1)
        for name in asked:
            self._parts[name].kill()
        leaders = [process.pid for name, process in self._parts.items() if name not in asked]
        servers = {pid for pid in leaders if pid is not None}
        end_all(self._state.mark, spare={os.getpid(), *with_descendants(servers)})

    def _forget(self) -> None:
        self._folder.forget_state()
        self._say("All is down.")

    # --- telling

    def _tell(self, **changes: object) -> None:
        self._state = replace(self._state, **changes)  # type: ignore[arg-type]
        self._folder.write_state(self._state)

    def _say(self, text: str) -> None:
        print(f"{time.monotonic() - self._began_s:5.0f} s  {text}", flush=True)  # noqa: T201 - its log


def serve(path: Path, dags: Sequence[Path]) -> int:
    """Run a stack until it is told to stop, and return the status to exit with."""
    os.environ |= KEEP_ENVIRONMENT
    try:
        Supervisor(StackFolder(path), dags, os.environ[MARK]).run()
    except HfregError as error:
        print(f"The stack did not start: {error}", flush=True)  # noqa: T201
        return 1
    return 0


def _stop(_number: int, _frame: FrameType | None) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # the first is enough: a second would break off the ending
    sys.exit(0)


def _make_room(path: Path) -> None:
    """Make the folders, and put the logs of an earlier stack aside."""
    logs, previous = path / "logs", path / "logs.previous"
    if logs.exists():
        shutil.rmtree(previous, ignore_errors=True)
        logs.rename(previous)
    for folder in (logs, path / "hold", path / "airflow"):
        folder.mkdir(exist_ok=True)
    for hold in (path / "hold").iterdir():
        hold.unlink()


def _connection(s3: S3Server, bucket_url: str) -> dict[str, object]:
    """Return the registry's connection as Airflow reads it from its environment."""
    return {
        "conn_type": "hfreg",
        "host": f"{bucket_url}/registry",
        "login": s3.access_key,
        "password": s3.secret_key,
        "extra": {"endpoint_url": s3.endpoint_url, "region_name": "us-east-1"},
    }


def _tail(path: Path, lines: int = 30) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
