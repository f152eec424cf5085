"""The one rule by which rows become calls and results become columns, where the signature was given."""

import numpy as np
import pyarrow as pa
import pytest

from airflow_provider_hfreg.pipelines.passthrough import columns_of, inputs_of, one_each
from airflow_provider_hfreg.signatures import DataType, FeatureSpec

TEXT = FeatureSpec("outputs", DataType.STRING)
LABEL, SCORE = FeatureSpec("label", DataType.STRING), FeatureSpec("score", DataType.DOUBLE)


def told(results, *outputs):
    """Return the columns' values and the errors' messages by row."""
    made = columns_of(dict(enumerate(one_each(results, len(results)))), outputs)
    columns = {name: column.to_pylist() for name, column in made.columns.items()}
    return made.row.tolist(), columns, {error.row: error.message for error in made.errors}


def test_one_column_is_the_input_and_several_are_a_dict():
    assert inputs_of(pa.record_batch({"text": ["a", "b"]})) == ["a", "b"]
    two = pa.record_batch({"question": ["who?"], "words": [["a", "b"]]})
    assert inputs_of(two) == [{"question": "who?", "words": ["a", "b"]}]


def test_a_list_of_numbers_is_an_array_that_may_be_written_to():
    samples = pa.record_batch({"samples": pa.array([[0.5, 1.0], []], pa.list_(pa.float32()))})
    first, empty = inputs_of(samples.slice(0, 2))
    assert (first.dtype, first.tolist(), len(empty)) == (np.float32, [0.5, 1.0], 0)
    first[0] = 2.0
    assert inputs_of(samples)[0].tolist() == [0.5, 1.0]


def test_a_list_in_a_list_stays_one():
    pairs = pa.record_batch({"pairs": pa.array([[[1, 2]]], pa.list_(pa.list_(pa.int64(), 2)))})
    assert inputs_of(pairs) == [[[1, 2]]]


def test_text_stays_text_and_objects_become_json():
    objects = [{"label": "größer", "score": np.float64(0.5), "place": (np.int64(1), 2)}]
    expected = '[{"label": "größer", "score": 0.5, "place": [1, 2]}]'
    assert told(["größer", objects, None], TEXT) == ([0, 1, 2], {"outputs": ["größer", expected, None]}, {})


def test_a_dict_with_the_columns_name_is_taken_apart_and_another_one_is_json():
    assert told([{"outputs": "a", "more": 1}, {"text": "a"}], TEXT)[1] == {"outputs": ["a", '{"text": "a"}']}


def test_several_columns_are_taken_by_name_from_a_dict_or_a_list_of_just_one():
    results = [{"score": np.float32(0.5), "label": "no", "more": 1}, [{"label": "yes", "score": 1}]]
    assert told(results, LABEL, SCORE) == ([0, 1], {"label": ["no", "yes"], "score": [0.5, 1.0]}, {})


def test_a_result_that_does_not_fit_is_its_rows_error():
    results = [{"label": "no"}, {"label": "yes", "score": 1.0}, "no", {"label": 5, "score": "high"}]
    row, columns, errors = told(results, LABEL, SCORE)
    assert (row, columns) == ([1], {"label": ["yes"], "score": [1.0]})
    assert errors == {
        0: "expected a result with label, score, found one with label",
        2: "expected a result with label, score, found 'no'",
        3: "expected STRING for the output 'label', found 5",
    }


@pytest.mark.parametrize(("value", "found"), [(5, "found 5"), ([object()], "no JSON"), (b"x", "found b'x'")])
def test_what_is_no_text_is_not_made_one(value, found):
    assert found in told([value], TEXT)[2][0]


@pytest.mark.parametrize(
    ("outputs", "value", "found"),
    [
        (TEXT, [float("nan")], "expected STRING for the output 'outputs', found NaN in [nan]"),
        (TEXT, {"score": np.float32("nan")}, "found NaN in {'score': nan}"),
        (TEXT, float("nan"), "found NaN"),
        (TEXT, [float("inf")], "found what is no JSON"),
        (
            FeatureSpec("outputs", DataType.DOUBLE),
            np.float64("nan"),
            "expected DOUBLE for the output 'outputs', found NaN",
        ),
        (FeatureSpec("outputs", DataType.INT64), float("nan"), "found NaN"),
        (FeatureSpec("outputs", DataType.FLOAT, (-1,)), np.array([0.5, np.nan]), "found NaN in [0.5, nan]"),
        (FeatureSpec("outputs", DataType.FLOAT, (-1, -1)), [[0.5], [np.nan]], "found NaN in [[0.5], [nan]]"),
    ],
)
def test_nan_is_neither_json_nor_a_null_but_its_rows_error(outputs, value, found):
    row, _, errors = told([None, value], outputs)
    assert row == [0]
    assert found in errors[1]


def test_numbers_and_lists_have_their_types():
    vector = FeatureSpec("vector", DataType.FLOAT, (-1,))
    assert told(np.array([[0.5, 1.0], [2.0, 3.0]]), vector)[1] == {"vector": [[0.5, 1.0], [2.0, 3.0]]}
    assert "expected FLOAT[-1]" in told([[[0.5]]], vector)[2][0]


def test_no_row_that_worked_leaves_empty_columns():
    assert told(["no"], LABEL, SCORE)[:2] == ([], {"label": [], "score": []})


def test_results_are_one_for_each_input():
    assert one_each(({"a": index} for index in range(2)), 2) == [{"a": 0}, {"a": 1}]
    assert one_each({"text": "alone"}, 1) == [{"text": "alone"}]
    with pytest.raises(ValueError, match=r"list of 3 inputs and gave a list of 2, not a list of 3"):
        one_each([1, 2], 3)
    with pytest.raises(ValueError, match="gave a dict, not a list of 2 results"):
        one_each({"input_ids": [[1], [2]]}, 2)


def test_the_outer_list_of_a_single_input_may_be_missing():
    best = [{"token": 1}, {"token": 2}]
    assert one_each(best, 1) == one_each([best], 1) == [best]
    assert one_each(np.array([1.0, 2.0]), 1) == [[1.0, 2.0]]
    assert one_each([{"token": 1}], 1) == [{"token": 1}]  # not to be told from a list with one result
    with pytest.raises(ValueError, match="gave a list of 0"):
        one_each([], 1)
