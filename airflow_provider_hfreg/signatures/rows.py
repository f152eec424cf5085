"""A row that cannot be run is a value, so that the others go on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RowError:
    """
    Why one row has no result.

    :param row: position of the row in what was given: a window, a shard or a frame, as the holder says.
    :param code: short, stable, for counting: ``null_value``, ``wrong_type``, ``bad_json``, ``model_error`` …
    :param message: what is wrong and what was expected, for people.
    :param column: the column at fault, in the caller's naming, where one is.
    """

    row: int
    code: str
    message: str
    column: str | None = None
