"""
JSON as this package writes it: one text for one value, and a format version that is checked before anything is read.

A digest is taken over canonical JSON, so its rules are part of the format: keys sorted, no white space, non-ASCII as it
is, UTF-8, numbers as Python prints them, no NaN and no infinity (JSON has no word for them).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from types import UnionType
from typing import Any

import numpy as np

from airflow_provider_hfreg.errors import InvalidOptionError, UnknownFormatError

FORMAT_VERSION = 1


def canonical_json(value: Any) -> bytes:
    """
    Return the one JSON text of a value.

    >>> canonical_json({"b": 1, "a": ["größer", None]}).decode()
    '{"a":["größer",null],"b":1}'
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def digest_of(content: bytes) -> str:
    """Return ``sha256:<hex>`` of some bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def document_json(document: Mapping[str, Any]) -> bytes:
    """Return a document as it is stored: canonical, with the format version."""
    return canonical_json({"format_version": FORMAT_VERSION, **document})


def read_document(content: bytes, location: str) -> dict[str, Any]:
    """
    Return the object that a stored document holds.

    Keys that this version of the package does not know are left to the reader to ignore: a format version is raised
    only when ignoring them would be wrong.

    :raises UnknownFormatError: no JSON object, or of a newer format version.
    """
    try:
        document = json.loads(content)
        version = document["format_version"]
    except (ValueError, KeyError, TypeError):
        raise UnknownFormatError(
            f"{location} is no document of this package. Something else wrote there, or it is damaged: "
            "look at the object, and restore it from the bucket's versions if it was overwritten."
        ) from None
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise UnknownFormatError(
            f"{location} has format version {version}; this package reads up to {FORMAT_VERSION}. "
            "Upgrade airflow-provider-hfreg here to at least the version that wrote it."
        )
    return dict(document)


def field_of(plain: Mapping[str, Any], name: str, kind: type | UnionType, default: Any = None) -> Any:
    """
    Return a field of a stored document.

    :raises TypeError: it is of another type; the reader of the document turns this into an error with the location.
    """
    value = plain.get(name, default)
    if not isinstance(value, kind):
        raise TypeError(f"{name!r} is {value!r:.80}")
    return value


def texts_of(plain: Mapping[str, Any], name: str) -> dict[str, str]:
    """
    Return a field that holds text by name; nothing where it is absent.

    :raises TypeError: as :func:`field_of`.
    """
    texts = field_of(plain, name, dict, {})
    return {key: field_of(texts, key, str) for key in texts}


def plain_json(value: Any, where: str) -> Any:
    """
    Return ``value`` as plain JSON values: numpy numbers and arrays become Python's, tuples become lists.

    >>> plain_json({"f1": np.float32(0.5), "matrix": np.eye(2, dtype=int)}, "metrics")
    {'f1': 0.5, 'matrix': [[1, 0], [0, 1]]}

    :param where: how the message names the place, such as ``metrics``.
    :raises InvalidOptionError: something that JSON cannot hold, named by its path.
    """
    if isinstance(value, np.generic | np.ndarray):
        return plain_json(value.tolist(), where)
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float) and np.isfinite(value):
        return float(value)
    if isinstance(value, Mapping):
        return {_plain_key(key, where): plain_json(inner, f"{where}[{key!r}]") for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(inner, f"{where}[{position}]") for position, inner in enumerate(value)]
    raise InvalidOptionError(
        f"{where} is {value!r:.80}, which JSON cannot hold. Give text, a finite number, a boolean, None, "
        "a list or a dict of them."
    )


def _plain_key(key: object, where: str) -> str:
    if isinstance(key, str):
        return key
    raise InvalidOptionError(f"{where} has the key {key!r}; keys must be text.")
