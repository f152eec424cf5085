"""
In which numbers a model computes, on how many threads, and what that means for its results: said, not only chosen.

A version runs in the dtype that it was logged with. Whoever asks for another gets other numbers, and is told which; it
is never chosen for him. Threads change a result in its last bits only, batches and the way they are laid out likewise.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from airflow_provider_hfreg.errors import InvalidOptionError
from airflow_provider_hfreg.inference.frameworks import torch
from airflow_provider_hfreg.inference.loading import LoadedPipeline
from airflow_provider_hfreg.pipelines.precisions import PRECISION_NAMES, find_precision, meaning_of

AS_IT_CAME = "as it came"
"""The layout of a first row, which shares no batch: the network was not looked at yet."""


def precision_named(given: str | None) -> str | None:
    """
    Return a precision by its whole name; None for the version's own.

    >>> precision_named("bf16")
    'bfloat16'

    :raises InvalidOptionError: there is none of this name.
    """
    name = find_precision(given)
    if name is None and given is not None:
        known = ", ".join(PRECISION_NAMES)
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
        "numerics": meaning_of(precision),
        "threads": threads or torch.get_num_threads(),
        "token_budget": engine.token_budget,
        "layout": layout_of(loaded) if engine.is_fitted else AS_IT_CAME,
    }


def layout_of(loaded: LoadedPipeline) -> str:
    """Return how a fitted model's batches are laid out (:mod:`.fitting`): in a few words."""
    lies = "packed" if loaded.layout.packed else "one length at a time" if loaded.reads_padding else "padded"
    more = {"rows leave": loaded.rows_leave, "rows wait": loaded.rows_wait, "prepacked layers": loaded.is_prepacked}
    return ", ".join([lies, *(name for name, is_so in more.items() if is_so)])
