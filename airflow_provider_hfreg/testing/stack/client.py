"""A stack from outside: start it, end it, find it, and kill parts of it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from airflow_provider_hfreg.errors import StackError
from airflow_provider_hfreg.storage.settings import S3Settings
from airflow_provider_hfreg.testing.airflow import RunningAirflow
from airflow_provider_hfreg.testing.stack.processes import KEEP_ENVIRONMENT, MARK, end_all, find_birth, members
from airflow_provider_hfreg.testing.stack.state import Phase, StackFolder, StackState

Say = Callable[[str], None]

_STOP_TIMEOUT_S = 90.0  # longer than the supervisor gives its parts
_POLL_S = 0.2


@dataclass(frozen=True)
class RunningStack:
    """
    A stack that is up.

    :param path: its folder.
    """

    path: Path

    @property
    def folder(self) -> StackFolder:
        """Where everything lies."""
        return StackFolder(self.path)

    @property
    def state(self) -> StackState:
        """
        What its supervisor told last.

        :raises StackError: there is none.
        """
        state = self.folder.find_state()
        if state is None:
            raise StackError(f"No stack runs in {self.path}. Start one: `make stack`.")
        return state

    @property
    def is_running(self) -> bool:
        """Whether its supervisor lives."""
        state = self.folder.find_state()
        return state is not None and state.supervisor.is_alive

    def is_ready(self) -> bool:
        """Whether all of it is up."""
        return self.is_running and self.state.phase is Phase.READY

    def log_tail(self, lines: int = 20) -> str:
        """Return the end of the supervisor's log, for messages."""
        return "\n".join(self.folder.log_path.read_text(errors="replace").splitlines()[-lines:])

    def airflow(self) -> RunningAirflow:
        """Return its Airflow, to be driven through the REST API."""
        return RunningAirflow(self.state.ui_url, self)

    def s3_settings(self) -> S3Settings:
        """Return how its S3 is reached."""
        connection = json.loads(self.state.environment["AIRFLOW_CONN_HFREG_DEFAULT"])
        return S3Settings(
            endpoint_url=connection["extra"]["endpoint_url"],
            region_name=connection["extra"]["region_name"],
            access_key_id=connection["login"],
            secret_access_key=connection["password"],
        )

    def kill(self, part: str, *, away_s: float = 0.0) -> None:
        """
        Kill a part with -9; the supervisor starts it again.

        :param away_s: not before that time has passed.
        :raises StackError: there is no such part, or it does not run.
        """
        parts = self.state.parts
        if part not in parts:
            raise StackError(f"The stack has no part {part!r}; it has {', '.join(parts)}.")
        if not parts[part].is_alive:
            raise StackError(f"{part} does not run just now.")
        self.folder.hold(part).write_text(str(time.time() + away_s))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(parts[part].pid, signal.SIGKILL)

    def owns(self, pid: int) -> bool:
        """Return whether a process is one of the stack's."""
        return find_birth(pid) is not None and pid in members(self.state.mark)


def up(path: Path, dags: Sequence[Path], say: Say) -> RunningStack:
    """
    Start a stack, or find it up, and wait until all of it answers.

    :param path: its folder; created.
    :param dags: folders of DAGs; of no meaning where it is up already.
    :param say: gets every line of its supervisor's.
    :raises StackError: it did not start; ``say`` was told why.
    """
    path = path.resolve()
    path.mkdir(parents=True, exist_ok=True)
    stack = RunningStack(path)
    if stack.is_ready():
        say("The stack is up already.")
        return stack
    offset = stack.folder.log_path.stat().st_size if stack.folder.log_path.exists() else 0
    process = None
    if not stack.is_running:
        _sweep(stack.folder, say)
        process = _start_supervisor(stack.folder, [folder.resolve() for folder in dags])
    told = _Lines(stack.folder.log_path, offset)
    while not stack.is_ready():
        # A process that was started just now has told of itself only after its imports.
        alive = stack.is_running if process is None else process.poll() is None
        told.tell(say)
        if not alive:
            raise StackError(f"The stack did not start; all that was said is in {stack.folder.log_path}.")
        time.sleep(_POLL_S)
    told.tell(say)
    return stack


def down(path: Path, say: Say) -> None:
    """
    End a stack and everything that was left of one; does nothing where there is none.

    :raises StackError: a process of it does not end.
    """
    stack = RunningStack(path.resolve())
    state = stack.folder.find_state()
    if state is None:
        say("No stack is up.")
        return
    if state.supervisor.is_alive:
        told = _Lines(stack.folder.log_path, stack.folder.log_path.stat().st_size)
        os.kill(state.supervisor.pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        while state.supervisor.is_alive and time.monotonic() < deadline:
            told.tell(say)
            time.sleep(_POLL_S)
        told.tell(say)
    else:
        say("Its supervisor was gone.")
    _sweep(stack.folder, say, state)


def _sweep(folder: StackFolder, say: Say, state: StackState | None = None) -> None:
    """End what a supervisor that is gone left behind."""
    state = state or folder.find_state()
    if state is None:
        return
    if left := members(state.mark):
        say(f"Ending {len(left)} processes that were left.")
    if left := end_all(state.mark):
        raise StackError(f"These processes of the stack do not end: {sorted(left)}.")
    folder.forget_state()


def _start_supervisor(folder: StackFolder, dags: Sequence[Path]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "airflow_provider_hfreg.testing.stack", "serve", str(folder.path)]
    given = [word for path in dags for word in ("--dags", str(path))]
    with folder.log_path.open("ab") as log:
        return subprocess.Popen(
            [*command, *given],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_own_environment(os.environ) | KEEP_ENVIRONMENT | {MARK: secrets.token_hex(16)},
            start_new_session=True,
        )


def _own_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """
    Return an environment without what would configure another Airflow.

    >>> _own_environment({"AIRFLOW_HOME": "/srv", "HFREG_CACHE": "/c", "PATH": "/bin"})
    {'PATH': '/bin'}
    """
    return {name: value for name, value in environment.items() if not name.startswith(("AIRFLOW", "HFREG"))}


class _Lines:
    """The lines of a growing file, each told once."""

    def __init__(self, path: Path, offset: int) -> None:
        self._path, self._offset = path, offset
        self._begun = b""  # a line whose end is not written yet

    def tell(self, say: Say) -> None:
        """Tell the lines that came since the last time."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            added = file.read()
        *lines, self._begun = (self._begun + added).split(b"\n")
        self._offset += len(added)
        for line in lines:
            say(line.decode(errors="replace"))
