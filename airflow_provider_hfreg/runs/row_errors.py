"""How many rows may be quarantined, watched while a run goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from airflow_provider_hfreg.errors import TooManyRowErrorsError
from airflow_provider_hfreg.runs.parts import QuarantinedRow
from airflow_provider_hfreg.runs.report import RowCounts
from airflow_provider_hfreg.runs.spec import BatchRequest, most_row_errors


class RowErrorWatch:
    """
    Stops a run as soon as it can no longer pass: a share of rows is a number of them, since all rows are known.

    What one call sees is watched; ``total`` also counts what earlier calls committed.

    :param rows: of the whole input.
    """

    def __init__(self, request: BatchRequest, rows: int) -> None:
        self._request = request
        self._rows = rows
        self._limit = most_row_errors(request.max_row_errors, rows)
        self._codes: Counter[str] = Counter()
        self._first: QuarantinedRow | None = None

    def check(self, quarantined: Sequence[QuarantinedRow], total: int) -> None:
        """
        Take a window's quarantined rows.

        :param total: quarantined rows of the run so far, these included.
        :raises TooManyRowErrorsError: the run cannot pass any more, or no row may fail.
        """
        if quarantined:
            self._codes.update(row.code for row in quarantined)
            self._first = self._first or quarantined[0]
            if self._request.on_row_error == "fail":
                raise TooManyRowErrorsError(self._one_failed(quarantined[0]))
        check_policy(self._request, total)
        if self._limit is not None and total > self._limit:
            raise TooManyRowErrorsError(self._too_many(total))

    def _one_failed(self, row: QuarantinedRow) -> str:
        return (
            f"{_described(row)}. With on_row_error='fail' the first such row ends the run. Correct the input, or let "
            "the other rows go on with on_row_error='quarantine'; shards that are committed are kept."
        )

    def _too_many(self, total: int) -> str:
        allowed = f"max_row_errors={self._request.max_row_errors!r} allows {self._limit}"
        kinds = ", ".join(f"{code} {count}" for code, count in self._codes.most_common())
        seen = f" By reason: {kinds}. {_described(self._first)}." if self._first else ""
        return (
            f"{total} of {self._rows} rows cannot be run, and {allowed}.{seen} Correct the input, or raise "
            "max_row_errors and run again: shards that are committed are kept."
        )


def check_policy(request: BatchRequest, total: int) -> None:
    """
    Refuse rows that were quarantined under another policy: by an earlier try, or by a run that is finished.

    :raises TooManyRowErrorsError: there are some, and no row may fail.
    """
    if request.on_row_error == "fail" and total:
        raise TooManyRowErrorsError(
            f"{total} rows of this run were quarantined by an earlier try, and on_row_error='fail' allows none. "
            "Correct the input, or accept them with on_row_error='quarantine'."
        )


def check_outcome(request: BatchRequest, counts: RowCounts) -> None:
    """
    Refuse the outcome of a whole run that its request does not allow, also of one that was finished under another.

    A run in which no row worked is refused unless ``max_row_errors`` says that even this is wanted: it is nearly always
    a wrong column, and must not look like a success.

    >>> check_outcome(BatchRequest("file:///in", "file:///out", max_row_errors=1.0), RowCounts(2, 0, 2))
    >>> check_outcome(BatchRequest("file:///in", "file:///out"), RowCounts(2, 0, 2))
    Traceback (most recent call last):
        ...
    airflow_provider_hfreg.errors.TooManyRowErrorsError: ...

    :raises TooManyRowErrorsError: it does not.
    """
    RowErrorWatch(request, counts.rows_in).check((), counts.rows_quarantined)
    if counts.rows_in and not counts.rows_ok and request.max_row_errors is None:
        raise TooManyRowErrorsError(
            f"None of the {counts.rows_in} rows could be run; the quarantined rows in the output's _hfreg folder tell "
            "why. Most likely the wrong column is mapped to the model's input: correct that and run again with "
            "rerun=True. If even this outcome is wanted, set max_row_errors=1.0."
        )


def _described(row: QuarantinedRow) -> str:
    column = f", column {row.column!r}" if row.column else ""
    return f"Row {row.file_row} of {row.file}{column} ({row.code}): {row.message}"
