"""How arguments of a command line become values: pairs and JSON. Light, for Airflow reads it in every process."""

from __future__ import annotations

import argparse
import re
from datetime import timedelta
from typing import Any

from airflow_provider_hfreg.signatures.typed_values import read_typed


def tag_pair(text: str) -> tuple[str, str]:
    """
    Read ``key=value``; both are text.

    >>> tag_pair("team=risk=low")
    ('team', 'risk=low')

    :raises ArgumentTypeError: no ``=``.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise argparse.ArgumentTypeError(f"{text!r} is no key=value")
    return key, value


def tag_filter(text: str) -> tuple[str, str | None]:
    """
    Read ``key=value``, or ``key`` for any value.

    >>> tag_filter("team"), tag_filter("team=")
    (('team', None), ('team', ''))
    """
    key, equals, value = text.partition("=")
    return key, value if equals else None


def json_pair(text: str) -> tuple[str, Any]:
    """
    Read ``name=value``, where a value that is no JSON is text.

    >>> json_pair("accuracy=0.91"), json_pair("labels=[1, 2]"), json_pair("note=held out")
    (('accuracy', 0.91), ('labels', [1, 2]), ('note', 'held out'))

    :raises ArgumentTypeError: no ``=``, JSON that was begun and is broken, or what looks like a number and is none: as
        a text it would be compared with no number.
    """
    name, value = tag_pair(text)
    try:
        typed = read_typed(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"the value of {name!r} is {error}; or, if it is a text, in double quotes inside of single ones: "
            f"'{name}=\"{value:.40}\"'"
        ) from None
    if typed == value and value.startswith(("[", "{", '"')):
        raise argparse.ArgumentTypeError(f"the value of {name!r} is no JSON: {value!r:.80}")
    return name, typed


def row_limit(text: str) -> int | float:
    """
    Read a number of rows, or a share of them.

    >>> row_limit("100"), row_limit("0.01")
    (100, 0.01)
    """
    return float(text) if "." in text else int(text)


def age(text: str) -> timedelta:
    """
    Read days or hours.

    >>> age("30d"), age("12h")
    (datetime.timedelta(days=30), datetime.timedelta(seconds=43200))

    :raises ArgumentTypeError: anything else.
    """
    match = re.fullmatch(r"([0-9]{1,5})([dh])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no age: write days or hours, such as 30d or 12h")
    return timedelta(days=int(match[1])) if match[2] == "d" else timedelta(hours=int(match[1]))
