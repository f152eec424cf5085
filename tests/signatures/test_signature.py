"""Signatures as they are printed, kept and typed."""

import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_hfreg.errors import ColumnTypeError, UnknownFormatError
from airflow_provider_hfreg.signatures.arrow import arrow_schema, features_of, type_name
from airflow_provider_hfreg.signatures.features import DataType, FeatureSpec, ParamSpec
from airflow_provider_hfreg.signatures.signature import ModelSignature

shapes = st.one_of(st.none(), st.lists(st.integers(-1, 4), min_size=1, max_size=3).map(tuple))
features = st.builds(FeatureSpec, st.text(min_size=1), st.sampled_from(DataType), shapes)
params = st.builds(
    ParamSpec, st.text(min_size=1), st.sampled_from(DataType), st.none() | st.integers() | st.text(), shapes
)
signatures = st.builds(ModelSignature, st.lists(features), st.lists(features), st.lists(params))


@given(signatures)
def test_a_signature_survives_json(signature):
    assert ModelSignature.from_json(json.loads(json.dumps(signature.to_json()))) == signature


@given(st.lists(features, unique_by=lambda feature: feature.name))
def test_features_survive_an_arrow_schema(given_features):
    assert features_of(arrow_schema(given_features)) == tuple(given_features)


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
