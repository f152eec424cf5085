"""
What a person typed as a value: JSON, or text without quotes.

A text that was meant as a number is refused, because it would be compared with no number, and nobody would be told.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

_LIKE_A_NUMBER = re.compile(
    r"\s*([-+]?[.,]?\d[\d.,_ ]*(e[-+]?\d+)?\s*%?|[-+]?(nan|inf(inity)?))\s*",
    re.IGNORECASE,
)


def read_typed(text: str) -> Any:
    """
    Return the JSON value that a text is, else the text.

    >>> [read_typed(text) for text in ("0.9", "high", "2026-01-02", '"1,5"', '{"f1": 0.8}')]
    [0.9, 'high', '2026-01-02', '1,5', {'f1': 0.8}]

    :raises ValueError: it was meant as a number and is none that JSON has: ``.9``, ``0,9``, ``90%``, ``+1``, ``nan``.
    """
    try:
        return json.loads(text, parse_constant=_no_number)
    except ValueError:
        if _LIKE_A_NUMBER.fullmatch(text) is None:
            return text
        raise ValueError(
            f"{text!r:.40}, which looks like a number and is none: write it as JSON does, such as 0.9, 12 or 1e-3"
        ) from None


def _no_number(text: str) -> NoReturn:
    raise ValueError(text)
