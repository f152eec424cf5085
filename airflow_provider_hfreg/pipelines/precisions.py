"""
The precisions that a network may be asked to compute in, by name, and what each means for the numbers. Names alone:
whoever only sends, follows or finishes a run knows them without torch.
"""

from __future__ import annotations

from collections.abc import Mapping

PRECISIONS: Mapping[str, str] = {
    "float32": "scores as transformers' own pipeline gives them, within 1e-5",
    "bfloat16": "8 significant bits: scores within about 1e-2 of float32's; labels that are closer may change places",
    "float16": "11 significant bits, nothing above 65504: scores within about 1e-3 of float32's, or none on overflow",
}
"""Each precision and what it means for the numbers."""

ELEMENT_BYTES: Mapping[str, int] = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
    "int8": 1,
    "uint8": 1,
}
"""Bytes of one weight, by the dtypes that versions are logged in."""

_SHORT = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}

PRECISION_NAMES = (*PRECISIONS, *_SHORT)
"""All names that a precision may be given by."""


def find_precision(given: object) -> str | None:
    """
    Return a precision by its whole name; None where there is none of this one.

    >>> find_precision("bf16"), find_precision("bfloat16"), find_precision("int8"), find_precision(16)
    ('bfloat16', 'bfloat16', None, None)
    """
    name = _SHORT.get(given, given) if isinstance(given, str) else None
    return name if name in PRECISIONS else None


def meaning_of(precision: str) -> str:
    """
    Return what a dtype means for the numbers, also one that nobody can ask for.

    >>> meaning_of("float64")
    "as the version's own float64 gives them"
    """
    return PRECISIONS.get(precision, f"as the version's own {precision} gives them")
