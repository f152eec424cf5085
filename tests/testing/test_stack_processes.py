"""A stack's processes are found by their mark and nothing else, and ended with what they started."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from airflow_provider_hfreg.testing.stack.processes import KEEP_ENVIRONMENT, MARK, end_all, find_birth, members

# Names itself as Airflow's and Celery's processes do, in a session of its own, below a parent that is gone.
_STRAY = """
import os, setproctitle, sys, time
if os.fork():
    os._exit(0)
os.setsid()
setproctitle.setproctitle("airflow worker " + "x" * 2000)
print(os.getpid(), flush=True)
time.sleep(600)
"""


@pytest.fixture
def stray():
    """Start a stray process; called with its mark."""
    pids = []

    def start(mark):
        environment = os.environ | KEEP_ENVIRONMENT | {MARK: mark}
        parent = subprocess.run([sys.executable, "-c", _STRAY], env=environment, stdout=_log(), check=True)
        assert parent.returncode == 0
        pids.append(_written())
        return pids[-1]

    read, write = os.pipe()
    lines = os.fdopen(read)

    def _log():
        return write

    def _written():
        return int(lines.readline())

    yield start
    lines.close()
    os.close(write)
    for pid in pids:
        if find_birth(pid) is not None:
            os.kill(pid, 9)


def test_a_process_is_found_by_its_mark_whatever_it_made_of_itself(stray):
    ours, others = stray("ours"), stray("others")
    assert members("ours") == {ours}
    assert end_all("ours") == set()
    assert find_birth(ours) is None
    assert members("others") == {others}


def test_what_a_marked_process_started_belongs_to_it_even_without_a_mark(tmp_path):
    code = "import subprocess, sys; subprocess.run(['env', '-i', 'sleep', '600'])"
    parent = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {MARK: "family"})
    deadline = time.monotonic() + 60
    while len(members("family")) < 2:
        assert time.monotonic() < deadline
    assert end_all("family") == set()
    assert parent.wait() == -9


def test_the_next_owner_of_a_pid_is_another_process():
    birth = find_birth(os.getpid())
    assert birth.is_alive
    assert not type(birth)(birth.pid, birth.born + 1, birth.boot).is_alive
    assert not type(birth)(birth.pid, birth.born, "another start of the machine").is_alive


def test_a_process_that_only_waits_to_be_buried_is_none():
    ended = subprocess.Popen(["true"])
    deadline = time.monotonic() + 60
    while find_birth(ended.pid) is not None:
        assert time.monotonic() < deadline
    ended.wait()
