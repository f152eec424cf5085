"""
A whole Airflow for tests and demos: ``airflow standalone`` on free ports of 127.0.0.1, driven through its REST API.

Invariants: everything it writes lies below the home it is given; it knows no user and is reached by this machine
only; when the context ends, every process of it is gone, running tasks included (they live in process groups of
their own, but in one session, and a SIGTERM to ``standalone`` would orphan them).

It waits by polling, with a limit everywhere: what takes longer raises :class:`TimeoutError` with the end of the log.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import httpx
import psutil

from airflow_provider_hfreg.testing.servers import ServerProcess, free_ports

_BOOT_TIMEOUT_S = 300.0  # 40 to 90 s on two free cores
_FINISHED = ("success", "failed")
NO_ANSWER = (httpx.NetworkError, httpx.TimeoutException, httpx.RemoteProtocolError, httpx.HTTPStatusError)


class Watched(Protocol):
    """What runs Airflow: waiting for an answer ends when it does."""

    @property
    def is_running(self) -> bool:
        """Whether it lives."""

    def log_tail(self, lines: int = 20) -> str:
        """Return the end of its log, for messages."""


@dataclass
class RunningAirflow:
    """A running Airflow and the way to talk to it."""

    url: str
    process: Watched
    _token: str = field(default="", repr=False)

    def call(self, method: str, path: str, **json: Any) -> Any:
        """
        Ask the REST API.

        :param path: below ``/api/v2/``.
        :param json: the request's body.
        :returns: the answer's JSON.
        """
        response = self._send(method, f"{self.url}/api/v2/{path}", json)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            self._token = self._send("GET", f"{self.url}/auth/token", {}).json()["access_token"]
            response = self._send(method, f"{self.url}/api/v2/{path}", json)
        response.raise_for_status()
        return response.json()

    def _send(self, method: str, url: str, json: Mapping[str, Any]) -> httpx.Response:
        headers = {"Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        return httpx.request(method, url, json=json or None, headers=headers, timeout=60, trust_env=False)

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None, *, timeout_s: float = 120) -> str:
        """
        Start a run as the trigger form does, the DAG unpaused with it, and return its id.

        :param conf: values for the DAG's ``Param``, of their own types.
        :param timeout_s: for the DAG to be parsed for the first time.
        """
        self.wait_until(f"DAG {dag_id} is known", lambda: self.call("GET", f"dags/{dag_id}"), timeout_s=timeout_s)
        run = self.call("POST", f"dags/{dag_id}/dagRuns", logical_date=None, conf=dict(conf or {}))
        self.call("PATCH", f"dags/{dag_id}", is_paused=False)
        return str(run["dag_run_id"])

    def wait(self, dag_id: str, run_id: str, *, timeout_s: float = 600) -> str:
        """Return the state in which a run ends."""
        state: str = self.wait_until(
            f"run {run_id} of {dag_id} has ended",
            lambda: next((end for end in _FINISHED if end == self._run_state(dag_id, run_id)), None),
            timeout_s=timeout_s,
        )
        return state

    def task(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        """Return what is known of a task instance: ``state``, ``try_number``, ``pid`` …"""
        instance: dict[str, Any] = self.call("GET", f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}")
        return instance

    def xcom(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """Return what a task returned."""
        entry = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value?deserialize=true"
        return self.call("GET", entry)["value"]

    def log_events(self, dag_id: str, run_id: str, task_id: str, *, try_number: int = 1) -> list[str]:
        """Return the lines of a task's log, without their times and levels."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}?full_content=true"
        return [line["event"] if isinstance(line, dict) else line for line in self.call("GET", path)["content"]]

    def wait_until(self, what: str, answer: Callable[[], Any], *, timeout_s: float) -> Any:
        """
        Return the first true answer; an API that does not answer yet is no answer.

        :raises TimeoutError: none came.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and self.process.is_running:
            with contextlib.suppress(*NO_ANSWER):
                if given := answer():
                    return given
            time.sleep(0.5)
        raise TimeoutError(f"Waited in vain until {what}. The end of Airflow's log:\n{self.process.log_tail(40)}")

    def _run_state(self, dag_id: str, run_id: str) -> str:
        return str(self.call("GET", f"dags/{dag_id}/dagRuns/{run_id}")["state"])

    def is_healthy(self, parts: Sequence[str] = ("metadatabase", "scheduler", "dag_processor")) -> bool:
        """Return whether these parts say that they are well; an API that does not answer is an error of httpx."""
        health = self.call("GET", "monitor/health")
        return all(health[part]["status"] == "healthy" for part in parts)


@contextlib.contextmanager
def standalone(home: Path, dags_folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[RunningAirflow]:
    """
    Run ``airflow standalone`` and yield it once it is healthy.

    :param home: its ``AIRFLOW_HOME``, created; a second start finds the first one's runs.
    :param dags_folder: the DAGs; each is paused until it is triggered.
    :param environment: added to ours: connections, settings.
    """
    home.mkdir(parents=True, exist_ok=True)
    port, *log_ports = free_ports(3)
    settings = airflow_settings(home, port, log_ports, parallelism=4)  # a forked worker each: the default is 32
    settings |= {"AIRFLOW__CORE__DAGS_FOLDER": str(dags_folder)} | dict(environment or {})
    process = ServerProcess([sys.executable, "-m", "airflow", "standalone"], home / "standalone.log", settings)
    running = RunningAirflow(f"http://127.0.0.1:{port}", process)
    try:
        process.start()
        running.wait_until("Airflow is healthy", running.is_healthy, timeout_s=_BOOT_TIMEOUT_S)
        yield running
    finally:
        _end_session(process)


def airflow_settings(home: Path, port: int, log_ports: Sequence[int], *, parallelism: int) -> dict[str, str]:
    """
    Return the environment of an Airflow on 127.0.0.1 that knows no user.

    :param log_ports: of the servers of tasks' and of triggers' logs.
    :param parallelism: most tasks at a time.
    """
    url = f"http://127.0.0.1:{port}"
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": str(parallelism),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(log_ports[1]),
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(log_ports[0]),
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",  # a task's slot is held that long after its end; never 0
        # `standalone` starts its parts as `airflow`, found on the path.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }


def _end_session(process: ServerProcess) -> None:
    """End every process of it."""
    session = process.pid
    # A process may fork between the look and the kill, so look again until there is none.
    while session is not None and (members := _members(session)):
        for member in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(member, signal.SIGKILL)
        process.kill()


def _members(session: int) -> list[int]:
    """Return the processes of a session that live."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found
