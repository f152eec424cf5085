"""text-classification: the pipeline's labels and scores, by columns."""

import json
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from airflow_provider_hfreg.errors import UnknownParameterError, UnsupportedPipelineError
from airflow_provider_hfreg.pipelines.base import Outputs, TaskContext
from airflow_provider_hfreg.pipelines.catalog import get_task
from airflow_provider_hfreg.signatures.features import DataType
from airflow_provider_hfreg.testing import models

TASK = get_task("text-classification")
LABELS = {"0": "negative", "1": "größer", "2": "neutral"}
finite = st.floats(-100, 100, width=32)
logits = arrays.arrays(np.float32, st.tuples(st.integers(0, 9), st.integers(1, 17)), elements=finite)
# Few values, so that ties are met.
tied = arrays.arrays(np.float32, st.tuples(st.integers(0, 5), st.integers(2, 9)), elements=st.sampled_from([0, 1, 2]))
top_ks = st.one_of(st.none(), st.integers(-2, 20))
functions = st.sampled_from([None, "softmax", "sigmoid", "none", "SoftMax"])
problems = st.sampled_from(
    [None, "regression", "multi_label_classification", "single_label_classification"],
)


def context(parameters=None, **config):
    return TaskContext(tokenizer=None, config=config, parameters=parameters or {})


def window(texts, pairs=None):
    pairs = [None] * len(texts) if pairs is None else pairs
    return pa.record_batch({"text": pa.array(texts, pa.string()), "text_pair": pa.array(pairs, pa.string())})


def pipeline_scores(row, function, problem):
    """As transformers computes them for one row."""
    if function is None:
        if problem == "regression":
            function = "none"
        elif problem == "multi_label_classification" or len(row) == 1:
            function = "sigmoid"
        else:
            function = "softmax"
    if function.lower() == "sigmoid":
        return 1.0 / (1.0 + np.exp(-row))
    if function.lower() == "softmax":
        shifted = np.exp(row - np.max(row, axis=-1, keepdims=True))
        return shifted / shifted.sum(axis=-1, keepdims=True)
    return row


def pipeline_results(scores, labels, top_k):
    if top_k is None:
        return labels[scores.argmax().item()], scores.max().item()
    results = [{"label": labels[i], "score": score.item()} for i, score in enumerate(scores)]
    results.sort(key=lambda result: result["score"], reverse=True)
    return json.dumps(results[:top_k], ensure_ascii=False)


@given(logits | tied, top_ks, functions, problems)
def test_results_are_the_pipelines_row_by_row(values, top_k, function, problem):
    labels = [f"étiquette {index}" for index in range(values.shape[1])]
    given_parameters = {
        name: value for name, value in {"top_k": top_k, "function_to_apply": function}.items() if value is not None
    }
    told = context(given_parameters, problem_type=problem, id2label={str(i): label for i, label in enumerate(labels)})
    row = np.arange(len(values), dtype=np.int64) * 2
    results = TASK.postprocess(Outputs(row, {"logits": values}), window([]), told)
    with np.errstate(over="ignore"):
        expected = [pipeline_results(pipeline_scores(one, function, problem), labels, top_k) for one in values]
    columns = [column.to_pylist() for column in results.columns.values()]
    assert results.row.tolist() == row.tolist()
    assert results.errors == ()
    assert (list(zip(*columns, strict=True)) if top_k is None else columns[0]) == expected


@given(top_ks)
def test_the_columns_are_those_of_the_signature(top_k):
    given_parameters = {} if top_k is None else {"top_k": top_k}
    signature = TASK.signature(given_parameters)
    outputs = Outputs(np.array([0]), {"logits": np.zeros((1, 3), np.float32)})
    columns = TASK.postprocess(outputs, window(["a"]), context(given_parameters)).columns
    assert list(columns) == [feature.name for feature in signature.outputs]
    types = {DataType.STRING: pa.string(), DataType.DOUBLE: pa.float64()}
    assert [column.type for column in columns.values()] == [types[feature.dtype] for feature in signature.outputs]


def test_no_rows_give_columns_of_the_right_types():
    outputs = Outputs(np.empty(0, np.int64), {"logits": np.empty((0, 3), np.float32)})
    single = TASK.postprocess(outputs, window([]), context())
    several = TASK.postprocess(outputs, window([]), context({"top_k": 2}))
    assert [(column.type, len(column)) for column in single.columns.values()] == [(pa.string(), 0), (pa.float64(), 0)]
    assert [(column.type, len(column)) for column in several.columns.values()] == [(pa.string(), 0)]


def test_equal_scores_keep_the_order_of_the_labels():
    outputs = Outputs(np.array([0]), {"logits": np.zeros((1, 3), np.float32)})
    results = TASK.postprocess(outputs, window(["a"]), context({"top_k": 3}, id2label=LABELS))
    assert [found["label"] for found in json.loads(results.columns["outputs"][0].as_py())] == list(LABELS.values())


def test_a_row_of_nan_is_that_rows_error_and_the_others_go_on():
    values = np.array([[0, 1], [math.nan, 1], [1, 0]], np.float32)
    results = TASK.postprocess(Outputs(np.array([3, 5, 6]), {"logits": values}), window([]), context())
    assert results.row.tolist() == [3, 6]
    assert results.columns["label"].to_pylist() == ["LABEL_1", "LABEL_0"]
    assert [(error.row, error.code) for error in results.errors] == [(5, "not_a_number")]


def test_a_row_of_one_label_asked_for_two_is_still_a_list():
    outputs = Outputs(np.array([0]), {"logits": np.zeros((1, 1), np.float32)})
    results = TASK.postprocess(outputs, window(["a"]), context({"top_k": 2}))
    assert results.columns["outputs"].to_pylist() == ['[{"label": "LABEL_0", "score": 0.5}]']


# --- rows to sequences


@pytest.mark.parametrize("pair", [None, "", " ", "\t\n", "\u3000"])
def test_a_blank_second_text_is_none(pair):
    sequences = TASK.preprocess(window(["a", "b"], ["second", pair]), context())
    assert sequences.text_pair.to_pylist() == ["second", None]
    assert TASK.preprocess(window(["a"], [pair]), context()).text_pair is None


def test_each_row_is_one_sequence_cut_to_what_the_model_reads():
    sequences = TASK.preprocess(window(["a", ""]), context({"top_k": 2, "padding": True}))
    assert (sequences.row.tolist(), sequences.text.to_pylist()) == ([0, 1], ["a", ""])
    assert sequences.encoding == {"truncation": True}


def test_the_users_own_encoding_is_kept():
    told = {"truncation": "only_first", "max_length": 12, "add_special_tokens": False}
    assert TASK.preprocess(window(["a"]), context({**told, "function_to_apply": "none"})).encoding == told
    assert TASK.preprocess(window(["a"]), context({"truncation": None})).encoding == {"truncation": True}


def test_an_unknown_function_is_refused_before_the_model_runs():
    with pytest.raises(UnknownParameterError, match="one of softmax, sigmoid, none"):
        TASK.preprocess(window(["a"]), context({"function_to_apply": "relu"}))
    with pytest.raises(UnknownParameterError, match="relu"):
        TASK.signature({"function_to_apply": "relu"})


# --- signatures and arguments


@pytest.mark.parametrize(
    ("parameters", "outputs"),
    [
        ({}, ["label", "score"]),
        ({"top_k": None}, ["label", "score"]),
        ({"top_k": 1}, ["outputs"]),
        ({"top_k": 5}, ["outputs"]),
    ],
)
def test_any_number_of_top_k_makes_a_list(parameters, outputs):
    signature = TASK.signature(parameters)
    assert [feature.name for feature in signature.inputs] == ["text", "text_pair"]
    assert [feature.name for feature in signature.outputs] == outputs


def test_a_run_sets_top_k_only_where_the_output_is_a_list():
    assert "top_k" not in [param.name for param in TASK.signature({}).params]
    (top_k, *_) = TASK.signature({"top_k": 2}).params
    assert (top_k.name, top_k.default_value) == ("top_k", 2)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    from airflow_provider_hfreg.inference.frameworks import transformers

    folder = str(models.text_classifier(tmp_path_factory.mktemp("classifier")))

    def build(**arguments):
        return transformers.pipeline("text-classification", folder, **arguments)

    return build


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"top_k": None},
        {"top_k": 1},
        {"top_k": 2, "function_to_apply": "sigmoid"},
        {"truncation": True, "max_length": 8},
    ],
)
def test_what_a_pipeline_was_built_with_is_read_back(classifier, arguments):
    pipe = classifier(**arguments)
    read = TASK.parameters_of(pipe._preprocess_params, pipe._forward_params, pipe._postprocess_params)
    assert read == arguments
    assert json.loads(json.dumps(read)) == read


def test_numpy_numbers_become_plain(classifier):
    pipe = classifier(max_length=np.int64(8), truncation=True)
    read = TASK.parameters_of(pipe._preprocess_params, pipe._forward_params, pipe._postprocess_params)
    assert type(read["max_length"]) is int


def test_what_cannot_be_written_down_is_refused_by_name(classifier):
    pipe = classifier(my_callback=print)
    with pytest.raises(UnsupportedPipelineError, match="built with my_callback=builtin_function_or_method"):
        TASK.parameters_of(pipe._preprocess_params, pipe._forward_params, pipe._postprocess_params)


def test_the_old_way_to_ask_for_one_result_is_no_top_k():
    # What 4.57 makes of return_all_scores=False and True.
    assert TASK.parameters_of({}, {}, {"top_k": 1}) == {}
    assert TASK.parameters_of({}, {}, {"top_k": None}) == {"top_k": None}
