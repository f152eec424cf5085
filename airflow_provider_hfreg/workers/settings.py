"""
What a worker and whoever sends to it are told: broker, keys, pools, and the storages that may be touched.

Plain values, from one TOML file or from a mapping (which is how an Airflow deployment gives them); checked whole before
anything begins. No secret is in a ``repr`` or a message. :data:`EXAMPLE` shows the file.
"""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from airflow_provider_hfreg.errors import MessageRefusedError, SettingsError, StorageUrlError
from airflow_provider_hfreg.storage.settings import S3Settings
from airflow_provider_hfreg.storage.urls import parse_url
from airflow_provider_hfreg.versions.cache_settings import check_cache_size_gib
from airflow_provider_hfreg.workers.pools import ExecutorPool

EXAMPLE = """\
broker_url = "redis://redis:6379/5"     # a database of its own
message_keys = ["a long random text"]   # or $HFREG_MESSAGE_KEYS, separated by commas; the first signs, all verify
cache_folder = "/var/cache/hfreg"       # left out: ~/.cache/hfreg
cache_size_gib = 200                    # left out: half of the disk
lapse_s = 30                            # of a claim that its worker does not write anew; longer where storage is slow

[pools.gpu-a10]                         # the same as the senders'
device = "cuda"
cuda_version = "12.4"

[[storages]]                            # a worker touches nothing outside of these
url = "s3://lake"
endpoint_url = "http://minio:9000"      # left out: AWS, with the machine's own credentials
"""
"""A file of settings, as ``--help`` and the page of the workers show it."""

_KEYS_VARIABLE = "HFREG_MESSAGE_KEYS"
_SHORTEST_KEY = 16
# A session is a live object: a file cannot hold it.
_S3_OPTIONS = tuple(option.name for option in fields(S3Settings) if option.name != "session")


@dataclass(frozen=True)
class StorageAccess:
    """
    A prefix that may be read and written, and how to reach it.

    :param url: such as ``s3://lake/texts`` or ``file:///srv``.
    """

    url: str
    s3: S3Settings | None = None

    def holds(self, url: str) -> bool:
        """
        Tell whether a place is this prefix or lies below it.

        >>> access = StorageAccess("s3://lake/texts")
        >>> access.holds("s3://lake/texts/a.csv"), access.holds("s3://lake/texts-of-others"), access.holds("s3://lake")
        (True, False, False)
        """
        return f"{url.rstrip('/')}/".startswith(f"{self.url.rstrip('/')}/")

    @classmethod
    def from_json(cls, plain: object) -> StorageAccess:
        """Return one entry of the settings' ``storages``."""
        if not isinstance(plain, Mapping) or not isinstance(plain.get("url"), str):
            raise SettingsError("Each of 'storages' is a table with a 'url', such as \"s3://bucket/prefix\".")
        given = {option: value for option, value in plain.items() if option != "url"}
        for option in given:
            if option not in _S3_OPTIONS:
                raise SettingsError(
                    f"The storage {plain['url']} has an option {option!r}; there are url, {', '.join(_S3_OPTIONS)}."
                )
        try:
            return cls(str(parse_url(plain["url"])), S3Settings(**given))
        except StorageUrlError as error:
            raise SettingsError(f"One of 'storages': {error}") from error


@dataclass(frozen=True)
class WorkersSettings:
    """
    Checked settings.

    :param broker_url: of Celery's broker; a Redis database of its own.
    :param message_keys: the first signs, all verify.
    :param pools: by name.
    :param storages: what may be touched; the longest prefix that holds a place says how to reach it.
    :param cache_folder: of model files on the worker's machine; None: below the user's cache folder.
    :param cache_size_gib: above it, model files that were used least recently go; None: half of the disk.
    :param lapse_s: a claim that stays unchanged for this long is its worker's no more; it writes it anew three times
        within this time. Longer where storage is slow, so that a pause is not taken for a death.
    """

    broker_url: str = field(repr=False)
    message_keys: tuple[str, ...] = field(repr=False)
    pools: Mapping[str, ExecutorPool]
    storages: tuple[StorageAccess, ...] = ()
    cache_folder: Path | None = None
    cache_size_gib: float | None = None
    lapse_s: float = 30.0

    @property
    def resend_s(self) -> float:
        """A message that nobody claimed within this time is sent again; one of twice this age is refused."""
        return 2 * self.lapse_s

    def pool(self, name: str) -> ExecutorPool:
        """
        Return a pool by its name.

        :raises SettingsError: there is none; the message lists those there are.
        """
        try:
            return self.pools[name]
        except KeyError:
            known = ", ".join(map(repr, self.pools)) or "none at all"
            raise SettingsError(f"There is no executor pool {name!r} in the settings; there is {known}.") from None

    def access(self, url: str) -> StorageAccess:
        """
        Return how to reach a place.

        :raises MessageRefusedError: it is in none of the storages.
        """
        holding = [storage for storage in self.storages if storage.holds(_plain(url))]
        if not holding:
            allowed = ", ".join(storage.url for storage in self.storages) or "none at all"
            raise MessageRefusedError(
                f"{url} is in none of the storages that this worker may touch ({allowed}). Add it to 'storages' in the "
                "worker's settings if it should."
            )
        return max(holding, key=lambda storage: len(storage.url))


def read_settings(path: Path, environment: Mapping[str, str] = os.environ) -> WorkersSettings:
    """
    Return the settings of a TOML file.

    :param environment: holds the keys where the file does not.
    :raises SettingsError: it is not there, no TOML, or something in it cannot be.
    """
    try:
        plain = tomllib.loads(path.read_text())
    except OSError as error:
        raise SettingsError(
            f"The settings {path} cannot be read ({error.strerror}). Give --settings a TOML file."
        ) from error
    except ValueError as error:
        raise SettingsError(f"The settings {path} are no TOML: {error}.") from error
    try:
        return parse_settings({"message_keys": _keys_of(environment)} | plain)
    except SettingsError as error:
        raise SettingsError(f"The settings {path}: {error}") from error


def _keys_of(environment: Mapping[str, str]) -> list[str]:
    return [key.strip() for key in environment.get(_KEYS_VARIABLE, "").split(",") if key.strip()]


def parse_settings(plain: Mapping[str, Any]) -> WorkersSettings:
    """
    Return checked settings.

    :raises SettingsError: the first thing that cannot be, named, with what it may be.
    """
    known = [option.name for option in dataclasses.fields(WorkersSettings)]
    for option in plain:
        if option not in known:
            raise SettingsError(f"There is no setting {option!r}; there are {', '.join(known)}.")
    broker_url = plain.get("broker_url")
    if not isinstance(broker_url, str) or "://" not in broker_url:
        raise SettingsError("broker_url must be a URL such as redis://redis:6379/5.")
    pools = plain.get("pools") or {}
    if not isinstance(pools, Mapping):
        raise SettingsError("pools must be a table of executor pools by name.")
    storages = plain.get("storages") or ()
    if not isinstance(storages, Sequence) or isinstance(storages, str):
        raise SettingsError("storages must be a list of tables, each with a url.")
    cache_size_gib = plain.get("cache_size_gib")
    cache_folder, lapse_s = plain.get("cache_folder"), plain.get("lapse_s", WorkersSettings.lapse_s)
    if not isinstance(lapse_s, int | float) or not lapse_s >= 1:
        raise SettingsError(f"lapse_s is {lapse_s!r}; it must be a number of seconds from 1 on.")
    return WorkersSettings(
        broker_url=broker_url,
        message_keys=_checked_keys(plain.get("message_keys")),
        pools={name: ExecutorPool.from_json(name, pool) for name, pool in pools.items()},
        storages=tuple(
            storage if isinstance(storage, StorageAccess) else StorageAccess.from_json(storage) for storage in storages
        ),
        cache_folder=Path(cache_folder) if cache_folder else None,
        cache_size_gib=None if cache_size_gib in (None, "") else check_cache_size_gib(cache_size_gib, "cache_size_gib"),
        lapse_s=float(lapse_s),
    )


def _checked_keys(keys: Any) -> tuple[str, ...]:
    is_list = isinstance(keys, Sequence) and not isinstance(keys, str)
    if not is_list or not keys or not all(isinstance(key, str) and len(key) >= _SHORTEST_KEY for key in keys):
        raise SettingsError(
            f"message_keys must be a list of texts of at least {_SHORTEST_KEY} characters: without a key anybody who "
            f"reaches the broker could send work. Make one with `openssl rand -hex 32`, or set ${_KEYS_VARIABLE}."
        )
    return tuple(keys)


def _plain(url: str) -> str:
    try:
        return str(parse_url(url))
    except StorageUrlError as error:
        raise MessageRefusedError(f"{url!r} is no place: {error}") from error
