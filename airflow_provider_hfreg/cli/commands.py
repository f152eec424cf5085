"""What ``airflow hfreg …`` does: prints to standard output; an error ends it with one sentence and status 1."""

from __future__ import annotations

import contextlib
import functools
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from airflow_provider_hfreg import __version__
from airflow_provider_hfreg.cli.airflow_pools import exported, find_airflow_pools, ills_of, remarks_on
from airflow_provider_hfreg.errors import HfregError
from airflow_provider_hfreg.hooks.pools import executor_pool, executor_pools, sender_settings, worker_settings
from airflow_provider_hfreg.workers.pools import ExecutorPool

_ROLL_CALL_S = 3.0

Command = Callable[[Any], None]


def _ends_with_a_sentence(command: Command) -> Command:
    @functools.wraps(command)
    def run(arguments: Any) -> None:
        try:
            command(arguments)
        except HfregError as error:
            raise SystemExit(f"airflow hfreg: {error}") from None
        except ModuleNotFoundError as error:
            raise SystemExit(
                f"airflow hfreg: {error.name} is not installed here: pip install "
                "'airflow-provider-hfreg[inference,celery]' on a worker, [celery] elsewhere."
            ) from None

    return run


@_ends_with_a_sentence
def worker(arguments: Any) -> None:
    """Run a worker until it is told to stop."""
    from airflow_provider_hfreg.workers.process import run_processes  # noqa: PLC0415 - Celery

    pool = executor_pool(arguments.pool)
    command = [sys.executable, "-m", "airflow", "hfreg", "worker", "--pool", pool.name]
    run_processes(worker_settings(), pool, command=command, processes=arguments.processes, index=arguments.index)


@_ends_with_a_sentence
def pools_list(_arguments: Any) -> None:
    """Print the pools as they are understood."""
    print(json.dumps({name: pool.to_json() for name, pool in executor_pools().items()}, indent=2))


@_ends_with_a_sentence
def pools_export(_arguments: Any) -> None:
    """Print the Airflow pools that bound how many runs use an executor pool at once."""
    print(json.dumps(exported(executor_pools().values()), indent=2))


@_ends_with_a_sentence
def doctor(_arguments: Any) -> None:
    """Say of each pool who is there and what is wrong, here and with the Airflow pool that belongs to it."""
    from airflow_provider_hfreg.workers.app import Broker  # noqa: PLC0415 - Celery

    settings = sender_settings()
    ills = []
    for pool in settings.pools.values():
        with contextlib.closing(Broker(settings, pool)) as broker:
            statuses = broker.statuses(timeout_s=_ROLL_CALL_S)
        print(f"{pool.name}: queue {pool.queue}, {len(statuses)} worker(s)")
        print(*(f"  {line}" for status in statuses for line in _described(status)), sep="\n", end="\n" * bool(statuses))
        ills += list(_ills(pool, statuses))
    pools, found = settings.pools.values(), find_airflow_pools()
    ills += ills_of(pools, found)
    print(*remarks_on(pools, found), *ills or ["All is well."], sep="\n")
    if ills:
        raise SystemExit(1)


def _described(status: Mapping[str, Any]) -> Iterator[str]:
    models, uptime_s = len(status["models"]), status["uptime_s"]
    yield f"{status['worker']}: {_doing(status)}, {models} model(s) loaded, up for {uptime_s} s"


def _doing(status: Mapping[str, Any]) -> str:
    """
    Return what a worker does, in words.

    >>> _doing({"running": None, "in_hand": []})
    'idle'
    >>> _doing({"running": None, "in_hand": [{"batch_run_id": "r", "shard": 3, "doing": "fetching"}]})
    'fetching for shard 3 of r'
    """
    if (running := status["running"]) is not None:
        return f"shard {running['shard']} of {running['batch_run_id']} for {running['for_s']} s"
    held = (f"{one['doing']} for shard {one['shard']} of {one['batch_run_id']}" for one in status.get("in_hand", ()))
    return next(held, "idle")


def _ills(pool: ExecutorPool, statuses: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not statuses:
        yield f"{pool.name} has no worker. Start one: airflow hfreg worker --pool {pool.name}"
    for status in statuses:
        yield from (f"{status['worker']} refused a message: {reason}" for _, reason in status["refused"])
        if status["version"] != __version__:
            yield (
                f"{status['worker']} has airflow-provider-hfreg {status['version']}, and this machine {__version__}: "
                "install one version on both."
            )
