"""
Which version of a library is installed here, without importing it.

Read once in a process: each look parses the library's description, a hundred kilobytes of text with some, and every
logging asks for ten of them.
"""

from __future__ import annotations

import functools
from importlib.metadata import PackageNotFoundError, version


def find_version(package: str) -> str | None:
    """
    Return the version of an installed library, or None; what is installed later is found then.

    :param package: as ``pip`` names it.
    """
    try:
        return _version(package)
    except PackageNotFoundError:
        return None


@functools.cache
def _version(package: str) -> str:
    return version(package)
