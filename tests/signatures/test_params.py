"""Parameters of a run against the signature."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_hfreg.errors import UnknownParameterError
from airflow_provider_hfreg.signatures.features import DataType, ParamSpec
from airflow_provider_hfreg.signatures.params import check_params

SPECS = (
    ParamSpec("top_k", DataType.INT64),
    ParamSpec("temperature", DataType.DOUBLE),
    ParamSpec("do_sample", DataType.BOOL),
    ParamSpec("prefix", DataType.STRING),
    ParamSpec("suppress_tokens", DataType.INT64, shape=(-1,)),
    ParamSpec("bad_words_ids", DataType.INT64, shape=(-1, -1)),
)


@pytest.mark.parametrize(
    ("given_value", "plain"),
    [
        ({"top_k": np.int32(2)}, {"top_k": 2}),
        ({"top_k": 2.0}, {"top_k": 2}),
        ({"temperature": 1}, {"temperature": 1.0}),
        ({"temperature": np.float32(0.5)}, {"temperature": 0.5}),
        ({"do_sample": np.bool_(0)}, {"do_sample": False}),
        ({"prefix": ""}, {"prefix": ""}),
        ({"suppress_tokens": np.array([1, 2])}, {"suppress_tokens": [1, 2]}),
        ({"suppress_tokens": 3}, {"suppress_tokens": [3]}),
        ({"bad_words_ids": ((1, 2), [3])}, {"bad_words_ids": [[1, 2], [3]]}),
        ({"top_k": None}, {}),
        (None, {}),
    ],
)
def test_values_become_plain_and_what_is_not_given_goes(given_value, plain):
    checked = check_params(given_value, SPECS)
    assert checked == plain
    assert json.loads(json.dumps(checked)) == checked
    assert [type(value) for value in checked.values()] == [type(value) for value in plain.values()]


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("top_k", True, "INT64"),
        ("top_k", 1.5, "INT64"),
        ("top_k", float("nan"), "INT64"),
        ("top_k", float("inf"), "INT64"),
        ("top_k", "2", "INT64"),
        ("top_k", [2], "INT64"),
        ("temperature", True, "DOUBLE"),
        ("temperature", "hot", "DOUBLE"),
        ("temperature", float("nan"), "DOUBLE"),
        ("do_sample", 1, "BOOL"),
        ("prefix", 1, "STRING"),
        ("suppress_tokens", ["a"], r"INT64\[-1\]"),
        ("bad_words_ids", [1], r"INT64\[-1,-1\]"),
    ],
)
def test_a_value_of_another_type_is_refused(name, value, wanted):
    with pytest.raises(UnknownParameterError, match=rf"parameter '{name}' of finbert/v1 is .*; it must be {wanted}"):
        check_params({name: value}, SPECS, "finbert/v1")


def test_an_unknown_parameter_is_refused_with_the_list():
    with pytest.raises(UnknownParameterError) as raised:
        check_params({"top-k": 2}, SPECS[:2], "finbert/v1")
    assert str(raised.value) == (
        "finbert/v1 takes no parameter 'top-k' at a run. Did you mean 'top_k'? Its parameters are: temperature, top_k."
    )


@given(st.dictionaries(st.sampled_from([spec.name for spec in SPECS]), st.from_type(object), max_size=3))
def test_any_value_is_plain_or_refused(params):
    try:
        checked = check_params(params, SPECS)
    except UnknownParameterError:
        return
    assert json.loads(json.dumps(checked)) == checked


@pytest.mark.parametrize("params", [["a"], "a", [], 0])
def test_parameters_that_are_no_dict_are_refused(params):
    with pytest.raises(UnknownParameterError, match=r"finbert/v1 is .*must be a dict"):
        check_params(params, [], "finbert/v1")
