"""
In which numbers a model computes, on how many threads, and what that means for its results: said, not only chosen.

A version runs in the dtype that it was logged with. Whoever asks for another gets other numbers, and is told which; it
is never chosen for him. Threads change a result in its last bits only, batches likewise.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from airflow_provider_hfreg.errors import InvalidOptionError
from airflow_provider_hfreg.inference.frameworks import torch

PRECISIONS: Mapping[str, str] = {
    "float32": "scores as transformers' own pipeline gives them, within 1e-5",
    "bfloat16": "8 significant bits: scores within about 1e-2 of float32's; labels that are closer may change places",
    "float16": "11 significant bits, nothing above 65504: scores within about 1e-3 of float32's, or none on overflow",
}
"""Each precision and what it means for the numbers."""

_SHORT = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def precision_named(given: str | None) -> str | None:
    """
    Return a precision by its whole name; None for the version's own.

    >>> precision_named("bf16")
    'bfloat16'

    :raises InvalidOptionError: there is none of this name.
    """
    if given is None:
        return None
    name = _SHORT.get(given, given)
    if name not in PRECISIONS:
        known = ", ".join([*PRECISIONS, *_SHORT])
        raise InvalidOptionError(f"precision is {given!r}; it must be one of {known}, or None for the version's own.")
    return name


@contextlib.contextmanager
def threads_of(threads: int | None) -> Iterator[None]:
    """Let torch compute on so many threads, and on as many as before afterwards; None changes nothing."""
    before = torch.get_num_threads()
    if threads is None or threads == before:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def described(engine: Any, threads: int | None) -> dict[str, Any]:
    """
    Return what a run's record says of its numbers.

    :param engine: that ran, of either kind.
    :param threads: that were asked for.
    """
    loaded = getattr(engine, "loaded", None)
    if loaded is None:  # a method of a pipeline object, in whatever numbers it computes
        return {"threads": threads or torch.get_num_threads()}
    precision = str(loaded.network.dtype).removeprefix("torch.")
    return {
        "precision": precision,
        "numerics": PRECISIONS.get(precision, f"as the version's own {precision} gives them"),
        "threads": threads or torch.get_num_threads(),
        "token_budget": engine.token_budget,
    }
