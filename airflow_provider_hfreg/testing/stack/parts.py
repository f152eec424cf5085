"""
What a stack is made of: the commands of its parts and the environment they share. Pure: nothing is started here.

As a deployment would have it, but for two limits, since nobody waits long at a desk: a worker that stopped answering is
taken for dead after 10 s, not 30, and a task that was lost with the broker is queued again after a minute, not ten.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from airflow_provider_hfreg.testing.airflow import airflow_settings

BUCKET = "lake"  # the bucket that the examples name
POOL = "cpu"
WORKERS = ("worker-1", "worker-2")
AIRFLOW_WORKER = "airflow-worker"

_TASKS = 8  # at a time: most of them wait for the pool
_RUNS = 4  # on the pool at a time


@dataclass(frozen=True)
class Places:
    """
    Where the servers are reached.

    :param database: URL of Airflow's metadata.
    :param redis: URL of the broker, without the number of a database.
    :param s3: the connection ``hfreg_default``, in Airflow's JSON.
    """

    database: str
    redis: str
    s3: Mapping[str, object]


@dataclass(frozen=True)
class Keys:
    """Secrets of a stack."""

    messages: str
    tokens: str
    sessions: str
    connections: str


def airflow_commands() -> dict[str, list[str]]:
    """
    Return the parts that are Airflow's own, by name, in the order of their start.

    >>> airflow_commands()["airflow-worker"][1:]
    ['-m', 'airflow', 'celery', 'worker', '--queues', 'default', '--concurrency', '8']
    """
    commands = {
        "api-server": ["api-server"],
        "scheduler": ["scheduler"],
        "dag-processor": ["dag-processor"],
        "triggerer": ["triggerer"],
        AIRFLOW_WORKER: ["celery", "worker", "--queues", "default", "--concurrency", str(_TASKS)],
    }
    return {name: airflow_command(*words) for name, words in commands.items()}


def worker_command() -> list[str]:
    """Return the command of a resident worker."""
    return airflow_command("hfreg", "worker", "--pool", POOL)


def airflow_command(*words: str) -> list[str]:
    """Return a command of Airflow's."""
    return [sys.executable, "-m", "airflow", *words]


def environment(folder: Path, dags: Sequence[Path], ports: Sequence[int], places: Places, keys: Keys) -> dict[str, str]:
    """
    Return what every part of Airflow and every resident worker is told.

    :param folder: of the stack.
    :param dags: folders of DAGs.
    :param ports: of the API, of tasks' logs and of triggers' logs.
    """
    home = folder / "airflow"
    api, *log_ports = ports
    bundles = [_bundle(path) for path in dags]
    return airflow_settings(home, api, log_ports, parallelism=_TASKS) | {
        "AIRFLOW__API__SECRET_KEY": keys.sessions,
        "AIRFLOW__API_AUTH__JWT_SECRET": keys.tokens,
        "AIRFLOW__CELERY__BROKER_URL": f"{places.redis}/0",
        "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{places.database}",
        "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": "86400",  # its default, which warns if unsaid
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW__CORE__FERNET_KEY": keys.connections,
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": places.database,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": places.database,  # psycopg does both
        "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "60",
        "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "10",
        "AIRFLOW_CONN_HFREG_DEFAULT": json.dumps(places.s3),
        "AIRFLOW__HFREG__BROKER_URL": f"{places.redis}/1",  # not the database of Airflow's broker
        "AIRFLOW__HFREG__CACHE_FOLDER": str(folder / "cache"),
        "AIRFLOW__HFREG__CLAIM_LAPSE_S": "10",
        "AIRFLOW__HFREG__EXECUTOR_POOLS": json.dumps({POOL: {"slots": _RUNS}}),
        "AIRFLOW__HFREG__MESSAGE_KEYS": keys.messages,
        "AIRFLOW__HFREG__WORKER_STORAGES": json.dumps(_storages(home)),
        # The machine is shared by a dozen processes; a small model gains nothing from threads.
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def _storages(home: Path) -> list[dict[str, str]]:
    """Return what the workers may touch: the bucket, and the folder where the nightly example keeps its tables."""
    return [{"url": f"s3://{BUCKET}", "conn_id": "hfreg_default"}, {"url": (home / "sentiment").as_uri()}]


def _bundle(path: Path) -> dict[str, object]:
    """
    Return a folder of DAGs as Airflow's configuration has it.

    >>> _bundle(Path("/srv/dags"))["name"]
    'srv-dags'
    """
    name = "-".join(path.parts[-2:]).replace("/", "").strip("-")
    local = "airflow.dag_processing.bundles.local.LocalDagBundle"
    return {"name": name, "classpath": local, "kwargs": {"path": str(path), "refresh_interval": 5}}
