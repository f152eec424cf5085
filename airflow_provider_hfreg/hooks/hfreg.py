"""
The connection type ``hfreg``: where a registry lies and how to reach it.

What a person fills in: the registry's URL (``s3://bucket/prefix`` or ``file:///srv/hfreg``), an access key and its
secret or the id of an Amazon connection, and for servers other than Amazon's the endpoint. The rest has defaults.

The hook holds no client open and caches nothing beyond itself: a registry is cheap to make, and its files are shared by
the host's cache. Importing this module loads neither boto3 nor pyarrow nor torch.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook, conf

from airflow_provider_hfreg.commands.replies import Place
from airflow_provider_hfreg.errors import HfregError, SettingsError
from airflow_provider_hfreg.hooks.connections import HFREG_CONN_TYPE, get_connection, s3_settings_of, storage_url
from airflow_provider_hfreg.versions.cache_settings import check_cache_size_gib

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_provider_hfreg.registry import Registry
    from airflow_provider_hfreg.storage.settings import S3Settings

HFREG_CONN_ID = "hfreg_default"


class HFRegistryHook(BaseHook):
    """
    Opens the registry that a connection of type ``hfreg`` describes.

    .. code-block:: python

        registry = HFRegistryHook().registry
        registry.get_model("finbert").set_alias("champion", "v2")

    :param hfreg_conn_id: the connection.
    """

    conn_name_attr = "hfreg_conn_id"
    default_conn_name = HFREG_CONN_ID
    conn_type = HFREG_CONN_TYPE
    hook_name = "Hugging Face registry"

    def __init__(self, hfreg_conn_id: str = HFREG_CONN_ID, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hfreg_conn_id = hfreg_conn_id

    @cached_property
    def connection(self) -> Connection:
        """
        The connection itself.

        :raises SettingsError: there is no such connection.
        """
        return get_connection(self.hfreg_conn_id, hint="of type 'hfreg' with the registry's URL as host")

    @cached_property
    def url(self) -> str:
        """
        The registry's root.

        :raises SettingsError: the connection has no URL.
        """
        host, path = (self.connection.host or "").strip(), (self.connection.schema or "").strip("/ ")
        if not host:
            raise SettingsError(
                f"Connection {self.hfreg_conn_id!r} has no registry URL: write s3://bucket/prefix or "
                f"file:///folder into its host field."
            )
        # A connection written as hfreg://s3://key:secret@bucket/prefix arrives with the prefix as schema.
        return storage_url(f"{host.rstrip('/')}/{path}" if path else host)

    @cached_property
    def s3_settings(self) -> S3Settings:
        """How to reach S3 with this connection, for the registry and for tables beside it."""
        return s3_settings_of(self.connection)

    @cached_property
    def place(self) -> Place:
        """
        Where the registry lies and how to reach it, in plain values.

        :raises SettingsError: the connection is not complete.
        """
        read_only = bool(self.connection.extra_dejson.get("read_only"))
        return Place(self.url, self.s3_settings, _cache_folder(), _cache_size_gib(), read_only=read_only)

    @cached_property
    def registry(self) -> Registry:
        """The registry."""
        return self.get_conn()

    def get_conn(self) -> Registry:
        """Return the registry, as :attr:`registry` does."""
        return self.place.open()

    def test_connection(self) -> tuple[bool, str]:
        """Ask the store for the names of the models, and tell what came back."""
        try:
            names = self._model_names()
        except HfregError as error:
            return False, str(error)
        if not names:
            return True, f"Reached {self.url}. No model was ever logged there; the first one logged makes the registry."
        return True, f"Reached {self.url}. It holds {len(names)} model(s): {_some(names)}."

    def _model_names(self) -> list[str]:
        return [model.name for model in self.registry.models()]


def _cache_folder() -> str | None:
    return conf.get("hfreg", "cache_folder", fallback="") or None


def _cache_size_gib() -> float | None:
    given = conf.get("hfreg", "cache_size_gib", fallback="")
    return check_cache_size_gib(given, "[hfreg] cache_size_gib of Airflow's configuration") if given else None


def _some(names: list[str], most: int = 5) -> str:
    """
    List names, few.

    >>> _some(["a", "b", "c"], most=2)
    'a, b, …'
    """
    return ", ".join(names[:most] + ["…"] * (len(names) > most))
