"""
``zero-shot-classification``: a text and the row's own labels, judged by a model of natural language inference.

Each label becomes a hypothesis (``hypothesis_template``), and each pair of text and hypothesis one sequence. A row
gives ``sequence`` (its text), ``labels`` and ``scores``, best first. With ``multi_label``, or a single label, each
label is judged alone (entailment against contradiction); otherwise the labels share one softmax. Among equal scores the
later label stands first, as in the pipeline.

Which logit is entailment, the model's ``label2id`` says, as for the pipeline; a model that does not say is taken to
have it last. A long text is cut, never its hypothesis. A pipeline built with ``candidate_labels`` uses them where a row
has none. ``hypothesis_template`` is filled by ``str.format``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from airflow_provider_hfreg.errors import UnknownParameterError
from airflow_provider_hfreg.pipelines.arguments import plain_arguments
from airflow_provider_hfreg.pipelines.base import (
    Forward,
    IntArray,
    Outputs,
    PipelineTask,
    Results,
    Sequences,
    TaskContext,
)
from airflow_provider_hfreg.pipelines.generation import with_defaults
from airflow_provider_hfreg.pipelines.scores import Scores, not_a_number, softmax
from airflow_provider_hfreg.signatures.features import DataType, FeatureSpec, ParamSpec
from airflow_provider_hfreg.signatures.rows import RowError
from airflow_provider_hfreg.signatures.signature import ModelSignature

_INPUTS = (
    FeatureSpec("sequences", DataType.STRING),
    FeatureSpec("candidate_labels", DataType.STRING, shape=(-1,)),
)
_OUTPUTS = (
    FeatureSpec("sequence", DataType.STRING),
    FeatureSpec("labels", DataType.STRING, shape=(-1,)),
    FeatureSpec("scores", DataType.DOUBLE, shape=(-1,)),
)
_PARAMS = (ParamSpec("hypothesis_template", DataType.STRING), ParamSpec("multi_label", DataType.BOOL))
_TEMPLATE = "This example is {}."


class ZeroShotClassification(PipelineTask):
    """See the module."""

    name: ClassVar[str] = "zero-shot-classification"
    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"
    heads: ClassVar[tuple[str, ...]] = ("ForSequenceClassification",)
    forward: ClassVar[Forward] = Forward.SEQUENCE_LOGITS
    arguments: ClassVar[frozenset[str]] = frozenset({spec.name for spec in _PARAMS} | {"candidate_labels"})

    def optional_inputs_under(self, parameters: Mapping[str, Any]) -> frozenset[str]:
        """Return the labels' column where the pipeline has labels of its own."""
        return frozenset({"candidate_labels"} if parameters.get("candidate_labels") else ())

    def signature(self, parameters: Mapping[str, Any]) -> ModelSignature:
        """Return the signature, whose labels are each row's own."""
        _template(parameters)
        return ModelSignature(_INPUTS, _OUTPUTS, with_defaults(_PARAMS, parameters))

    def parameters_of(
        self, preprocess: Mapping[str, Any], forward: Mapping[str, Any], postprocess: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the factory's arguments."""
        return plain_arguments({**preprocess, **forward, **postprocess})

    def preprocess(self, rows: pa.RecordBatch, context: TaskContext) -> Sequences:
        """Return a sequence per label, in the row's order; a row without a text or a label is an error."""
        errors = _errors(rows, context)
        good = np.setdiff1d(np.arange(rows.num_rows, dtype=np.int64), [error.row for error in errors])
        labels = _labels(rows, context).take(pa.array(good, pa.int64()))
        row = np.repeat(good, pc.list_value_length(labels).to_numpy(zero_copy_only=False))
        return Sequences(
            row=row,
            text=rows.column("sequences").take(pa.array(row, pa.int64())),
            text_pair=_hypotheses(labels.flatten(), _template(context.parameters)),
            encoding={"truncation": "only_first"},
            errors=errors,
        )

    def postprocess(self, outputs: Outputs, rows: pa.RecordBatch, context: TaskContext) -> Results:
        """Return each row's labels, best first; a row whose scores are no numbers is an error."""
        starts = np.flatnonzero(np.diff(outputs.row, prepend=-1))
        counts = np.diff(np.append(starts, len(outputs.row)))
        scores = _scores(outputs.values["logits"].astype(np.float32, copy=False), starts, counts, context)
        order = best_first(scores, np.repeat(np.arange(len(starts)), counts))
        row = outputs.row[starts]
        chosen = pa.array(row, pa.int64())
        offsets = pa.array(np.concatenate([starts, [len(outputs.row)]]), pa.int32())
        labels = _labels(rows, context).take(chosen).flatten()
        columns = {
            "sequence": rows.column("sequences").take(chosen),
            "labels": pa.ListArray.from_arrays(offsets, labels.take(pa.array(order, pa.int64()))),
            "scores": pa.ListArray.from_arrays(offsets, pa.array(scores[order], pa.float64())),
        }
        return _without_nan(Results(row, columns), np.isnan(scores), starts)


def best_first(scores: Scores, row: IntArray) -> IntArray:
    """
    Return positions by ascending row, within a row by descending score; of equal ones the later first.

    >>> best_first(np.array([0.5, 0.5, 0.2, 0.8], np.float32), np.array([0, 0, 1, 1])).tolist()
    [1, 0, 3, 2]
    """
    order: IntArray = np.lexsort((scores, -row))[::-1]
    return order


def _template(parameters: Mapping[str, Any]) -> str:
    """
    Return the hypothesis with a place for the label.

    :raises UnknownParameterError: it has no such place, or others beside it.
    """
    template = str(_TEMPLATE if parameters.get("hypothesis_template") is None else parameters["hypothesis_template"])
    try:
        filled = template.format("\N{BULLET}")
    except (IndexError, KeyError, ValueError, AttributeError):
        filled = template
    if filled == template:
        raise UnknownParameterError(
            f"hypothesis_template is {template!r}; it must hold one {{}} where the label goes, as in {_TEMPLATE!r}."
        )
    return template


def _labels(rows: pa.RecordBatch, context: TaskContext) -> pa.ListArray:
    """Return each row's labels, the pipeline's own where a row has none to say."""
    labels = rows.column("candidate_labels")
    own = context.parameters.get("candidate_labels")
    return pc.if_else(labels.is_null(), pa.scalar(own, labels.type), labels) if labels.null_count and own else labels


def _errors(rows: pa.RecordBatch, context: TaskContext) -> tuple[RowError, ...]:
    """Return an error for each row that the pipeline refuses, too."""
    unlabelled = pc.equal(pc.list_value_length(_labels(rows, context)), 0).to_numpy(zero_copy_only=False)
    empty = pc.equal(rows.column("sequences"), "").to_numpy(zero_copy_only=False)
    return tuple(
        RowError(row, "no_labels", "expected at least one label, found an empty list", "candidate_labels")
        if unlabelled[row]
        else RowError(row, "no_text", "expected a text to judge, found an empty one", "sequences")
        for row in np.flatnonzero(unlabelled | empty).tolist()
    )


def _hypotheses(labels: pa.StringArray, template: str) -> pa.StringArray:
    """Fill the template once per distinct label."""
    distinct = labels.dictionary_encode()
    filled: Sequence[str] = [template.format(label) for label in distinct.dictionary.to_pylist()]
    return pa.array(filled, pa.string()).take(distinct.indices)


def _scores(logits: Scores, starts: IntArray, counts: IntArray, context: TaskContext) -> Scores:
    """Return the score of each label; a row's labels stand from its start on."""
    if not len(logits):
        return np.empty(0, np.float32)
    entailment = _entailment(context.config)
    alone = np.repeat(counts == 1, counts) | bool(context.parameters.get("multi_label"))
    contradiction = -1 if entailment == 0 else 0
    against = softmax(logits[:, [contradiction, entailment]])[:, 1]
    return np.where(alone, against, _shared(logits[:, entailment], starts, counts))


def _entailment(config: Mapping[str, Any]) -> int:
    """
    Return the place of the entailment logit.

    >>> _entailment({"label2id": {"CONTRADICTION": 0, "ENTAILMENT": 2}}), _entailment({"label2id": {"yes": 0}})
    (2, -1)
    """
    names = (config.get("label2id") or {}).items()
    return next((int(place) for name, place in names if name.lower().startswith("entail")), -1)


def _shared(entailment: Scores, starts: IntArray, counts: IntArray) -> Scores:
    """Return the softmax over each row's labels."""
    with np.errstate(over="ignore", invalid="ignore"):
        powers = np.exp(entailment - np.repeat(np.maximum.reduceat(entailment, starts), counts))
        score: Scores = powers / np.repeat(np.add.reduceat(powers, starts), counts)
    return score


def _without_nan(results: Results, bad: npt.NDArray[np.bool_], starts: IntArray) -> Results:
    if not bad.any():
        return results
    failed = np.logical_or.reduceat(bad, starts)
    good = pa.array(np.flatnonzero(~failed), pa.int64())
    return Results(
        results.row[~failed],
        {name: column.take(good) for name, column in results.columns.items()},
        not_a_number(results.row[failed].tolist()),
    )
