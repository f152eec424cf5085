"""
The Celery application that senders and workers share, and the two questions a worker answers while it computes.

Invariants:

- Its own control exchange: an Airflow deployment on the same broker neither sees these workers nor stops them. On Redis
  it also takes a database of its own.
- JSON alone is accepted, there is no result backend, and the only task takes one signed text.
- Whoever is asked answers from Celery's own thread; the model runs in another one. The answer is signed, the
  question is not: who asks learns names of runs and models; who could answer for others could end their runs.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from celery import Celery
from celery.exceptions import Reject
from celery.worker.control import Panel, inspect_command
from kombu.connection import Connection
from kombu.exceptions import OperationalError

from airflow_provider_hfreg.errors import BrokerUnavailableError, SettingsError
from airflow_provider_hfreg.workers.messages import ShardMessage, message_id, signed, signed_answer, verified_answer
from airflow_provider_hfreg.workers.pools import ExecutorPool
from airflow_provider_hfreg.workers.settings import WorkersSettings

TASK = "hfreg.shard"
_STATUS, _LOOK = "hfreg_status", "hfreg_look"
_ANSWER = "answer"
_VISIBILITY_TIMEOUT_S = 6 * 3600  # of Redis: longer than the longest shard; see the decision on executor pools
_SLOTS = 2  # one shard is computed while another one's rows are read
# A client waits no minute for a broker that is gone.
_PUBLISH_POLICY = {"max_retries": 2, "interval_start": 0.1, "interval_step": 0.5, "interval_max": 1.0}


class Worker(Protocol):
    """What the application needs of a worker; see :mod:`.worker`."""

    def handle(self, text: str) -> bool:
        """Execute what a message asks for, or refuse it; False gives it back to the queue."""

    def status(self) -> Mapping[str, Any]:
        """Return what it is and does, as plain JSON values."""

    def look(self) -> None:
        """Look at once whether what it runs is to stop."""


def make_app(settings: WorkersSettings) -> Celery:
    """Return the application; nothing is connected yet."""
    # Not the process's own application, which in a task or a triggerer is another one.
    app = Celery("hfreg", broker=settings.broker_url, set_as_current=False)
    app.hfreg_keys = settings.message_keys
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        result_backend=None,
        control_exchange="hfreg",
        event_exchange="hfreg.events",
        worker_send_task_events=False,
        # Late acknowledgement with a prefetch of one per slot: a worker holds two messages and no more.
        task_acks_late=True,
        worker_prefetch_multiplier=1,
        worker_concurrency=_SLOTS,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "visibility_timeout": _VISIBILITY_TIMEOUT_S,
            "socket_connect_timeout": 5,
            "socket_timeout": 20,
        },
    )
    return app


def hostname_prefix(pool: ExecutorPool) -> str:
    """Return what the Celery names of a pool's workers begin with; number and process follow."""
    return f"hfreg-{pool.name}-"


def serve(app: Celery, worker: Worker, pool: ExecutorPool, *, place: str) -> None:
    """
    Run a worker in this process until it is told to stop; returns after a graceful stop.

    :param place: of the process, after the pool: ``<number>-<process id>@<machine>``.
    """

    def shard(text: str) -> None:
        if not worker.handle(text):
            raise Reject(requeue=True)

    app.task(name=TASK)(shard)
    app.hfreg_worker = worker
    # Control messages are not signed: of Celery's own, which can stop a worker or turn it to another queue, none stays.
    for name in set(Panel.data) - {"ping", _STATUS, _LOOK}:
        del Panel.data[name]
    # Threads: a control message is answered during a forward, which "solo" does not, and CUDA survives no fork.
    app.Worker(
        hostname=f"{hostname_prefix(pool)}{place}",
        queues=[pool.queue],
        pool="threads",
        concurrency=_SLOTS,
        loglevel="INFO",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    ).start()


def _status(state: Any, nonce: object = None) -> Mapping[str, Any]:
    return {_ANSWER: signed_answer(state.app.hfreg_worker.status(), nonce, state.app.hfreg_keys)}


def _look(state: Any) -> None:
    state.app.hfreg_worker.look()


inspect_command(name=_STATUS)(_status)
inspect_command(name=_LOOK)(_look)


class Broker:
    """
    A sender's side of the application.

    :ivar strangers: how many answers to the last question were of nobody with these keys.
    :raises BrokerUnavailableError: by every method, where the broker does not answer.
    """

    def __init__(self, settings: WorkersSettings, pool: ExecutorPool) -> None:
        self._app = make_app(settings)
        self._keys = settings.message_keys
        self._pool = pool
        self.strangers = 0
        connection = self._app.connection_for_write()
        try:
            # A transport's client raises errors of its own, which kombu wraps in some calls and not in others.
            self._failures = (OperationalError, OSError, *connection.connection_errors, *connection.channel_errors)
        except (KeyError, ImportError) as error:
            raise SettingsError(
                f"The broker_url of the settings begins with {settings.broker_url.partition(':')[0]!r}, which Celery "
                f"cannot speak here ({error}). Write redis://… or another of Celery's brokers, and install its client."
            ) from error

    def send(self, message: ShardMessage) -> str:
        """Put a shard into the pool's queue, and return the message's id, by which a worker would refuse it."""
        text = signed(message, self._keys)
        self._asking(
            lambda connection: self._app.send_task(
                TASK,
                args=[text],
                queue=self._pool.queue,
                connection=connection,
                retry=True,
                retry_policy=_PUBLISH_POLICY,
            )
        )
        return message_id(text)

    def statuses(self, *, timeout_s: float, limit: int | None = None) -> list[Mapping[str, Any]]:
        """
        Return what the pool's workers say of themselves; those that answer within the time.

        :param timeout_s: waited for in full after the last answer: nobody knows how many will come.
        :param limit: return as soon as there are so many answers.
        """
        nonce = uuid.uuid4().hex
        answers = self._asking(
            lambda connection: self._app.control.broadcast(
                _STATUS,
                arguments={"nonce": nonce},
                connection=connection,
                reply=True,
                timeout=timeout_s,
                limit=limit,
                # Other pools' workers say nothing, else theirs could be the one answer that is waited for.
                pattern=f"{re.escape(hostname_prefix(self._pool))}[0-9]+-[0-9]+@",
                matcher="pcre",
            )
        )
        told = [answer for named in answers or [] for answer in named.values()]
        given = [answer.get(_ANSWER) if isinstance(answer, Mapping) else None for answer in told]
        statuses = [verified_answer(answer, nonce, self._keys) for answer in given]
        self.strangers = statuses.count(None)
        return [status for status in statuses if status is not None and status.get("pool") == self._pool.name]

    def tell_to_look(self) -> None:
        """Tell all workers to look for what was stopped."""
        self._asking(lambda connection: self._app.control.broadcast(_LOOK, connection=connection))

    def close(self) -> None:
        """Let the connections go."""
        self._app.close()

    def _asking(self, ask: Callable[[Connection], Any]) -> Any:
        try:
            # Never one of Celery's pool, which the whole process shares: that of a broker that has restarted since
            # fails at its next use, though the broker is well.
            with self._app.connection_for_write() as connection:
                return ask(connection)
        except self._failures as error:
            raise BrokerUnavailableError(
                f"The message broker of the executor pool {self._pool.name!r} does not answer "
                f"({type(error).__name__}: {error}). Check that it is running and reachable from here, and the "
                "broker_url of the settings. No row is lost: run again when it is back."
            ) from error
