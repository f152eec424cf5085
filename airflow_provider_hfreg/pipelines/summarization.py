"""
``summarization``: a shorter text for each document, as :mod:`~airflow_provider_hfreg.pipelines.text_to_text` says.

A row gives ``summary_text``; with ``num_return_sequences`` above 1 it is the JSON list of its summaries.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pyarrow as pa

from airflow_provider_hfreg.pipelines import text_to_text
from airflow_provider_hfreg.pipelines.base import Forward, Outputs, PipelineTask, Results, Sequences, TaskContext
from airflow_provider_hfreg.signatures.signature import ModelSignature


class Summarization(PipelineTask):
    """See the module."""

    name: ClassVar[str] = "summarization"
    auto_class: ClassVar[str] = "AutoModelForSeq2SeqLM"
    heads: ClassVar[tuple[str, ...]] = text_to_text.HEADS
    forward: ClassVar[Forward] = Forward.GENERATE
    arguments: ClassVar[frozenset[str]] = text_to_text.ARGUMENTS
    last_family: ClassVar[str | None] = text_to_text.LAST_FAMILY
    generation_defaults: ClassVar[Mapping[str, Any]] = text_to_text.DEFAULTS

    def signature(self, parameters: Mapping[str, Any]) -> ModelSignature:
        """Return the signature; one text and several have the same column."""
        return text_to_text.signature(self.name, ("documents", "summary_text"), parameters)

    def structs(self, parameters: Mapping[str, Any], generation: Mapping[str, Any]) -> Mapping[str, pa.DataType]:
        """Return the type of the lists, which a row with several texts has."""
        return text_to_text.structs("summary_text", parameters, generation)

    def parameters_of(
        self, preprocess: Mapping[str, Any], forward: Mapping[str, Any], postprocess: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the factory's arguments."""
        return text_to_text.arguments_of(self.name, preprocess, forward, postprocess)

    def preprocess(self, rows: pa.RecordBatch, context: TaskContext) -> Sequences:
        """Return each document after the model's prefix."""
        prefix = text_to_text.prefix_of(self.name, context.config)
        return text_to_text.sequences(rows.column("documents"), context, prefix=prefix)

    def postprocess(
        self,
        outputs: Outputs,
        rows: pa.RecordBatch,  # noqa: ARG002  other tasks give parts of the row back
        context: TaskContext,
    ) -> Results:
        """Return each document's summaries."""
        return text_to_text.results(outputs, context, "summary_text")
