"""
Where a host's cache lies and how large it may get: what is set, checked, and what holds where nothing is set.

Apart from the cache itself, so that settings are read without loading what it needs.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path

from airflow_provider_hfreg.errors import SettingsError

CHOOSE_FOLDER = "It lies in the cache folder: set another one ($HFREG_CACHE, or cache_folder)."
"""What else to do where logging finds no room to work in."""


def default_cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return ``$HFREG_CACHE``, else ``~/.cache/hfreg``."""
    chosen = environment.get("HFREG_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "hfreg"


def default_cache_size_gib(environment: Mapping[str, str] = os.environ) -> float | None:
    """
    Return ``$HFREG_CACHE_SIZE_GIB``; None where it is not set.

    :raises SettingsError: it is no size.
    """
    text = environment.get("HFREG_CACHE_SIZE_GIB", "")
    return check_cache_size_gib(text, "$HFREG_CACHE_SIZE_GIB") if text.strip() else None


def check_cache_size_gib(given: object, name: str) -> float:
    """
    Return a size.

    >>> check_cache_size_gib("200", "cache_size_gib")
    200.0

    :param name: of the setting, for the message.
    :raises SettingsError: neither a positive number nor ``inf``.
    """
    try:
        size_gib = float(str(given))
    except ValueError:
        size_gib = math.nan
    if isinstance(given, bool) or not size_gib > 0:
        raise SettingsError(
            f"{name} is {given!r:.80}; write a number of GiB above 0, such as 200, or inf for a cache without a bound."
        )
    return size_gib
