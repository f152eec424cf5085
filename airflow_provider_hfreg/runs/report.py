"""What a batch run came to: a small plain value, kept as ``report.json`` and returned by an operator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from airflow_provider_hfreg.errors import RowsNotConservedError
from airflow_provider_hfreg.pipelines.precisions import meaning_of

COMPLETED = "completed"
ALREADY_COMPLETED = "already_completed"
_OF_SHARDS = ("threads", "token_budgets", "layouts")  # what a report tells of all shards, each once


@dataclass(frozen=True)
class Numerics:
    """
    In which numbers rows were computed, as it came about.

    :param precision: of the network; None for a method of a pipeline object, which computes in whatever it does.
    :param threads: of torch on the CPU.
    :param token_budget: of a batch; None where nobody counts tokens.
    :param layout: of a batch; None where nobody lays it out, or nobody said it.
    """

    precision: str | None
    threads: int
    token_budget: int | None
    layout: str | None = None


@dataclass(frozen=True)
class RunReport:
    """
    A finished run.

    :param status: ``completed`` by this call, or ``already_completed`` by an earlier one, nothing being touched.
    :param output: URL of the output folder.
    :param parts: how many part files hold the result.
    :param rows_in: of the input; equals ``rows_ok + rows_quarantined``.
    :param rows_truncated: rows of which the model saw only a beginning, being too long for it.
    :param shards_resumed: of ``shards_total``, those that were committed before the finishing call began.
    :param rows_per_s: of the rows that the finishing call computed; 0 where it computed none.
    :param errors_url: folder of the quarantined rows; None where there is none.
    :param precision: in which the shards were computed, as they tell; None where no shard does.
    :param numerics: what that means for the numbers.
    :param threads: of torch, of those who computed shards, each number once. They change a result in its last bits.
    :param token_budgets: of their batches, likewise; smaller ones where memory ran out.
    :param layouts: of their batches, likewise: ``packed`` without padding, ``padded``, or ``one length at a time``, and
        what else made them faster there.
    """

    status: str
    batch_run_id: str
    model_name: str
    version_name: str
    content_digest: str
    output: str
    parts: int
    rows_in: int
    rows_ok: int
    rows_quarantined: int
    rows_truncated: int
    shards_total: int
    shards_resumed: int
    rows_per_s: float
    elapsed_s: float
    errors_url: str | None
    report_url: str
    seed: int
    precision: str | None = None
    numerics: str | None = None
    threads: tuple[int, ...] = ()
    token_budgets: tuple[int, ...] = ()
    layouts: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        return asdict(self) | {name: list(getattr(self, name)) for name in _OF_SHARDS}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> RunReport:
        """
        Rebuild what :meth:`to_json` gave; what a later version of this package added is left out, and what an earlier
        one did not know is absent.
        """
        known = {name: plain[name] for name in cls.__dataclass_fields__ if name in plain}
        return cls(**known | {name: tuple(plain.get(name, ())) for name in _OF_SHARDS})


def told_numerics(shards: Iterable[Numerics | None]) -> dict[str, Any]:
    """
    Return what a report says of the numbers of its shards.

    >>> told_numerics([None, Numerics("bfloat16", 2, 8192), Numerics("bfloat16", 4, 8192)])["threads"]
    (2, 4)

    :param shards: what each tells; None for one without rows, or of an earlier version of this package.
    """
    told = [shard for shard in shards if shard is not None]
    precisions = sorted({shard.precision for shard in told if shard.precision is not None})
    return {
        "precision": ", ".join(precisions) or None,
        "numerics": "; ".join(map(meaning_of, precisions)) or None,
        "threads": tuple(sorted({shard.threads for shard in told})),
        "token_budgets": tuple(sorted({shard.token_budget for shard in told if shard.token_budget is not None})),
        "layouts": tuple(sorted({shard.layout for shard in told if shard.layout is not None})),
    }


@dataclass(frozen=True)
class RowCounts:
    """
    What became of some rows.

    >>> RowCounts(rows_in=3, rows_ok=2, rows_quarantined=1) + RowCounts(rows_in=1, rows_ok=1)
    RowCounts(rows_in=4, rows_ok=3, rows_quarantined=1, rows_truncated=0)
    """

    rows_in: int = 0
    rows_ok: int = 0
    rows_quarantined: int = 0
    rows_truncated: int = 0

    def __add__(self, other: RowCounts) -> RowCounts:
        return RowCounts(
            self.rows_in + other.rows_in,
            self.rows_ok + other.rows_ok,
            self.rows_quarantined + other.rows_quarantined,
            self.rows_truncated + other.rows_truncated,
        )


def check_conserved(counts: RowCounts, *, planned_rows: int, where: str) -> RowCounts:
    """
    Return the counts if no row was lost or doubled.

    >>> check_conserved(RowCounts(rows_in=3, rows_ok=1, rows_quarantined=1), planned_rows=3, where="shard 0")
    Traceback (most recent call last):
    ...
    airflow_provider_hfreg.errors.RowsNotConservedError: shard 0: 3 rows were planned, 3 were read, of which 1 have a \
result and 1 are quarantined. The run stops rather than lose or double a row; nothing was marked as finished. If the \
input was being written while it was read, run again with rerun=True when it is complete; else please report this.

    :raises RowsNotConservedError: the numbers do not add up.
    """
    if counts.rows_in == planned_rows == counts.rows_ok + counts.rows_quarantined:
        return counts
    raise RowsNotConservedError(
        f"{where}: {planned_rows} rows were planned, {counts.rows_in} were read, of which {counts.rows_ok} have a "
        f"result and {counts.rows_quarantined} are quarantined. The run stops rather than lose or double a row; "
        "nothing was marked as finished. If the input was being written while it was read, run again with rerun=True "
        "when it is complete; else please report this."
    )
