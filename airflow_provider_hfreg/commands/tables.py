"""
Tables and lists of facts for people, as plain text: columns as wide as their widest cell, nothing cut off.

Nothing is cut because a name that was cut cannot be copied into the next command; a terminal wraps a long line. A
character of Chinese, Japanese or Korean counts as the two columns that terminals give it.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_GAP = "  "


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """
    Return a table; columns that hold numbers alone are aligned to the right.

    >>> print(table(["name", "rows"], [["a", 1], ["größer", 1200], ["日本", None]]))
    name     rows
    a           1
    größer  1,200
    日本
    """
    plain = [list(row) for row in rows]
    cells = [[text_of(value) for value in row] for row in plain]
    is_numeric = [
        any(_is_number(row[place]) for row in plain)
        and all(row[place] is None or _is_number(row[place]) for row in plain)
        for place in range(len(columns))
    ]
    widths = [max(map(_width, column)) for column in zip(columns, *cells, strict=True)]
    lines = [
        [_padded(cell, width, right=right) for cell, width, right in zip(line, widths, is_numeric, strict=True)]
        for line in [list(columns), *cells]
    ]
    return "\n".join(_GAP.join(line).rstrip() for line in lines)


def facts(pairs: Mapping[str, Any]) -> str:
    """
    Return one line per fact; what is None or empty is left out.

    >>> print(facts({"task": "ner", "comment": None, "size": "2.5 MB"}))
    task  ner
    size  2.5 MB
    """
    told = {name: text_of(value) for name, value in pairs.items() if value not in (None, "", {}, [], ())}
    width = max(map(_width, told), default=0)
    indent = "\n" + " " * (width + len(_GAP))
    return "\n".join(f"{_padded(name, width)}{_GAP}{text.replace(chr(10), indent)}" for name, text in told.items())


def text_of(value: Any) -> str:
    """
    Return a value as a cell shows it: lists by commas, pairs as ``key=value``, other structures as JSON.

    >>> [text_of(value) for value in (None, True, 23703, 0.91, ["a", "b"], {"team": "risk", "report": {"f1": 0.5}})]
    ['', 'yes', '23,703', '0.91', 'a, b', 'team=risk, report={"f1": 0.5}']
    """
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_inner(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_inner, value))
    return str(value)


def size_text(size_bytes: int) -> str:
    """
    Return a size for people.

    >>> size_text(950), size_text(2_512_000), size_text(14_000_000_000)
    ('950 bytes', '2.5 MB', '14.0 GB')
    """
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes} bytes"


def _inner(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _padded(text: str, width: int, *, right: bool = False) -> str:
    room = " " * (width - _width(text))
    return room + text if right else text + room
