"""Template fields after rendering: the same value, however it came, is read the same."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_hfreg.errors import RenderedValueError
from airflow_provider_hfreg.operators import rendered
from airflow_provider_hfreg.signatures.features import DataType, ParamSpec

names = st.text(min_size=1, max_size=8)
plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | names, lambda inner: st.lists(inner, max_size=3), max_leaves=5
)


@given(st.integers())
def test_a_whole_number_survives_rendering(number):
    assert rendered.read_whole("rows_per_shard", str(number)) == rendered.read_whole("rows_per_shard", number) == number


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_survives_rendering(number):
    assert rendered.read_number("max_row_errors", str(number)) == number


@given(st.booleans())
def test_a_flag_survives_rendering(flag):
    assert rendered.read_flag("rerun", str(flag)) is rendered.read_flag("rerun", json.dumps(flag)) is flag


@given(st.dictionaries(names, plain_values, max_size=4))
def test_a_mapping_survives_rendering_as_json_and_as_python(mapping):
    assert rendered.read_mapping("columns", json.dumps(mapping)) == mapping
    assert rendered.read_mapping("columns", str(mapping)) == mapping


@pytest.mark.parametrize("absent", [None, "", "None", "null", " none "])
def test_what_a_form_leaves_empty_is_absent(absent):
    assert rendered.read_text("comment", absent) is None
    assert rendered.read_whole("seed", absent) is None
    assert rendered.read_mapping("columns", absent) is None
    assert rendered.read_names("passthrough", absent) is None
    assert rendered.read_flag("rerun", absent) is False


def test_an_empty_list_is_not_absent():
    assert rendered.read_names("passthrough", "[]") == rendered.read_names("passthrough", []) == []


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (rendered.read_whole, "twelve"),
        (rendered.read_whole, "1.5"),
        (rendered.read_whole, True),
        (rendered.read_number, [1]),
        (rendered.read_flag, "perhaps"),
        (rendered.read_mapping, "[1, 2]"),
        (rendered.read_mapping, "{'a': open('x')}"),
        (rendered.read_mapping, {1: "a"}),
        (rendered.read_names, "[1, 2]"),
        (rendered.read_names, 5),
        (rendered.read_text, ["a"]),
        (rendered.require_text, "None"),
    ],
)
def test_a_wrong_value_names_field_and_value(read, value):
    with pytest.raises(RenderedValueError) as refused:
        read("the_field", value)
    assert "the_field" in str(refused.value)
    assert repr(value) in str(refused.value)


def test_a_version_name_of_digits_survives_native_rendering():
    assert rendered.read_text("version_name", 20260729) == "20260729"


def test_a_logged_version_comes_as_dict_or_as_its_text():
    reference = {"model_name": "finbert", "version_name": "v1"}
    assert rendered.read_reference("model", reference) == rendered.read_reference("model", str(reference)) == reference


def test_model_parameters_are_read_by_their_declared_types():
    specs = [
        ParamSpec("top_k", DataType.INT64),
        ParamSpec("temperature", DataType.DOUBLE),
        ParamSpec("do_sample", DataType.BOOL),
        ParamSpec("prefix", DataType.STRING),
        ParamSpec("stop", DataType.STRING, shape=(-1,)),
    ]
    given_values = {"top_k": "2", "temperature": "0.5", "do_sample": "false", "prefix": "12", "stop": ["1"], "new": "3"}
    read = rendered.read_params(given_values, specs)
    assert read == {"top_k": 2, "temperature": 0.5, "do_sample": False, "prefix": "12", "stop": ["1"], "new": "3"}
    assert rendered.read_params({"top_k": "", "temperature": None}, specs) == {"temperature": None}
    with pytest.raises(RenderedValueError, match=r"model_params\['top_k'\]"):
        rendered.read_params({"top_k": "many"}, specs)
