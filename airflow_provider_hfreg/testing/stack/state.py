"""
What is known of a stack, in files below its folder: the supervisor writes, everybody else reads.

.. code-block:: text

    state.json         who runs it, since when, and how it is reached
    environment.sh     for a shell: Airflow's own commands then speak to the stack
    stack.log          what the supervisor said: starts, ends, restarts
    logs/<part>.log    each part's own log
    hold/<part>        the time until which a part that was killed is not started again
    secrets/<name>     keys and passwords, made once
    airflow/           AIRFLOW_HOME; the tasks' logs lie in airflow/logs
    postgres/ redis/ seaweedfs/ cache/

Files with secrets are readable by their owner alone.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from airflow_provider_hfreg.testing.stack.processes import Birth


class Phase(StrEnum):
    """Where a stack is in its life."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"


@dataclass(frozen=True)
class StackState:
    """
    What the supervisor tells.

    :param mark: in the environment of every process of the stack.
    :param parts: the leader of each part's process group.
    :param environment: for commands that speak to the stack.
    """

    mark: str
    supervisor: Birth
    phase: Phase = Phase.STARTING
    ui_url: str = ""
    s3_endpoint_url: str = ""
    bucket_url: str = ""
    parts: Mapping[str, Birth] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    def with_part(self, name: str, birth: Birth) -> StackState:
        """Return it with a part that was just started."""
        return replace(self, parts={**self.parts, name: birth})

    def to_json(self) -> str:
        """
        Return it as JSON.

        >>> state = StackState("m", Birth(1, 2, "b"), parts={"redis": Birth(3, 4, "b")})
        >>> StackState.from_json(state.to_json()) == state
        True
        """
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> StackState:
        """Rebuild what :meth:`to_json` gave."""
        plain: dict[str, Any] = json.loads(text)
        parts = {name: Birth(**birth) for name, birth in plain["parts"].items()}
        changed = {"supervisor": Birth(**plain["supervisor"]), "phase": Phase(plain["phase"]), "parts": parts}
        return cls(**plain | changed)


@dataclass(frozen=True)
class StackFolder:
    """Where everything of a stack lies."""

    path: Path

    @property
    def log_path(self) -> Path:
        """What the supervisor says."""
        return self.path / "stack.log"

    @property
    def airflow_home(self) -> Path:
        """Airflow's own folder."""
        return self.path / "airflow"

    def part_log(self, name: str) -> Path:
        """Return where a part's log lies."""
        return self.path / "logs" / f"{name}.log"

    def hold(self, name: str) -> Path:
        """Return the file that holds a part back."""
        return self.path / "hold" / name

    def find_state(self) -> StackState | None:
        """Return what the supervisor told last; None where a stack was never started, or was ended in order."""
        try:
            return StackState.from_json((self.path / "state.json").read_text())
        except FileNotFoundError:
            return None

    def write_state(self, state: StackState) -> None:
        """Write the state, whole or not at all."""
        _write_private(self.path / "state.json", state.to_json())

    def forget_state(self) -> None:
        """Say that nothing of the stack runs."""
        (self.path / "state.json").unlink(missing_ok=True)
        (self.path / "environment.sh").unlink(missing_ok=True)

    def write_environment(self, environment: Mapping[str, str]) -> None:
        """Write what a shell reads before Airflow's commands."""
        _write_private(self.path / "environment.sh", shell_exports(environment))

    def secret(self, name: str, make: Any = lambda: secrets.token_hex(32)) -> str:
        """Return a key of the stack, the same at every start."""
        path = self.path / "secrets" / name
        if not path.exists():
            path.parent.mkdir(mode=0o700, exist_ok=True)
            _write_private(path, make())
        return path.read_text()


def shell_exports(environment: Mapping[str, str]) -> str:
    r"""
    Return lines for a shell.

    >>> shell_exports({"A": "it's", "B": "2"})
    'export A=\'it\'"\'"\'s\'\nexport B=2\n'
    """
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())


def _write_private(path: Path, text: str) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.unlink(missing_ok=True)
    unfinished.touch(mode=0o600)
    unfinished.write_text(text)
    unfinished.replace(path)
