"""Asking a pool's workers who is there: a busy one answers too, so no answer means that there is none."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from airflow_provider_hfreg import __version__
from airflow_provider_hfreg.errors import MessageRefusedError, NoWorkerError, RunCancelledError
from airflow_provider_hfreg.workers.app import Broker
from airflow_provider_hfreg.workers.messages import PROTOCOL
from airflow_provider_hfreg.workers.pools import ExecutorPool

ROLL_CALLS_S = (1.0, 3.0, 5.0)
"""How long each of three questions waits for answers."""


def check_not_cancelled(cancelled: Callable[[], bool]) -> None:
    """
    Raise if the run is to stop.

    :raises RunCancelledError: it is.
    """
    if cancelled():
        raise RunCancelledError(
            "The run was stopped, as asked. The shards that are committed stay; running again goes on with the others."
        )


def roll_call(
    broker: Broker,
    pool: ExecutorPool,
    *,
    sent: Collection[str] = (),
    is_any_enough: bool = False,
    cancelled: Callable[[], bool] = lambda: False,
) -> list[Mapping[str, Any]]:
    """
    Return what the pool's workers say of themselves.

    :param sent: ids of messages, which none of them may have refused.
    :param is_any_enough: return with the first answer, within milliseconds; else all that come within the time are
        waited for, since nobody knows how many there are.
    :raises NoWorkerError: none answers, asked several times: a busy one answers too.
    :raises MessageRefusedError: a worker refused a message, or speaks another protocol.
    """
    for timeout_s in ROLL_CALLS_S:
        check_not_cancelled(cancelled)
        # Where a stranger was the first to answer, the others are waited for.
        statuses = broker.statuses(timeout_s=timeout_s, limit=1 if is_any_enough and not broker.strangers else None)
        if statuses:
            _check_obedient(statuses, sent)
            return statuses
    if broker.strangers:
        raise NoWorkerError(
            f"No worker of the executor pool {pool.name!r} answers with one of the message_keys that are set here; "
            f"{broker.strangers} answered with others. Give senders and workers the same message_keys, and restart "
            "the workers; if they have them, somebody else uses this broker."
        )
    raise NoWorkerError(
        f"No worker of the executor pool {pool.name!r} answers on its broker. Start one where the hardware is: "
        f"`airflow hfreg worker --pool {pool.name}`, or `python -m airflow_provider_hfreg.workers --pool {pool.name} "
        "--settings FILE`. A worker that computes answers too, so none is there."
    )


def _check_obedient(statuses: Sequence[Mapping[str, Any]], sent: Collection[str]) -> None:
    for status in statuses:
        if status["protocol"] != PROTOCOL:
            raise MessageRefusedError(
                f"The worker {status['worker']} has airflow-provider-hfreg {status['version']} and here is "
                f"{__version__}; they do not understand each other. Install one version on both."
            )
        for refused, reason in status.get("refused", ()):
            if refused in sent:
                raise MessageRefusedError(f"The worker {status['worker']} refused a shard: {reason}")
