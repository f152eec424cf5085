"""
A window of rows through a method of the pipeline object: for functions whose signature was given.

What the method is called with and what becomes of its results, :mod:`airflow_provider_hfreg.pipelines.passthrough`
says. This engine has the face of :class:`~airflow_provider_hfreg.inference.engine.Engine`, so that frames, batch runs
and residents need not know which of the two they hold.

- One row a call, and so a row's result depends on nothing but the row: transformers' pipelines run a list one by one
  anyway. Where the signature has a parameter ``batch_size``, that many rows make a call, and it is passed on.
- A call that fails is bisected down to the rows at fault; out of memory halves the calls.
- The global generators of torch, numpy and Python draw from the run's seed and the position of the call's first row; a
  generator of the method's own is its own affair.

Which input a method must be able to run is not known here, so a method that fails for every row gives an error for
every row, and no refusal of the whole.
"""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from airflow_provider_hfreg.errors import InferenceError, ModelLoadError
from airflow_provider_hfreg.inference.devices import is_fatal, is_out_of_memory
from airflow_provider_hfreg.inference.engine import Engine, WindowResult
from airflow_provider_hfreg.inference.execution import Executor
from airflow_provider_hfreg.inference.frameworks import torch, transformers
from airflow_provider_hfreg.inference.sampling import stream_seed
from airflow_provider_hfreg.pipelines.base import IntArray
from airflow_provider_hfreg.pipelines.passthrough import columns_of, inputs_of, one_each
from airflow_provider_hfreg.signatures.output_format import OutputFormat
from airflow_provider_hfreg.signatures.rows import RowError
from airflow_provider_hfreg.signatures.signature import ModelSignature


class CallEngine:
    """
    Runs windows through one method.

    :param pipe: the pipeline object; the engine is its only user while it runs.
    :param target_method: the method's name.
    :param signature: of the method.
    :param window_rows: rows that a caller should give at a time.
    :raises ModelLoadError: the pipeline has no such method under the installed transformers.
    """

    def __init__(self, pipe: Any, target_method: str, signature: ModelSignature, *, window_rows: int = 4096) -> None:
        method = getattr(pipe, target_method, None)
        if not callable(method):
            raise ModelLoadError(
                f"The {type(pipe).__name__} that transformers {transformers.__version__} has for {pipe.task} has no "
                f"method {target_method!r}. Run the version under the transformers that it was logged with."
            )
        self.pipe = pipe
        self._method = method
        self.window_rows = window_rows
        self._signature = signature
        self._defaults = {
            param.name: param.default_value for param in signature.params if param.default_value is not None
        }

    def fit(self) -> None:
        """Do nothing: what a method computes with is its own affair."""

    def prepared(
        self, window: pa.RecordBatch, params: Mapping[str, Any] | None = None, **options: Any
    ) -> Callable[..., WindowResult]:
        """Return what runs the window; a method does all of it itself, so nothing is done before."""
        return functools.partial(self.run, window, params, **options)

    def run(
        self,
        window: pa.RecordBatch,
        params: Mapping[str, Any] | None = None,
        *,
        output_format: OutputFormat = OutputFormat.JSON,  # noqa: ARG002  the engines have one face
        seed: int = 0,
        first_row: int | IntArray = 0,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> WindowResult:
        """
        Run one window; see :meth:`~airflow_provider_hfreg.inference.engine.Engine.run`.

        :param output_format: makes no difference: whoever asks for structs of such a function was refused before.
        :raises RunCancelledError: ``cancelled`` said so.
        :raises DeviceMemoryError: one row alone does not fit.
        :raises InferenceError: the device is lost.
        """
        rows = np.arange(window.num_rows) + first_row if isinstance(first_row, int) else first_row
        arguments = {**self._defaults, **(params or {})}
        inputs, results = inputs_of(window), dict[int, Any]()

        def forward(positions: IntArray) -> None:
            with _random_numbers(self.pipe.device, stream_seed(seed, int(rows[positions[0]]), 0)):
                given = self._call([inputs[place] for place in positions], arguments)
            results.update(zip(positions.tolist(), given, strict=True))

        # Of this window: how many rows fit depends on the rows, and without a batch_size there is nothing to learn.
        executor = Executor(
            max(1, int(arguments.get("batch_size", 1))), is_out_of_memory=is_out_of_memory, is_fatal=is_fatal
        )
        failed = executor.run(
            np.arange(window.num_rows, dtype=np.int64),
            cut=_cut,
            forward=forward,
            prove=lambda: None,
            cancelled=cancelled,
        )
        made = columns_of(results, self._signature.outputs)
        errors = (*made.errors, *(RowError(row, "model_error", message) for row, message in failed.items()))
        names = [feature.name for feature in self._signature.outputs]
        return WindowResult(
            row=made.row,
            outputs=pa.RecordBatch.from_arrays([made.columns[name] for name in names], names=names),
            errors=tuple(sorted(errors, key=lambda error: error.row)),
            sequences=window.num_rows,
        )

    def _call(self, inputs: list[Any], arguments: Mapping[str, Any]) -> list[Any]:
        try:
            with torch.no_grad():  # a pipeline's __call__ does so itself, a method of one's own may not
                return one_each(self._method(inputs, **arguments), len(inputs))
        except InferenceError as error:
            if error.retryable:
                raise
            raise ValueError(str(error)) from error  # a stand-in's refusal of a row is that row's, not the run's


AnyEngine = Engine | CallEngine
"""What runs a window of rows, whichever way."""


def _cut(positions: IntArray, rows_per_call: int) -> Sequence[IntArray]:
    return [positions[start : start + rows_per_call] for start in range(0, len(positions), rows_per_call)]


@contextlib.contextmanager
def _random_numbers(device: torch.device, seed: int) -> Iterator[None]:
    """Seed the global generators of torch, numpy and Python, and leave them as they were."""
    of_numpy, of_python = np.random.get_state(), random.getstate()  # noqa: NPY002  the one that others draw from
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002  as above; it takes 32 bits
            random.seed(seed)
            yield
    finally:
        np.random.set_state(of_numpy)  # noqa: NPY002  as above
        random.setstate(of_python)
