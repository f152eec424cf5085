"""Signatures as they are printed, kept and typed."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_hfreg.errors import ColumnTypeError, InvalidOptionError, UnknownFormatError
from airflow_provider_hfreg.signatures.arrow import arrow_schema, features_of, type_name
from airflow_provider_hfreg.signatures.features import DataType, FeatureSpec, ParamSpec
from airflow_provider_hfreg.signatures.signature import ModelSignature

shapes = st.one_of(st.none(), st.lists(st.integers(-1, 4), max_size=3).map(tuple))
features = st.builds(FeatureSpec, st.text(min_size=1), st.sampled_from(DataType), shapes)
params = st.builds(
    ParamSpec,
    st.text(min_size=1),
    st.sampled_from(DataType),
    st.recursive(st.none() | st.integers() | st.text() | st.booleans(), st.lists, max_leaves=5),
    shapes,
)
signatures = st.builds(
    ModelSignature, st.lists(features), st.lists(features), st.lists(params, unique_by=lambda param: param.name)
)


@given(signatures)
def test_a_signature_survives_json(signature):
    assert ModelSignature.from_json(json.loads(json.dumps(signature.to_json()))) == signature


@given(st.lists(features, unique_by=lambda feature: feature.name))
def test_features_survive_an_arrow_schema(given_features):
    assert features_of(arrow_schema(given_features)) == tuple(given_features)


@given(signatures)
def test_a_signature_survives_arrow_schemas(signature):
    assert ModelSignature.from_arrow(*signature.to_arrow()) == signature


@given(signatures)
def test_a_signature_survives_arrow_schemas_in_bytes(signature):
    schemas = [pa.ipc.read_schema(pa.py_buffer(schema.serialize())) for schema in signature.to_arrow()]
    assert ModelSignature.from_arrow(*schemas) == signature


def test_any_tables_schema_is_a_signature_without_parameters():
    table = pa.table({"text": ["a"]})
    feature = FeatureSpec("text", DataType.STRING)
    assert ModelSignature.from_arrow(table.schema, table.schema) == ModelSignature([feature], [feature])


def test_a_spec_is_written_in_one_way():
    assert FeatureSpec("x", DataType.STRING, [-1]) == FeatureSpec("x", DataType.STRING, (-1,))
    assert FeatureSpec("x", DataType.STRING, ()).shape is None
    assert ParamSpec("x", DataType.INT64, np.int64(2)).default_value == 2
    assert ParamSpec("x", DataType.INT64, (1, np.int64(2)), [-1]) == ParamSpec("x", DataType.INT64, [1, 2], (-1,))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((5, DataType.STRING), "name=5"),
        (("", DataType.STRING), "name=''"),
        (("x", "STRING"), "dtype='STRING' of 'x' must be one of DataType.INT8"),
        (("x", DataType.STRING, (-2,)), r"shape=\(-2,\) of 'x'"),
        (("x", DataType.STRING, ("a",)), "of 'x' must hold a length"),
        (("x", DataType.STRING, (-1)), r"shape=-1 of 'x' must be a tuple of lengths, such as \(-1,\)"),
        (("x", DataType.STRING, "-1"), "shape='-1' of 'x' must be a tuple"),
    ],
)
def test_a_spec_without_a_meaning_is_refused(arguments, message):
    with pytest.raises(InvalidOptionError, match=message):
        FeatureSpec(*arguments)


X, TOP_K = FeatureSpec("x", DataType.STRING), ParamSpec("top_k", DataType.INT64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((X, X), r"inputs=FeatureSpec\(.*must be a list of FeatureSpec"),
        (([X], "outputs"), "outputs='outputs' of a ModelSignature must be a list of FeatureSpec"),
        ((["x"], [X]), r"inputs=\['x'\]"),
        (([X], [TOP_K]), r"outputs=\[ParamSpec\("),
        (([X], [X], TOP_K), r"params=ParamSpec\(.*must be a list of ParamSpec"),
        (([X], [X], {"top_k": 1}), "must be a list of ParamSpec"),
        (([X], [X], [TOP_K, ParamSpec("top_k", DataType.STRING)]), "'top_k' twice"),
    ],
)
def test_what_is_no_list_of_specs_is_no_signature(arguments, message):
    with pytest.raises(InvalidOptionError, match=message):
        ModelSignature(*arguments)


def test_a_signature_prints_its_inputs_and_outputs_alone():
    signature = ModelSignature(
        [FeatureSpec("inputs", DataType.STRING)],
        [FeatureSpec("outputs", DataType.STRING)],
        [ParamSpec("max_new_tokens", DataType.INT64, 100)],
    )
    squeezed = " ".join(repr(signature).split())
    assert squeezed == (
        "ModelSignature( inputs=[ FeatureSpec(dtype=DataType.STRING, name='inputs') ], "
        "outputs=[ FeatureSpec(dtype=DataType.STRING, name='outputs') ] )"
    )


def test_dictionaries_and_large_strings_are_strings():
    schema = pa.schema(
        [("a", pa.large_string()), ("b", pa.dictionary(pa.int8(), pa.string())), ("c", pa.string_view())]
    )
    assert {feature.dtype for feature in features_of(schema)} == {DataType.STRING}


def test_a_type_that_no_feature_has_is_named():
    with pytest.raises(ColumnTypeError, match=r"'day' has the Arrow type date32"):
        features_of(pa.schema([("day", pa.date32())]))


def test_an_unknown_data_type_is_of_a_newer_version():
    with pytest.raises(UnknownFormatError, match="'FLOAT128'"):
        FeatureSpec.from_json({"name": "x", "dtype": "FLOAT128"})


def test_types_are_named_as_in_the_documentation():
    assert type_name(FeatureSpec("x", DataType.STRING, (-1,))) == "STRING[-1]"
