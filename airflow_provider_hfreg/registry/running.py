"""
A frame through a version: rows in windows to the engine, results back in the frame's order.

All rows run before anything is raised: the results of the good ones are never thrown away because of a bad one.
"""

from __future__ import annotations

import contextlib
import contextvars
import secrets
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from airflow_provider_hfreg.errors import InvalidOptionError, RowsFailedError
from airflow_provider_hfreg.pipelines.catalog import find_column_task
from airflow_provider_hfreg.signatures.frames import from_frame
from airflow_provider_hfreg.signatures.output_format import OutputFormat
from airflow_provider_hfreg.signatures.params import check_params
from airflow_provider_hfreg.signatures.rows import RowError

if TYPE_CHECKING:
    from airflow_provider_hfreg.inference.engine import WindowResult
    from airflow_provider_hfreg.registry.residency import Resident
    from airflow_provider_hfreg.registry.version import ModelVersion
    from airflow_provider_hfreg.signatures.rows import Window
    from airflow_provider_hfreg.versions.manifest import ModelFunction

T = TypeVar("T")

_WINDOW_ROWS = 4096
_SHOWN_ERRORS = 3


@dataclass(frozen=True)
class FrameResult:
    """
    What the engine gave for the rows of a frame.

    :param row: int64: the position in the frame of each output, ascending.
    :param outputs: the signature's output columns.
    :param errors: of all rows that have no output, ascending.
    """

    row: np.typing.NDArray[np.int64]
    outputs: pa.Table
    errors: tuple[RowError, ...]
    truncated_rows: int


def run_frame(
    version: ModelVersion,
    frame: Any,
    *,
    function: ModelFunction,
    params: Mapping[str, Any] | None,
    on_row_error: str,
    output_format: str,
    seed: int | None,
    token_budget: int | None,
    threads: int | None,
    resident: Callable[[], Resident],
) -> Any:
    """
    Run a frame; see :meth:`ModelVersion.run`.

    :param resident: gives the loaded model, called once all that can be refused without a model was.
    """
    from airflow_provider_hfreg.inference.results import to_frame  # noqa: PLC0415 - loads pandas

    if on_row_error not in ("raise", "null"):
        raise InvalidOptionError(f"on_row_error is {on_row_error!r}; write 'raise' or 'null'.")
    for name, count in {"threads": threads, "token_budget": token_budget}.items():
        if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
            raise InvalidOptionError(f"{name} is {count!r}; write a whole number from 1 on, or None.")
    signature = function.signature
    checked = check_params(params, signature.params, version.reference)
    columns = version.output_schema(output_format, function_name=function.target_method, params=params)
    window = from_frame(frame, signature.inputs, optional=version.optional_inputs(function.target_method))
    chosen_seed = secrets.randbits(32) if seed is None else seed
    if token_budget is not None and find_column_task(version.task, function.target_method) is None:
        raise InvalidOptionError(
            f"token_budget is {token_budget}, and {function.target_method!r} of {version.reference} is called with "
            "rows whose tokens nobody here counts. Leave it out."
        )
    loaded = resident()
    from airflow_provider_hfreg.inference.engine import Engine  # noqa: PLC0415 - torch
    from airflow_provider_hfreg.inference.numerics import described, threads_of  # noqa: PLC0415 - torch

    if isinstance(loaded.engine, Engine):
        loaded = replace(loaded, engine=loaded.engine.with_token_budget(token_budget))  # this run's own, its lock all's
    with threads_of(threads):
        result = _run_window(
            loaded, window, checked, output_format=OutputFormat(output_format), columns=columns, seed=chosen_seed
        )
    good = to_frame(result.outputs, signature, frame.index[result.row], truncated_rows=result.truncated_rows)
    if result.errors and on_row_error == "raise":
        raise _rows_failed(version, result, len(frame), good)
    whole = good
    if result.errors:
        outputs = _with_nulls(result, len(frame))
        whole = to_frame(outputs, signature, frame.index, truncated_rows=result.truncated_rows)
    whole.attrs["hfreg"] = {
        "version": version.reference,
        "content_digest": version.content_digest,
        "seed": chosen_seed,
        "failed_rows": len(result.errors),
        **described(loaded.engine, threads),
    }
    return whole


def _run_window(
    resident: Resident,
    window: Window,
    params: Mapping[str, Any],
    *,
    output_format: OutputFormat,
    columns: pa.Schema,
    seed: int,
) -> FrameResult:
    """Run the good rows a few thousand at a time, so that memory is bounded by two such windows and the outputs."""
    rows, outputs, errors, truncated_rows = [], [], list(window.errors), 0

    def prepared(start: int) -> tuple[npt.NDArray[np.int64], Callable[..., WindowResult]]:
        positions = window.row[start : start + _WINDOW_ROWS]  # of these rows in the frame
        # By positions in the frame: a row's drawn text must not change when a row before it is bad.
        batch = window.batch.slice(start, _WINDOW_ROWS)
        return positions, resident.engine.prepared(
            batch, params, output_format=output_format, seed=seed, first_row=positions
        )

    if window.batch.num_rows > _WINDOW_ROWS:
        resident.engine.fit()  # else the first two windows would wait for the one that is tokenised beside them
    with contextlib.closing(_one_ahead(prepared, range(0, window.batch.num_rows, _WINDOW_ROWS))) as ready:
        for positions, run in ready:
            with resident.lock:  # per window, so that two callers take turns
                result = run(cancelled=lambda: False)
            rows.append(positions[result.row])
            outputs.append(result.outputs)
            errors.extend(replace(error, row=int(positions[error.row])) for error in result.errors)
            truncated_rows += result.truncated_rows
    row = np.concatenate(rows) if rows else np.array([], dtype=np.int64)
    table = pa.Table.from_batches(outputs, schema=columns)
    return FrameResult(row, table, tuple(sorted(errors, key=lambda error: error.row)), truncated_rows)


def _one_ahead(make: Callable[[int], T], of: Sequence[int]) -> Generator[T, None, None]:
    """
    Yield what is made of each, the next one being made in another thread meanwhile; of a single one there is none.

    >>> list(_one_ahead(str, [1, 2, 3]))
    ['1', '2', '3']
    """
    with ThreadPoolExecutor(1, thread_name_prefix="hfreg-one-ahead") as beside:
        made = [make(each) for each in of[:1]]
        for each in of[1:]:
            coming = beside.submit(contextvars.copy_context().run, make, each)
            yield made.pop()
            made.append(coming.result())
        yield from made


def _with_nulls(result: FrameResult, length: int) -> pa.Table:
    """Return the outputs at their rows' places, null elsewhere."""
    place = np.full(length, -1, dtype=np.int64)
    place[result.row] = np.arange(len(result.row), dtype=np.int64)
    return result.outputs.take(pa.array(place, mask=place < 0))


def _rows_failed(version: ModelVersion, result: FrameResult, length: int, good: Any) -> RowsFailedError:
    shown = "; ".join(f"row {error.row} ({error.code}): {error.message}" for error in result.errors[:_SHOWN_ERRORS])
    more = "" if len(result.errors) <= _SHOWN_ERRORS else f"; and {len(result.errors) - _SHOWN_ERRORS} more"
    return RowsFailedError(
        f"{len(result.errors)} of {length} rows failed in {version.reference}: {shown}{more}. The other rows' results "
        "are in this error's .result, all failures in .errors; on_row_error='null' gives nulls in their place.",
        result=good,
        errors=result.errors,
    )
