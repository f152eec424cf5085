"""Servers for tests: what they store survives a kill, and they survive nobody."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from airflow_provider_hfreg.errors import StorageUnavailableError
from airflow_provider_hfreg.storage.s3 import S3Store
from airflow_provider_hfreg.testing.servers import ServerProcess, free_ports, seaweedfs

_ORPHAN_MAKER = """
import sys, pathlib
from airflow_provider_hfreg.testing.servers import ServerProcess
process = ServerProcess(["sh", "-c", "echo $$; exec sleep 600"], pathlib.Path(sys.argv[1]))
process.start()
print("started", flush=True)
sys.stdin.read()
"""


def _lives(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _is_zombie(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return False


def test_what_a_server_acknowledged_survives_its_kill(tmp_path):
    with seaweedfs(tmp_path) as server:
        store = S3Store(server.create_bucket("models"), server.settings(max_attempts=1))
        store.put("key", b"content" * 10_000)
        server.kill()
        with pytest.raises(StorageUnavailableError):
            store.get("key")
        server.restart()
        assert store.get("key") == b"content" * 10_000
    assert not server.process.is_running


def test_a_server_dies_with_its_parent_however_that_ends(tmp_path):
    log = tmp_path / "log"
    parent = subprocess.Popen(
        [sys.executable, "-c", _ORPHAN_MAKER, str(log)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert parent.stdout.readline() == b"started\n"
    _wait_for(lambda: log.read_text().strip())
    server = int(log.read_text())
    assert _lives(server)
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    _wait_for(lambda: not _lives(server) or _is_zombie(server))


def test_a_server_that_cannot_start_is_told_with_its_log(tmp_path):
    process = ServerProcess(["sh", "-c", "echo no such luck; exit 3"], tmp_path / "log")
    process.start()
    _wait_for(lambda: not process.is_running)
    assert process.log_tail() == "no such luck"
    process.kill()


def test_free_ports_are_free_and_distinct():
    ports = free_ports(4, grpc=True)
    assert len(set(ports)) == 4
    for port in (*ports, *(port + 10_000 for port in ports)):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", port))
