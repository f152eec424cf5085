"""What a command is asked and what it replies: plain values on both sides, so that it can be called without a shell."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_hfreg.registry import Registry
    from airflow_provider_hfreg.storage.settings import S3Settings


@dataclass(frozen=True)
class Place:
    """
    Where a registry lies and how to reach it.

    :param s3: None takes what boto3 finds.
    :param cache_folder: None for ``$HFREG_CACHE``, else the user's own.
    :param cache_size_gib: None for ``$HFREG_CACHE_SIZE_GIB``, else half of the disk.
    """

    url: str
    s3: S3Settings | None = None
    cache_folder: str | None = None
    cache_size_gib: float | None = None
    read_only: bool = False

    def open(self) -> Registry:
        """Return the registry there; asks nothing of it yet."""
        from airflow_provider_hfreg.registry import Registry  # noqa: PLC0415 - loads numpy and pyarrow

        return Registry(
            self.url,
            s3=self.s3,
            cache_folder=self.cache_folder,
            cache_size_gib=self.cache_size_gib,
            read_only=self.read_only,
        )


@dataclass(frozen=True)
class Asked:
    """
    One call of a command.

    :param options: what was typed, by the names of the command's arguments.
    :param find_place: gives the registry's place; called by the commands that need one.
    :param find_target: gives the place of the registry that something is brought to, by the options and, for what they
        leave out, the place that it comes from; None: they name no other.
    """

    options: Namespace
    find_place: Callable[[Namespace], Place]
    find_target: Callable[[Namespace, Place], Place | None] = lambda _options, _source: None

    @cached_property
    def place(self) -> Place:
        """
        Where the registry lies.

        :raises SettingsError: nobody said it.
        """
        return self.find_place(self.options)

    @cached_property
    def registry(self) -> Registry:
        """The registry."""
        return self.place.open()

    @cached_property
    def target(self) -> Registry:
        """
        The registry that something is brought to: another one where the options name it, else this one.

        :raises SettingsError: they say who asks there, and not where that is.
        """
        place = self.find_target(self.options, self.place)
        return self.registry if place is None else place.open()


@dataclass(frozen=True)
class Reply:
    """
    What a command says.

    :param plain: JSON values, for scripts; the same facts as the text.
    :param text: for people.
    :param failed: the command did its work and found something wrong: exit status 1.
    """

    plain: Any
    text: str
    failed: bool = False
