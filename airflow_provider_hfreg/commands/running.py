"""
Running one command: its reply to standard output, progress and errors to standard error, an exit status.

Statuses: 0 done; 1 an error, or something wrong was found; 2 wrong usage; 130 interrupted. An error of ours is one
paragraph without a traceback, because it says what, where and what to do; any other error is a fault of this package
and keeps its traceback.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from airflow_provider_hfreg.commands.definition import Command
from airflow_provider_hfreg.commands.replies import Asked, Place, Reply
from airflow_provider_hfreg.errors import HfregError

DONE, FAILED, INTERRUPTED = 0, 1, 130


def run_command(
    command: Command,
    options: Namespace,
    *,
    program: str,
    find_place: Callable[[Namespace], Place],
    find_target: Callable[[Namespace, Place], Place | None],
) -> int:
    """
    Run a command and return its exit status.

    :param program: begins the line of an error.
    :param find_place: tells where the registry lies, by the options.
    :param find_target: tells where that one lies to which something is brought.
    """
    try:
        with _progress_on(sys.stderr):
            reply: Reply = command.load()(Asked(options, find_place, find_target))
        _print(_said(reply, as_json=getattr(options, "json", False)))
    except HfregError as error:
        return _ended(f"{program}: {error}", FAILED)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("airflow_provider_hfreg"):
            raise
        return _ended(f"{program}: {error.name} is not installed here: {_cure(error.name)}", FAILED)
    except KeyboardInterrupt:
        return _ended(f"{program}: interrupted. What was finished stays; the same command again goes on.", INTERRUPTED)
    except BrokenPipeError:  # `… | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter complains at its end
        return DONE
    return FAILED if reply.failed else DONE


def _said(reply: Reply, *, as_json: bool) -> str:
    return json.dumps(reply.plain, ensure_ascii=False, indent=2) if as_json else reply.text


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n" if text else "")
    sys.stdout.flush()


def _ended(message: str, status: int) -> int:
    sys.stderr.write(f"{message}\n")
    return status


def _cure(module: str) -> str:
    """
    Say how to get a module that is missing.

    >>> _cure("torch"), _cure("celery.app")
    ("pip install 'airflow-provider-hfreg[inference]'.", "pip install 'airflow-provider-hfreg[celery]'.")
    """
    extra = "celery" if module.partition(".")[0] in ("celery", "kombu", "redis") else "inference"
    return f"pip install 'airflow-provider-hfreg[{extra}]'."


@contextmanager
def _progress_on(stream: TextIO) -> Iterator[None]:
    """
    Let what this package logs, its progress above all, reach a stream, for as long as a command works.

    Beside whatever Airflow has set up, and not through it: that may write to standard output, where a script expects
    JSON and nothing else.
    """
    logger = logging.getLogger("airflow_provider_hfreg")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(message)s"))
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
