"""zero-shot-classification: rows to pairs of text and hypothesis, logits to labels, without a model."""

import numpy as np
import pyarrow as pa
import pytest

from airflow_provider_hfreg.errors import UnknownParameterError
from airflow_provider_hfreg.pipelines.base import Outputs, TaskContext
from airflow_provider_hfreg.pipelines.catalog import get_task

TASK = get_task("zero-shot-classification")
CONTEXT = TaskContext(None, {"label2id": {"contradiction": 0, "entailment": 1}})


def window(*rows):
    texts, labels = zip(*rows, strict=True)
    return pa.record_batch({"sequences": texts, "candidate_labels": pa.array(labels, pa.list_(pa.string()))})


def results(logits, *rows, context=CONTEXT):
    row = np.repeat(np.arange(len(rows)), [len(labels) for _, labels in rows])
    return TASK.postprocess(Outputs(row, {"logits": np.array(logits, np.float32)}), window(*rows), context)


def test_each_label_is_a_pair_in_the_rows_order():
    sequences = TASK.preprocess(window(("x", ["b", "a"]), ("", ["c"]), ("y", ["a"]), ("z", [])), CONTEXT)
    assert sequences.row.tolist() == [0, 0, 2]
    assert sequences.text.to_pylist() == ["x", "x", "y"]
    assert sequences.text_pair.to_pylist() == [f"This example is {label}." for label in "baa"]
    assert [(error.row, error.code) for error in sequences.errors] == [(1, "no_text"), (3, "no_labels")]


@pytest.mark.parametrize("template", ["no place", "{} {}", "{label}", "{", "{.nothing}", ""])
def test_a_template_needs_one_place_for_the_label(template):
    with pytest.raises(UnknownParameterError, match="hypothesis_template"):
        TASK.signature({"hypothesis_template": template})


def test_of_equal_scores_the_later_label_stands_first():
    found = results([[0, 1], [0, 3], [0, 1]], ("x", ["a", "b", "c"]))
    assert found.columns["labels"].to_pylist() == [["b", "c", "a"]]


def test_a_single_label_is_judged_alone_and_several_share():
    found = results([[0, 2], [0, 2], [0, 2]], ("x", ["a"]), ("y", ["a", "b"]))
    alone = 1 / (1 + np.exp(-2))
    assert [pytest.approx(scores) for scores in found.columns["scores"].to_pylist()] == [[alone], [0.5, 0.5]]


def test_scores_stay_numbers_where_logits_are_large():
    found = results([[0, 1000], [0, 800]], ("x", ["a", "b"]))
    assert found.columns["scores"].to_pylist() == [[1.0, 0.0]]


def test_a_row_whose_scores_are_no_numbers_is_an_error():
    found = results([[0, np.nan], [0, 1], [0, 2]], ("x", ["a", "b"]), ("y", ["c"]))
    assert [(error.row, error.code) for error in found.errors] == [(0, "not_a_number")]
    assert (found.row.tolist(), found.columns["labels"].to_pylist()) == ([1], [["c"]])


def test_only_a_pipeline_with_labels_of_its_own_spares_the_column():
    assert TASK.optional_inputs_under({}) == frozenset()
    assert TASK.optional_inputs_under({"candidate_labels": ["a"]}) == {"candidate_labels"}
