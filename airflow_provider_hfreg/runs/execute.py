"""
One shard: read its rows, run them, write its part, commit it.

All it needs is ``run.json``, the shard's index and a loaded model, so that a process that did not plan the run can do
it. Rows come out in the order of the input; every row of a window has a result or is quarantined, which is checked
window by window: an engine that lost or doubled a row stops the run before anything of the shard is committed.
"""

from __future__ import annotations

import itertools
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from airflow_provider_hfreg.errors import (
    InputChangedError,
    KeyNotFoundError,
    ObjectChangedError,
    RowsNotConservedError,
    RunCancelledError,
)
from airflow_provider_hfreg.runs import layout
from airflow_provider_hfreg.runs.commit import Marker, WrittenShard, commit_shard
from airflow_provider_hfreg.runs.memory import give_back
from airflow_provider_hfreg.runs.partitions import own_columns, with_partition
from airflow_provider_hfreg.runs.parts import ParquetPart, QuarantinedRow, errors_batch, errors_schema
from airflow_provider_hfreg.runs.plan import PlannedFile, RunDocument
from airflow_provider_hfreg.runs.read_ahead import ReadAhead
from airflow_provider_hfreg.runs.report import Numerics, RowCounts, check_conserved
from airflow_provider_hfreg.runs.tables import READERS
from airflow_provider_hfreg.runs.tables.windows import BrokenRow, TableWindow, rewindow
from airflow_provider_hfreg.runs.write_behind import WriteBehind
from airflow_provider_hfreg.signatures.output_format import OutputFormat
from airflow_provider_hfreg.signatures.rows import RowError, Window, to_window
from airflow_provider_hfreg.storage.base import ObjectStore

if TYPE_CHECKING:
    from airflow_provider_hfreg.inference.calls import AnyEngine
    from airflow_provider_hfreg.inference.engine import WindowResult

Observe = Callable[[RowCounts, Sequence[QuarantinedRow]], None]
"""Told after each window what became of the shard's rows so far, and of the window's bad ones; may raise to stop."""


def read_shard(document: RunDocument, index: int, inputs: ObjectStore, *, window_rows: int) -> Iterator[TableWindow]:
    """
    Yield the rows of a shard in windows.

    :param inputs: the store at ``document.input_root``.
    :raises InputChangedError: a file is not the one that was planned, or changed while it was read.
    """
    return rewindow(_read_slices(document, index, inputs), window_rows)


def _read_slices(document: RunDocument, index: int, inputs: ObjectStore) -> Iterator[TableWindow]:
    reader, columns = READERS[document.input_format], document.columns.read
    for piece in document.shards[index].slices:
        file = document.files[piece.file]
        try:
            # Every request asks for the file as it was planned, so that none is needed to look whether it still is.
            windows = reader.read(
                inputs,
                file.key,
                piece.range,
                own_columns(columns, file.partition),
                header=file.header,
                first_row=file.first_row + piece.range.first_row,
                state=file.state,
            )
            for window in windows:
                yield with_partition(window, columns.schema, file.partition) if file.partition else window
        except KeyNotFoundError as error:
            raise InputChangedError(_changed(file, inputs, "is gone")) from error
        except ObjectChangedError as error:
            raise InputChangedError(_changed(file, inputs, "was changed")) from error


def _changed(file: PlannedFile, inputs: ObjectStore, what: str) -> str:
    return (
        f"The input file {inputs.location(file.key)} {what} since the run was planned. Rows of two states must not "
        "mix: bring the file back and run again, or begin a new run from the input as it is with rerun=True."
    )


@dataclass(frozen=True)
class WindowOutcome:
    """
    :param results: the output columns of the rows that worked, in the input's order.
    :param quarantined: the others, in the input's order.
    """

    results: pa.RecordBatch
    quarantined: tuple[QuarantinedRow, ...]
    counts: RowCounts


@dataclass(frozen=True)
class ReadyWindow:
    """
    A window whose rows were looked at and tokenised.

    :param good: its rows that the model can be given.
    :param run: runs them, given ``cancelled``.
    """

    table: TableWindow
    good: Window
    run: Callable[..., WindowResult]


def ready_window(document: RunDocument, window: TableWindow, engine: AnyEngine) -> ReadyWindow:
    """Do what needs no network: another window may be running meanwhile."""
    columns = document.columns
    bound = {f: None if column is None else window.batch.column(column) for f, column in columns.binding.items()}
    good = to_window(bound, columns.inputs, optional=columns.optional, names=columns.binding)
    run = engine.prepared(
        good.batch,
        document.request.params,
        output_format=OutputFormat(document.request.output_format),
        seed=document.seed,
        first_row=window.row[good.row],
    )
    return ReadyWindow(window, good, run)


def run_window(
    document: RunDocument, ready: ReadyWindow, inputs: ObjectStore, cancelled: Callable[[], bool]
) -> WindowOutcome:
    """Run one window of rows."""
    window, good, columns = ready.table, ready.good, document.columns
    result = ready.run(cancelled=cancelled)
    ok = good.row[result.row]
    failed = [(error.row, error) for error in good.errors]
    failed += [(int(good.row[error.row]), error) for error in result.errors]
    _check_each_once(ok, [place for place, _ in failed], window)
    quarantined = [_quarantined(document, window, place, error, inputs) for place, error in failed]
    quarantined += [_unreadable(document, row, inputs) for row in window.broken]
    outputs = result.outputs.columns
    passed = window.batch.take(pa.array(ok)).select(list(columns.passthrough)).columns
    return WindowOutcome(
        results=pa.RecordBatch.from_arrays([*passed, *outputs], schema=columns.output),
        quarantined=tuple(sorted(quarantined, key=lambda row: row.row)),
        counts=RowCounts(window.rows, len(ok), len(quarantined), result.truncated_rows),
    )


def _check_each_once(ok: npt.NDArray[np.int64], failed: Sequence[int], window: TableWindow) -> None:
    places = np.sort(np.concatenate([ok, np.array(failed, dtype=np.int64)]))
    if not np.array_equal(places, np.arange(len(window.row))):
        raise RowsNotConservedError(
            f"{len(window.row)} rows from row {window.row[0] if len(window.row) else '?'} on went into the model, and "
            f"{len(ok)} results and {len(failed)} errors came out, not one for each row. Nothing of this shard was "
            "committed. Please report this."
        )


def _quarantined(
    document: RunDocument, window: TableWindow, place: int, error: RowError, inputs: ObjectStore
) -> QuarantinedRow:
    row = int(window.row[place])
    file = document.file_of_row(row)
    # The engine speaks of features, the reader of columns; people know their columns.
    column = document.columns.binding.get(error.column, error.column) if error.column else None
    return QuarantinedRow(
        row, inputs.location(file.key), row - file.first_row, error.code, error.message, column, place=place
    )


def _unreadable(document: RunDocument, broken: BrokenRow, inputs: ObjectStore) -> QuarantinedRow:
    file = document.file_of_row(broken.row)
    return QuarantinedRow(
        broken.row,
        inputs.location(file.key),
        broken.row - file.first_row,
        broken.code,
        broken.message,
        broken.column,
        raw=broken.raw,
    )


def write_shard(
    document: RunDocument,
    index: int,
    windows: Iterable[TableWindow],
    folder: Path,
    *,
    engine: Callable[[], AnyEngine],
    inputs: ObjectStore,
    cancelled: Callable[[], bool],
    observe: Observe,
) -> WrittenShard:
    """Run a shard's windows and write its files below ``folder``."""
    attempt = uuid.uuid4().hex[:12]
    counts, numerics = RowCounts(), None
    part_path, errors_path = folder / "part.parquet", folder / "errors.parquet"
    with ExitStack() as files:
        part = files.enter_context(ParquetPart(part_path, document.columns.output))
        behind = files.enter_context(WriteBehind(part.add))
        errors: ParquetPart | None = None
        for loaded, window in _ready_ahead(document, windows, engine, files):
            if cancelled():
                raise RunCancelledError(_cancelled(document, index))
            outcome = run_window(document, window, inputs, cancelled)
            numerics = numerics_of(loaded)  # after it: a window may have found the budget too large
            behind.add(outcome.results)
            if outcome.quarantined:
                schema = errors_schema(document.columns.read.schema)
                errors = errors or files.enter_context(ParquetPart(errors_path, schema))
                errors.add(errors_batch(outcome.quarantined, window.table.batch))
            counts += outcome.counts
            observe(counts, outcome.quarantined)
        behind.wait()
        where = f"Shard {index} of the run {document.batch_run_id}"
        check_conserved(counts, planned_rows=document.shards[index].rows, where=where)
        errors_key = layout.errors_key(index, attempt, document.batch_run_id) if errors else None
        digest = document.version.content_digest
        first_row = document.shards[index].first_row
        marker = Marker(document.batch_run_id, index, first_row, attempt, digest, counts, errors_key, numerics)
        part.finish(marker.to_metadata())
        if errors:
            errors.finish()
    return WrittenShard(part_path, errors_path if errors else None, marker)


def _ready_ahead(
    document: RunDocument, windows: Iterable[TableWindow], engine: Callable[[], AnyEngine], files: ExitStack
) -> Iterator[tuple[AnyEngine, ReadyWindow]]:
    """
    Yield the windows with the engine, the next one being tokenised meanwhile.

    :param files: ends that with the shard.
    """
    coming = iter(windows)
    first = next(coming, None)
    if first is None:
        return  # and no model was loaded for it
    loaded = engine()  # in this thread, which is the one that computes
    ready = (ready_window(document, window, loaded) for window in itertools.chain([first], coming))
    for window in files.enter_context(ReadAhead(ready, depth=1)):
        yield loaded, window


def numerics_of(engine: AnyEngine) -> Numerics:
    """Return in which numbers an engine computes, in this thread."""
    from airflow_provider_hfreg.inference.numerics import described  # noqa: PLC0415 - torch, which the engine loaded

    told = described(engine, None)
    return Numerics(told.get("precision"), told["threads"], told.get("token_budget"), told.get("layout"))


def _cancelled(document: RunDocument, index: int) -> str:
    return (
        f"The run {document.batch_run_id} was stopped in shard {index}, as asked. The shards that are committed stay; "
        "running again goes on with the others."
    )


def execute_shard(
    document: RunDocument,
    index: int,
    windows: Iterable[TableWindow],
    *,
    engine: Callable[[], AnyEngine],
    inputs: ObjectStore,
    output: ObjectStore,
    cancelled: Callable[[], bool] = lambda: False,
    observe: Observe = lambda _counts, _rows: None,
) -> Marker:
    """
    Execute a shard and commit it.

    :param windows: of :func:`read_shard`.
    :param engine: gives the loaded model; not asked for a shard without rows.
    :param output: the store at the request's ``output``.
    :returns: the marker of the part that stands, another worker's where that was faster.
    """
    with tempfile.TemporaryDirectory(prefix="hfreg-shard-") as folder:
        written = write_shard(
            document,
            index,
            windows,
            Path(folder),
            engine=engine,
            inputs=inputs,
            cancelled=cancelled,
            observe=observe,
        )
        marker = commit_shard(output, document, written)
    give_back()
    return marker
