"""
What ``make demo`` runs: the DAG ``sentiment_nightly`` from download to report, with all it needs in one folder.

Airflow runs in this process on SQLite and the registry is a folder: no server, no account. The screen shows what the
tasks say; everything that Airflow says goes to ``airflow.log`` in that folder. The dag run's date is fixed, so that a
second demo is the same run again, and each of its tasks finds what it did before.

    python example_dags/run_demo.py FOLDER [PARAM=VALUE …]

A value is JSON, or text: ``epochs=3 model_name=other``.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from threading import Thread
from typing import Any, TextIO

RUN_DATE = datetime(2026, 1, 1, tzinfo=UTC)

# 2026-01-01T00:00:00.000000Z [info     ] Epoch 1 of 2: 10%, loss 0.693. [sentiment_model] loc=sentiment_model.py:165
LOG_LINE = re.compile(r"^\d{4}-\S+ \[(?P<level>\w+) *\] (?P<rest>.*)")
ORIGIN = re.compile(r"^(?P<text>.*?) *\[(?P<logger>[\w.]+)\](?: \w+=.*)?$", re.DOTALL)
TASK_STARTS = re.compile(r"\[DAG TEST\] starting task_id=(\w+)")
TASK_FAILS = re.compile(r"Task failed with exception")
OURS = re.compile(r"^(sentiment_|(airflow\.task\.operators\.)?airflow_provider_hfreg\.)")


def main(folder: Path, params: dict[str, Any]) -> int:
    """Run the DAG in ``folder`` and return the process's exit status."""
    started = time.monotonic()
    log = folder / "airflow.log"
    set_environment(folder)
    with screen_beside(log) as screen:
        print(f"Airflow's own log goes to {log}", file=screen)
        try:
            make_database(folder)
            is_success = run_dag(folder, params)
        except Exception:  # noqa: BLE001 - whatever it is, the log has it and the screen says so
            traceback.print_exc()
            is_success = False
    took = f"{time.monotonic() - started:.0f} s"
    if not is_success:
        print(f"Failed after {took}. The whole story is in {log}")
        return 1
    print(f"Done in {took}. Everything is in {folder}; run it again to see what is found there.")
    return 0


def set_environment(folder: Path) -> None:
    """Set up an Airflow of its own, whatever other one this shell is set up for; to be called before it is imported."""
    for name in [name for name in os.environ if name.startswith("AIRFLOW")]:
        del os.environ[name]
    os.environ |= {
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).parent),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__HFREG__CACHE_FOLDER": str(folder / "cache"),
        "AIRFLOW_CONN_HFREG_DEFAULT": json.dumps({"conn_type": "hfreg", "host": (folder / "registry").as_uri()}),
        "PYTHONUNBUFFERED": "1",
    }


def make_database(folder: Path) -> None:
    """Make Airflow's database, once per version of Airflow."""
    done = folder / "airflow" / f"migrated-{version('apache-airflow')}"
    if not done.exists():
        subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True)
        done.touch()


def run_dag(folder: Path, params: dict[str, Any]) -> bool:
    """
    Run the DAG once and tell whether it succeeded.

    :param params: over those that keep everything in ``folder``.
    """
    from sentiment_nightly import nightly

    for task in nightly.tasks:
        task.retries = 0  # nobody wants to watch the wait for one
    places = {"workspace_url": folder.as_uri(), "output_url": (folder / "scored").as_uri()}
    run = nightly.test(run_after=RUN_DATE, logical_date=RUN_DATE, run_conf=places | params)
    return run.state == "success"


def read_param(argument: str) -> tuple[str, Any]:
    """
    Read one argument of the command line.

    >>> read_param("epochs=3"), read_param("model_name=other")
    (('epochs', 3), ('model_name', 'other'))
    """
    name, _, value = argument.partition("=")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


# --- the screen -------------------------------------------------------------------------------------------------------


@contextmanager
def screen_beside(log: Path) -> Iterator[TextIO]:
    """
    Send what this process and its children print into ``log``, and the part that people want to see to the screen.

    By file descriptors: loggers of two kinds, ``print`` and child processes all end there.

    :returns: the screen, to be written to directly.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with os.fdopen(os.dup(1), "w", buffering=1) as screen, log.open("a", buffering=1) as file:
        sorting = Thread(target=sort_lines, args=(os.fdopen(reading, errors="replace"), file, screen))
        sorting.start()
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        os.close(writing)
        try:
            yield screen
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for descriptor, old in enumerate(kept, start=1):
                os.dup2(old, descriptor)
                os.close(old)
            sorting.join()


def sort_lines(lines: TextIO, log: TextIO, screen: TextIO) -> None:
    """Write every line to ``log``, and those for people to ``screen`` too."""
    for message in messages(line for line in lines if log.write(line)):
        if (shown := for_people(message)) is not None:
            print(shown, file=screen)


def messages(lines: Iterator[str]) -> Iterator[str]:
    r"""
    Join lines that belong to one message: it begins with a date.

    >>> list(messages(iter(["2026-01-01 [info] a\n", "b\n", "2026-01-02 [info] c\n"])))
    ['2026-01-01 [info] a\nb', '2026-01-02 [info] c']
    """
    message: list[str] = []
    for line in lines:
        if LOG_LINE.match(line) and message:
            yield "".join(message).rstrip("\n")
            message = []
        message.append(line)
    if message:
        yield "".join(message).rstrip("\n")


def for_people(message: str) -> str | None:
    r"""
    Return what the screen shows of a message of Airflow's log, None for nothing.

    >>> for_people("2026-01-01T00:00:00Z [info     ] Wrote 9 rows    [sentiment_workspace] loc=x.py:64")
    '  Wrote 9 rows'
    >>> for_people("2026-01-01T00:00:00Z [info     ] [DAG TEST] starting task_id=score map_index=-1 [airflow.sdk]")
    'score'
    >>> for_people("2026-01-01T00:00:00Z [error    ] Task failed with exception [task]\nTraceback …\nOSError: full")
    '  OSError: full'
    """
    line = LOG_LINE.match(message)
    if line is None:
        return None
    if start := TASK_STARTS.match(line["rest"]):
        return start[1]
    if line["level"] == "error":  # the traceback is for the log, what it ends in for the screen
        return f"  {message.splitlines()[-1]}" if TASK_FAILS.match(line["rest"]) else None
    origin = ORIGIN.match(message[line.start("rest") :])
    if origin is None or not OURS.match(origin["logger"]):
        return None
    return "\n".join(f"  {text}" if text else "" for text in origin["text"].split("\n"))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).absolute(), dict(map(read_param, sys.argv[2:]))))
