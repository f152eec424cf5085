"""
Large libraries imported in less time.

Torch and transformers make some hundred thousand objects that stay, and Python's collector of cycles looks through all
of them again and again while they grow: an eighth of the seconds from a process' start to its first prediction.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """
    Look for no cycles meanwhile, and leave the collector as it was. What was made counts as old then, which stays.

    For imports alone: of what a load makes and drops, a gigabyte may hang on a cycle.

    >>> with uncollected():
    ...     gc.isenabled()
    False
    >>> gc.isenabled()
    True
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            # All to the oldest generation without a look at it; what somebody froze for himself stays frozen.
            if gc.get_freeze_count() == 0:
                gc.freeze()
                gc.unfreeze()
            gc.enable()
