"""What to offer in place of a name that is not there: a few that are, the likeliest first."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_SHOWN = 5


def closest_names(name: str, known: Iterable[str]) -> str:
    """
    Return a few of the known names for a message, those that look like ``name`` first, whatever the case of letters.

    >>> closest_names("FinBert", ["bloom", "finbert", "finbert-de"])
    "'finbert', 'finbert-de', 'bloom'"
    >>> closest_names("v1", [])
    'none'
    """
    names = sorted(known)

    def likeness(other: str) -> float:
        return difflib.SequenceMatcher(None, name.lower(), other.lower()).ratio()

    shown = sorted(names, key=likeness, reverse=True)[:_SHOWN]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(map(repr, shown)) or "none") + more
