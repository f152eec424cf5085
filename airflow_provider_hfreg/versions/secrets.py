"""
Finding access tokens in what would be stored for many to read.

Two rules: a text that has the shape of a known token, wherever it stands; and a long text under a key that says it is a
secret (``api_key``, ``password``). The second looks at keys, so it does not take ``eos_token: "</s>"`` for one.

A message names the place and the kind, never the secret. It is a net, not a proof: a secret of unknown shape under an
innocent key passes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from airflow_provider_hfreg.errors import UnsafeModelError

# What repeats is bounded, or cannot begin within itself: the time grows with a text's length and not with its square,
# for a stranger chooses the text.
_SHAPES = (
    ("a Hugging Face token", re.compile(r"\bhf_[A-Za-z0-9]{30,}\b")),
    ("an AWS access key id", re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b")),
    ("an AWS secret key", re.compile(r"(?i)aws_?secret[a-z_]{0,40}\W{1,4}[A-Za-z0-9/+]{40}\b")),
    ("a GitHub token", re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{50,})\b")),
    ("a GitLab token", re.compile(r"\bglpat-[A-Za-z0-9_-]{20,}")),
    ("an OpenAI or Anthropic key", re.compile(r"\bsk-(?:proj-|ant-)?[A-Za-z0-9_-]{32,}")),
    ("a Slack token", re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}")),
    ("a Google API key", re.compile(r"\bAIza[A-Za-z0-9_-]{35}\b")),
    ("a private key", re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")),
    ("a JSON web token", re.compile(r"\beyJ[A-Za-z0-9_-]{10,1000}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10}")),
    ("a password in a URL", re.compile(r"\w://[^\s/:@]+:[^\s/:@]{3,}@")),
)
_SECRET_KEY = re.compile(
    r"(?i)(?:.*[_-])?(?:password|passwd|secret|secret_?access_?key|api_?key|access_?key|access_?token|auth_?token|hf_?token"
    r"|bearer)|token"
)
_SECRET_TEXT = re.compile(r"[^\s<>\[\]]{12,}")


def find_secret(value: Any, place: str = "") -> tuple[str, str] | None:
    """
    Return the place and the kind of the first secret in a JSON value, or None.

    >>> find_secret({"note": "key hf_" + "a" * 34}, "tags")
    ("tags['note']", 'a Hugging Face token')
    >>> find_secret({"eos_token": "</s>", "sha": "3f" * 20}, "config.json") is None
    True
    """
    for inner_place, key, text in _texts(value, place, ""):
        for kind, shape in _SHAPES:
            if shape.search(text):
                return inner_place, kind
        if _SECRET_KEY.fullmatch(key) and _SECRET_TEXT.fullmatch(text):
            return inner_place, "a text that its key calls secret"
    return None


def check_no_secret(value: Any, place: str) -> None:
    """
    Raise where a JSON value holds an access token.

    :param place: names the value in the message: ``tags``, ``config.json``.
    :raises UnsafeModelError: it does; the message names the place and never the secret.
    """
    found = find_secret(value, place)
    if found is not None:
        raise UnsafeModelError(
            f"{found[0]} holds {found[1]}. What is stored in a registry is read by many: remove it there, and renew "
            "the secret if others may have seen it. Nothing was uploaded."
        )


def _texts(value: Any, place: str, key: str) -> Iterator[tuple[str, str, str]]:
    """Yield (place, nearest key, text) of every text in a JSON value, its keys included."""
    if isinstance(value, str):
        yield place, key, value
    elif isinstance(value, Mapping):
        for inner_key, inner in value.items():
            # A secret used as a key must not be repeated by the place either.
            yield f"a key of {place}", "", inner_key
            yield from _texts(inner, f"{place}[{inner_key!r}]", inner_key)
    elif isinstance(value, list | tuple):
        for position, inner in enumerate(value):
            yield from _texts(inner, f"{place}[{position}]", key)
