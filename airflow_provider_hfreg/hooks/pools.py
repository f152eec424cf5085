"""
Executor pools out of Airflow's configuration, section ``[hfreg]``: for operators, which send, and for workers.

The storages that a worker may touch are connections: their keys stay where the deployment keeps its secrets.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from airflow.sdk import conf

from airflow_provider_hfreg.errors import SettingsError
from airflow_provider_hfreg.hooks.connections import get_connection, s3_settings_of
from airflow_provider_hfreg.workers.pools import ExecutorPool
from airflow_provider_hfreg.workers.settings import StorageAccess, WorkersSettings, parse_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from airflow_provider_hfreg.runs.begun import BegunRun
    from airflow_provider_hfreg.workers.client import OnPool
    from airflow_provider_hfreg.workers.following import Following

_SECTION = "hfreg"


def executor_pools() -> dict[str, ExecutorPool]:
    """
    Return the configured pools by name; asks nobody and needs no broker.

    :raises SettingsError: the option is no JSON, or a pool cannot be.
    """
    plain = _json_option("executor_pools", "{}")
    if not isinstance(plain, dict):
        raise SettingsError('[hfreg] executor_pools must be a JSON object of pools by name: {"cpu": {}}.')
    return {name: ExecutorPool.from_json(name, pool) for name, pool in plain.items()}


def executor_pool(name: str) -> ExecutorPool:
    """
    Return a configured pool.

    :raises SettingsError: there is none of this name; the message lists those there are.
    """
    pools = executor_pools()
    if name not in pools:
        known = ", ".join(map(repr, pools)) or "none at all"
        raise SettingsError(
            f"There is no executor pool {name!r} in [hfreg] executor_pools of Airflow's configuration; there is "
            f"{known}."
        )
    return pools[name]


def sender_settings() -> WorkersSettings:
    """
    Return what a sender needs: broker, keys and pools.

    :raises SettingsError: an option is missing or cannot be.
    """
    return _settings([])


def worker_settings() -> WorkersSettings:
    """
    Return what a worker needs: also the storages that it may touch, each reached by its connection.

    :raises SettingsError: an option or a connection is missing or cannot be.
    """
    entries = _json_option("worker_storages", "[]")
    if not isinstance(entries, list):
        raise SettingsError('[hfreg] worker_storages must be a JSON list: [{"url": "s3://lake", "conn_id": "lake"}].')
    return _settings([_storage(entry) for entry in entries])


def on_pool(name: str, *, cancelled: Callable[[], bool]) -> OnPool:
    """
    Return what executes a run on a configured pool.

    :param cancelled: asked several times a second.
    :raises SettingsError: an option is missing or cannot be, there is no such pool, or Celery is not installed here.
    """
    settings = sender_settings()
    pool = settings.pool(name)
    with _celery_for(name):
        from airflow_provider_hfreg.workers.client import OnPool  # noqa: PLC0415 - Celery, an extra
    return OnPool(settings, pool, cancelled=cancelled)


def following_on(name: str, begun: BegunRun, *, sender: str, cancelled: Callable[[], bool]) -> Following:
    """
    Return what follows a begun run on a configured pool, a step at a time.

    :param sender: as whom; whoever follows the run as the same goes on with it.
    :raises SettingsError: as for :func:`on_pool`.
    """
    settings = sender_settings()
    pool = settings.pool(name)
    with _celery_for(name):
        from airflow_provider_hfreg.workers.following import Following  # noqa: PLC0415 - Celery, an extra
    return Following(begun, settings, pool, sender=sender, cancelled=cancelled)


@contextlib.contextmanager
def _celery_for(name: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise SettingsError(
            f"The executor pool {name!r} is reached through Celery, which is not installed here ({error.name}): pip "
            "install 'airflow-provider-hfreg[celery]'."
        ) from error


def _settings(storages: Sequence[StorageAccess]) -> WorkersSettings:
    given: dict[str, Any] = {
        "broker_url": conf.get(_SECTION, "broker_url", fallback=""),
        "message_keys": [
            key.strip() for key in conf.get(_SECTION, "message_keys", fallback="").split(",") if key.strip()
        ],
        "storages": storages,
        "cache_folder": conf.get(_SECTION, "cache_folder", fallback=""),
        "cache_size_gib": conf.get(_SECTION, "cache_size_gib", fallback=""),
    }
    try:
        given["lapse_s"] = conf.getfloat(_SECTION, "claim_lapse_s", fallback=WorkersSettings.lapse_s)
        settings = parse_settings(given)
    except SettingsError as error:
        raise SettingsError(f"Airflow's configuration, section [hfreg]: {error}") from error
    return WorkersSettings(**vars(settings) | {"pools": executor_pools()})


def _storage(entry: Mapping[str, Any]) -> StorageAccess:
    if not isinstance(entry, dict) or not isinstance(entry.get("url"), str) or set(entry) - {"url", "conn_id"}:
        raise SettingsError(
            f"[hfreg] worker_storages has an entry of {', '.join(entry) if isinstance(entry, dict) else type(entry)}; "
            "each is a url and, for s3://, the conn_id that reaches it."
        )
    access = StorageAccess.from_json({"url": entry["url"]})
    conn_id = entry.get("conn_id")
    if conn_id is None:
        return access
    return StorageAccess(access.url, s3_settings_of(get_connection(conn_id, hint="of type 'hfreg' or 'aws'")))


def _json_option(name: str, fallback: str) -> Any:
    text = conf.get(_SECTION, name, fallback=fallback) or fallback
    try:
        return json.loads(text)
    except ValueError as error:
        raise SettingsError(f"[hfreg] {name} of Airflow's configuration is no JSON: {error}.") from error
