"""Who logged a version, and on what: read from the process once per logging, for people to read later."""

from __future__ import annotations

import getpass
import platform
import socket
from datetime import UTC, datetime

from airflow_provider_hfreg.pipelines.installed import find_version

_PACKAGES = (
    "airflow-provider-hfreg",
    "apache-airflow",
    "huggingface_hub",
    "numpy",
    "safetensors",
    "sentencepiece",
    "tokenizers",
    "torch",
    "transformers",
)


def describe_environment() -> dict[str, str]:
    """Return the versions of Python and of the installed libraries that matter; imports none of them."""
    found = {package: find_version(package) for package in _PACKAGES}
    installed = {package: version for package, version in found.items() if version is not None}
    return {"python": platform.python_version(), "platform": platform.platform(), **installed}


def describe_writer() -> dict[str, str]:
    """Return user and host of this process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = "unknown"
    return {"user": user, "host": socket.gethostname()}


def now() -> str:
    """Return the time in UTC, ISO 8601, to the microsecond, always of one length: such texts sort by time."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
