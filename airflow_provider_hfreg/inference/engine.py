"""
A window of rows through a loaded model: one straight way.

rows → task's ``preprocess`` → distinct sequences → token ids → batches → forward → back to the rows' order →
task's ``postprocess`` → rows. Memory is bounded by the window, whatever the table. Rows that cannot be run come back as
:class:`~airflow_provider_hfreg.signatures.rows.RowError` values, the others as columns; nothing is lost in between.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from airflow_provider_hfreg.errors import UnknownParameterError
from airflow_provider_hfreg.inference.ahead import Ahead, side_stream
from airflow_provider_hfreg.inference.batch import Batch, Forwarder
from airflow_provider_hfreg.inference.batching import cut_batches
from airflow_provider_hfreg.inference.devices import is_fatal, is_out_of_memory
from airflow_provider_hfreg.inference.execution import Executor
from airflow_provider_hfreg.inference.forward import forwarder_for
from airflow_provider_hfreg.inference.generation_settings import Company
from airflow_provider_hfreg.inference.loading import LoadedPipeline
from airflow_provider_hfreg.inference.single_pass import SinglePass
from airflow_provider_hfreg.inference.tables import encode_tables
from airflow_provider_hfreg.inference.tokenization import Encoded, encode
from airflow_provider_hfreg.inference.work import Work, plan_work
from airflow_provider_hfreg.pipelines.base import Forward, IntArray, PipelineTask, Sequences, TaskContext
from airflow_provider_hfreg.signatures.features import FeatureSpec
from airflow_provider_hfreg.signatures.output_format import OutputFormat
from airflow_provider_hfreg.signatures.rows import RowError

# Padded tokens of a batch. On a CPU a batch that fits the caches is the fastest: 2,048 tokens of a network that is
# 1,536 wide, more of a narrow one, of which a forward costs more in calls than in arithmetic. Generation reads all
# weights for each token, so there company pays.
_CPU_BUDGET, _CPU_WIDTH, _CPU_GENERATION_BUDGET, _ACCELERATOR_BUDGET = 2_048, 1_536, 16_384, 65_536
_CPU_CALLS = 24  # tokens of a network as wide that take as long as all calls of a forward


@dataclass(frozen=True)
class WindowResult:
    """
    What a window of rows gave; every row is in ``row`` or in ``errors``, never in both.

    :param row: int64 [ok], ascending positions in the window.
    :param outputs: the signature's output columns [ok], lists of objects in the format that was asked for.
    :param errors: the other rows, by ascending position in the window.
    :param sequences: model inputs that were run, equal ones once.
    :param tokens: of those; ``padded_tokens`` counts the padding, too.
    :param truncated_rows: rows of which a text was cut to what the model reads.
    """

    row: IntArray
    outputs: pa.RecordBatch
    errors: tuple[RowError, ...] = ()
    sequences: int = 0
    tokens: int = 0
    padded_tokens: int = 0
    truncated_rows: int = 0


@dataclass(frozen=True)
class _Prepared:
    """A window whose texts are token ids; ``refused`` are rows that the task could not make texts of."""

    window: pa.RecordBatch
    context: TaskContext
    features: Sequence[FeatureSpec]
    refused: Sequence[RowError]
    work: Work
    loaded: LoadedPipeline
    forwarder: Forwarder
    forwarder_of: Callable[[LoadedPipeline], Forwarder]


@dataclass
class _Fitting:
    """
    The model of an engine and of those that share it, and whether it was fitted.

    :param fit: None once it was.
    :param has_run: a window.
    """

    loaded: LoadedPipeline
    fit: Callable[[LoadedPipeline], LoadedPipeline] | None
    has_run: bool = False


class Engine:
    """
    Runs windows through one loaded model, and remembers the batch size that fits.

    Threads may share it: one prepares a window while another runs one, and two that run take turns.

    Fitting takes as long as some tens of short texts, which is more than it can win for a process that runs one: so a
    first window of one sequence, which shares no batch, runs through the network as it came.

    :param loaded: the model; the engine is its only user while it runs.
    :param fit: makes it faster, see :mod:`.fitting`; called once. None: it is as it shall be.
    :param token_budget: padded tokens of one batch; None for what suits the device.
    :param window_rows: rows that a caller should give at a time: the wider, the less padding and the more memory.
    """

    def __init__(
        self,
        loaded: LoadedPipeline,
        *,
        fit: Callable[[LoadedPipeline], LoadedPipeline] | None = None,
        token_budget: int | None = None,
        window_rows: int = 4096,
    ) -> None:
        self._fitting = _Fitting(loaded, fit)
        self.window_rows = window_rows
        self._executor = _executor(token_budget or _token_budget(loaded))
        self._executors: dict[int, Executor] = {}  # by the budget that was asked for: what fits is learnt once
        self._tokenizing = threading.Lock()  # a tokenizer changes while it is told how to encode
        self._running = threading.Lock()  # a network is read through hooks, and the executor's batches are one run's
        self._stream = side_stream(loaded.device)  # one for all windows: a GPU keeps memory for each
        self._origin: Engine | None = None  # whose life holds the model's files

    @property
    def loaded(self) -> LoadedPipeline:
        """The model as it is now."""
        return self._fitting.loaded

    @property
    def is_fitted(self) -> bool:
        """Whether the model is as it will be."""
        return self._fitting.fit is None

    @property
    def token_budget(self) -> int:
        """Padded tokens of one batch, as far as it had to shrink."""
        return self._executor.token_budget

    def fit(self) -> None:
        """Fit the network, unless it was: what comes next may be anything, and no row waits for it then."""
        if self._fitting.fit is not None:
            with self._running, self._tokenizing:
                self._fit()

    def _fit(self) -> None:
        if self._fitting.fit is not None:  # another thread may have been faster
            # Anew in any case: what a loaded model remembers of its network is of the one that it was before.
            self._fitting.loaded, self._fitting.fit = replace(self._fitting.fit(self._fitting.loaded)), None

    def with_token_budget(self, token_budget: int | None) -> Engine:
        """Return an engine on the same model whose batches have another budget; None: this one."""
        if token_budget is None:
            return self
        other = copy.copy(self)
        other._executor = self._executors.setdefault(token_budget, _executor(token_budget))  # noqa: SLF001  of this class
        other._origin = self  # noqa: SLF001  as above
        return other

    def run(
        self,
        window: pa.RecordBatch,
        params: Mapping[str, Any] | None = None,
        *,
        output_format: OutputFormat = OutputFormat.JSON,
        seed: int = 0,
        first_row: int | IntArray = 0,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> WindowResult:
        """
        Run one window.

        :param window: the signature's input columns; required ones hold no null.
        :param params: of this run, over the version's own.
        :param output_format: of the output columns that hold lists of objects.
        :param seed: of the run: the same seed gives the same rows the same texts, in whatever windows.
        :param first_row: position of the window's first row in the run's whole input, or of each of its rows where
            some between them are missing.
        :param cancelled: asked between batches, and at each step of generation.
        :raises RunCancelledError: ``cancelled`` said so.
        :raises DeviceMemoryError: one sequence alone does not fit.
        :raises InferenceError: the model cannot run at all.
        """
        prepared = self.prepared(window, params, output_format=output_format, seed=seed, first_row=first_row)
        return prepared(cancelled=cancelled)

    def prepared(
        self,
        window: pa.RecordBatch,
        params: Mapping[str, Any] | None = None,
        *,
        output_format: OutputFormat = OutputFormat.JSON,
        seed: int = 0,
        first_row: int | IntArray = 0,
    ) -> Callable[..., WindowResult]:
        """
        Do what needs no network, and return what does the rest, given ``cancelled``; as :meth:`run`.

        One thread may prepare the next window while another runs this one.
        """
        rows = np.arange(window.num_rows) + first_row if isinstance(first_row, int) else first_row
        task = self.loaded.task
        parameters = {**self.loaded.context.parameters, **(params or {})}
        context = replace(self.loaded.context, parameters=parameters, output_format=output_format)
        features = _same_columns(task, self.loaded.context.parameters, context.parameters)
        with self._tokenizing:
            sequences = task.preprocess(window, context)
            settled = replace(context, parameters={**context.parameters, **sequences.settings})
            loaded, forwarder_of = self.loaded, functools.partial(forwarder_for, context=settled, seed=seed)
            forwarder = forwarder_of(loaded)
            work = plan_work(sequences, forwarder, encode=self._encode, token_limit=loaded.token_limit, rows=rows)
        prepared = _Prepared(window, context, features, sequences.errors, work, loaded, forwarder, forwarder_of)
        return functools.partial(self._run, prepared)

    def _run(self, prepared: _Prepared, *, cancelled: Callable[[], bool]) -> WindowResult:
        work = prepared.work
        with self._running:
            forwarder = self._forwarder(prepared)
            self._execute(work, forwarder, cancelled)
            self._fitting.has_run |= len(work) > 0
        outputs, failed = work.outputs(forwarder.empty())
        with self._tokenizing:
            results = self.loaded.task.postprocess(outputs, prepared.window, prepared.context)
        errors = {error.row: error for error in (*results.errors, *failed, *prepared.refused)}
        return WindowResult(
            row=results.row,
            outputs=_record_batch(prepared.features, results.columns),
            errors=tuple(errors[row] for row in sorted(errors)),
            sequences=len(work),
            tokens=work.tokens,
            padded_tokens=work.padded_tokens,
            truncated_rows=work.truncated_rows(),
        )

    def _forwarder(self, prepared: _Prepared) -> Forwarder:
        """Return what runs a window, once the network is fitted if that is due; by this thread, whose network it is."""
        fitting = self._fitting
        if fitting.fit is None and fitting.loaded is prepared.loaded:
            return prepared.forwarder
        with self._tokenizing:
            if fitting.has_run or len(prepared.work) > 1:
                self._fit()
            # It may be fitted since the window was prepared, and then does not read what a network as it came does.
            same = fitting.loaded is prepared.loaded
            return prepared.forwarder if same else prepared.forwarder_of(fitting.loaded)

    def _encode(self, sequences: Sequences, chosen: IntArray) -> Encoded:
        tokenizer, limit = self.loaded.tokenizer, self.loaded.token_limit
        text, pair = sequences.text.take(chosen), sequences.text_pair
        pair = None if pair is None else pair.take(chosen)
        if self.loaded.task.forward is Forward.TABLE:
            return encode_tables(tokenizer, text, pair, sequences.encoding)
        return encode(tokenizer, text, pair, sequences.encoding, limit=limit, facts=sequences.facts)

    def _execute(self, work: Work, forwarder: Forwarder, cancelled: Callable[[], bool]) -> None:
        lengths, packed, most_padding = work.encoded.lengths, self.loaded.layout.packed, _most_padding(self.loaded)

        def cut(positions: IntArray, token_budget: int) -> Sequence[IntArray]:
            batches = cut_batches(
                lengths[positions],
                token_budget=(
                    1 if forwarder.company is Company.NONE else token_budget * forwarder.turns // forwarder.copies
                ),
                new_tokens=forwarder.new_tokens,
                equal_lengths=forwarder.company is Company.EQUAL_LENGTH,
                packed=packed,
                most_padding=most_padding,
            )
            return [positions[batch] for batch in batches]

        def batch_of(positions: IntArray) -> Batch:
            return work.batch(positions, self.token_budget, cancelled)

        ahead = self._ahead(forwarder, batch_of)

        def forward(positions: IntArray) -> None:
            batch = batch_of(positions) if ahead is None else ahead.take(positions)
            work.keep(positions, forwarder.run(batch), packed=packed)

        def prove() -> None:
            with self._tokenizing:
                shortest = self._encode(_shortest(self.loaded.task.forward), np.zeros(1, np.int64))
            forwarder.run(Batch(shortest.columns, [(0, 0)]))

        with contextlib.nullcontext() if ahead is None else contextlib.closing(ahead):
            work.failed = self._executor.run(
                np.arange(len(lengths), dtype=np.int64), cut=cut, forward=forward, prove=prove, cancelled=cancelled
            )

    def _ahead(self, forwarder: Forwarder, batch_of: Callable[[IntArray], Batch]) -> Ahead | None:
        if self._stream is None or not isinstance(forwarder, SinglePass):
            return None
        return Ahead(forwarder, batch_of, following=self._executor.find_next, stream=self._stream)


def _executor(token_budget: int) -> Executor:
    return Executor(token_budget, is_out_of_memory=is_out_of_memory, is_fatal=is_fatal)


def _shortest(forward: Forward) -> Sequences:
    """Return the shortest text there is, with the smallest table where the model reads tables."""
    table = pa.array(['{"a": ["a"]}']) if forward is Forward.TABLE else None
    return Sequences(np.zeros(1, np.int64), pa.array(["a"]), table)


def _token_budget(loaded: LoadedPipeline) -> int:
    if loaded.device.type != "cpu":
        return _ACCELERATOR_BUDGET
    if loaded.task.forward is Forward.GENERATE:
        return _CPU_GENERATION_BUDGET
    return max(_CPU_BUDGET, min(_CPU_BUDGET * _CPU_WIDTH // _width(loaded), _CPU_GENERATION_BUDGET))


def _most_padding(loaded: LoadedPipeline) -> int | None:
    """Return the tokens of padding that cost as much as one more forward; None where company is worth any of them."""
    if loaded.device.type != "cpu" or loaded.task.forward is Forward.GENERATE:
        return None
    return max(_CPU_CALLS, _CPU_CALLS * _CPU_WIDTH // _width(loaded))


def _width(loaded: LoadedPipeline) -> int:
    config = loaded.network.config
    return int(getattr(config, "intermediate_size", None) or getattr(config, "hidden_dim", None) or _CPU_WIDTH)


def _same_columns(task: PipelineTask, built: Mapping[str, Any], run: Mapping[str, Any]) -> Sequence[FeatureSpec]:
    """
    Return the version's output columns.

    :raises UnknownParameterError: the run's parameters would give others.
    """
    features = task.signature(built).outputs
    if run != built and task.signature(run).outputs != features:
        changed = ", ".join(f"{name}={value!r}" for name, value in run.items() if built.get(name) != value)
        raise UnknownParameterError(
            f"{changed} would change the output columns, and this version's are "
            f"{', '.join(feature.name for feature in features)}. Log a version that is built with it."
        )
    return features


def _record_batch(features: Sequence[FeatureSpec], columns: Mapping[str, pa.Array]) -> pa.RecordBatch:
    names = [feature.name for feature in features]
    return pa.RecordBatch.from_arrays([columns[name] for name in names], names=names)
