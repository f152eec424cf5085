"""
How the missing shards of a run are executed: the seam between a batch run and where its work is done.

:func:`~airflow_provider_hfreg.runs.batch.run_prepared` decides, plans, counts and finishes; an :class:`Execution` turns
shards into committed parts. In this file is the one that does it here, in order, the next shard's rows being read
meanwhile. The other one sends them to an executor pool (``workers``).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from airflow_provider_hfreg.errors import UnsafeModelError
from airflow_provider_hfreg.runs.commit import Marker, find_marker
from airflow_provider_hfreg.runs.execute import execute_shard, read_shard
from airflow_provider_hfreg.runs.read_ahead import ReadAhead

if TYPE_CHECKING:
    from airflow_provider_hfreg.inference.calls import AnyEngine
    from airflow_provider_hfreg.registry.version import ModelVersion
    from airflow_provider_hfreg.runs.asking import Ask
    from airflow_provider_hfreg.runs.begun import BegunRun
    from airflow_provider_hfreg.runs.parts import QuarantinedRow
    from airflow_provider_hfreg.runs.plan import RunDocument
    from airflow_provider_hfreg.runs.report import RowCounts
    from airflow_provider_hfreg.runs.spec import BatchRequest
    from airflow_provider_hfreg.runs.tables.windows import TableWindow

Observe = Callable[[int, "RowCounts", Sequence["QuarantinedRow"]], None]
"""Told of a shard what became of its rows so far, and its newly quarantined ones; may raise to stop the run."""


class Execution(Protocol):
    """Where the shards of a run are executed."""

    def check_ahead(self, ask: Ask) -> None:
        """Raise if no run of this ask can be executed, whatever its rows are; called before they are staged."""

    def check(self, document: RunDocument, ask: Ask) -> None:
        """Raise if the run cannot be executed; called before anything of it is written, or before it is resumed."""

    def execute(self, begun: BegunRun, ask: Ask, observe: Observe) -> Generator[Marker, None, None]:
        """
        Execute and commit the shards that a run misses.

        :return: yields the marker of each one's part, in whatever order.
        :raises HfregError: the run stops; what is committed stays.
        """


class InProcess:
    """
    Executes in this process, on the version's resident model.

    :param cancelled: asked between batches of rows.
    """

    def __init__(self, cancelled: Callable[[], bool] = lambda: False) -> None:
        self._cancelled = cancelled

    def check_ahead(self, ask: Ask) -> None:
        """Load the model, which stays resident: one that cannot be loaded leaves nothing behind."""
        load_engine(ask.version, ask.request)

    def check(self, document: RunDocument, ask: Ask) -> None:
        """Load the model, unless there is no row for it."""
        if document.rows:
            self.check_ahead(ask)

    def execute(self, begun: BegunRun, ask: Ask, observe: Observe) -> Generator[Marker, None, None]:
        """Execute one after the other, in order."""
        document, missing = begun.document, begun.missing
        engine = functools.cache(lambda: load_engine(ask.version, ask.request))
        # Closed here, not by the garbage collector: a failed run's error keeps its frames, and the reader with them.
        with contextlib.closing(_windows_ahead(document, missing, ask, engine)) as shards:
            for index, windows in shards:
                # Another worker of the same run may have been faster since the listing.
                marker = find_marker(ask.output, document, index)
                if marker is None:
                    with on_threads(ask.request.threads if document.rows else None):
                        marker = execute_shard(
                            document,
                            index,
                            windows,
                            engine=engine,
                            inputs=ask.inputs,
                            output=ask.output,
                            cancelled=self._cancelled,
                            observe=functools.partial(observe, index),
                        )
                yield marker


def check_consent(version: ModelVersion, request: BatchRequest) -> None:
    """
    Refuse to run Python files that whoever asks for the run did not agree to.

    :raises UnsafeModelError: the version has some.
    """
    if version.spec.remote_code and not request.trust_remote_code:
        raise UnsafeModelError(
            f"{version.reference} runs Python files of its own. Read them (`export` writes them into a folder), then "
            "set trust_remote_code=True in the run (on the command line: --trust-remote-code)."
        )


@contextlib.contextmanager
def on_threads(threads: int | None) -> Iterator[None]:
    """Compute on so many threads of torch, and on as many as before afterwards; None loads no torch for it."""
    if threads is None:
        yield
        return
    from airflow_provider_hfreg.inference.numerics import threads_of  # noqa: PLC0415 - torch

    with threads_of(threads):
        yield


def load_engine(version: ModelVersion, request: BatchRequest, *, device: str | None = None) -> AnyEngine:
    """
    Return the resident model of a version in the request's precision, with the request's own token budget.

    :param device: None chooses.
    :raises UnsafeModelError: it runs Python files of its own, and the request does not consent to it.
    """
    check_consent(version, request)  # before torch is loaded and a file is fetched
    from airflow_provider_hfreg.inference.engine import Engine  # noqa: PLC0415 - torch

    engine = version.engine(
        request.function_name,
        device=device,
        trust_remote_code=request.trust_remote_code,
        precision=request.precision,
    )
    # The resident engine is shared: this run's budget is its own.
    return engine.with_token_budget(request.token_budget) if isinstance(engine, Engine) else engine


def _windows_ahead(
    document: RunDocument, missing: Sequence[int], ask: Ask, engine: Callable[[], AnyEngine]
) -> Generator[tuple[int, ReadAhead[TableWindow]], None, None]:
    """Yield each shard with its windows, the next shard's first ones being read meanwhile."""

    def start(index: int) -> ReadAhead[TableWindow]:
        window_rows = engine().window_rows if document.rows else 1
        return ReadAhead(read_shard(document, index, ask.inputs, window_rows=window_rows))

    following = start(missing[0]) if missing else None
    try:
        for place, index in enumerate(missing, start=1):
            current, following = following, start(missing[place]) if place < len(missing) else None
            if current is not None:
                with current:
                    yield index, current
    finally:
        if following is not None:
            following.close()
