"""Signatures of example frames."""

import datetime as dt

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_hfreg.errors import ColumnTypeError, InvalidOptionError
from airflow_provider_hfreg.signatures import DataType, FeatureSpec, ModelSignature, ParamSpec, infer_signature
from airflow_provider_hfreg.signatures.arrow import arrow_schema
from airflow_provider_hfreg.signatures.frames import from_frame

TEXT = pd.DataFrame({"text": ["a"]})
DOUBLE, INT64, STRING, BOOL = DataType.DOUBLE, DataType.INT64, DataType.STRING, DataType.BOOL


def inferred(values, **options):
    (feature,) = infer_signature(pd.DataFrame({"x": pd.Series(values, **options)}), TEXT).inputs
    return feature.dtype, feature.shape


@pytest.mark.parametrize(
    ("values", "options", "dtype", "shape"),
    [
        (["a", None], {}, STRING, None),
        (["a", None], {"dtype": "string"}, STRING, None),
        (["a", "b"], {"dtype": "category"}, STRING, None),
        ([1, 2], {}, INT64, None),
        ([1, None], {"dtype": "Int8"}, DataType.INT8, None),
        ([1, 2], {"dtype": "int32"}, DataType.INT32, None),
        ([1.5, None], {}, DOUBLE, None),
        ([1.5, None], {"dtype": "Float32"}, DataType.FLOAT, None),
        ([1, 2.5], {"dtype": object}, DOUBLE, None),
        ([True, False], {}, BOOL, None),
        ([True, None], {"dtype": "boolean"}, BOOL, None),
        ([True, None], {"dtype": object}, BOOL, None),
        ([b"a"], {}, DataType.BYTES, None),
        ([["a"], []], {}, STRING, (-1,)),
        ([[1, 2], None], {}, INT64, (-1,)),
        ([[[1], []], []], {}, INT64, (-1, -1)),
        ([np.zeros(2, np.float32)], {}, DataType.FLOAT, (-1,)),
        ([np.zeros((2, 3))], {}, DOUBLE, (-1, -1)),
        ([], {"dtype": "int64"}, INT64, None),
    ],
)
def test_a_column_is_a_feature(values, options, dtype, shape):
    assert inferred(values, **options) == (dtype, shape)


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([], {"dtype": object}, "holds no value, so its type cannot be told"),
        ([None, None], {"dtype": object}, "holds no value"),
        ([np.nan, np.nan], {}, "holds no value"),
        ([[], []], {}, "holds no value in its lists"),
        (["a", 1], {}, r"several types.*\(int, str\)"),
        ([1, True], {"dtype": object}, r"several types.*\(bool, int\)"),
        ([b"x", "y"], {}, r"several types.*\(bytes, str\)"),
        ([[b"x", "y"]], {}, "several types"),
        ([np.array([b"x", "y"], dtype=object)], {}, "several types"),
        (["a", "\ud800"], {"dtype": object}, "half of a surrogate pair"),
        ([["\ud800"]], {"dtype": object}, "half of a surrogate pair"),
        ([[1], 2], {}, r"\(int, list\)"),
        ([object()], {}, r"\(object\)"),
        ([{"a": 1}], {}, r"holds dicts.*json\.dumps"),
        ([[{"a": 1}]], {}, "holds dicts"),
        ([dt.date(2026, 1, 1)], {}, "'x' has the Arrow type date32"),
        ([pd.Timestamp("2026-01-01")], {}, "'x' has the Arrow type timestamp"),
        ([1], {"dtype": "uint64"}, "Cast it to one of int8"),
        ([1j], {}, "'x'.*complex128"),
    ],
)
def test_what_is_no_feature_is_told_by_its_column(values, options, message):
    with pytest.raises(ColumnTypeError, match=message) as raised:
        inferred(values, **options)
    assert "'x'" in str(raised.value)


def test_an_arrow_table_is_a_frame():
    table = pa.table({"text": pa.array(["a"], pa.large_string()), "ids": [[1]]})
    assert infer_signature(table, table.to_batches()[0]) == ModelSignature(
        *[[FeatureSpec("text", STRING), FeatureSpec("ids", INT64, (-1,))]] * 2
    )
    with pytest.raises(ColumnTypeError, match="'a' holds no value"):
        infer_signature(pa.table({"a": pa.nulls(1)}), table)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame([["a"]]), r"columns of output_frame are \[0\]"),
        (pd.DataFrame([["a", "b"]], columns=["x", "x"]), "each with a name of its own"),
        (pd.DataFrame(), "at least one"),
        ({"text": ["a"]}, "output_frame is a dict"),
        (pd.Series(["a"], name="text"), "output_frame is a Series"),
    ],
)
def test_what_is_no_frame_with_names_is_told(frame, message):
    with pytest.raises(InvalidOptionError, match=message):
        infer_signature(TEXT, frame)


def test_parameters_are_told_by_their_defaults():
    params = {"top_k": np.int64(2), "scale": 0.5, "fast": True, "labels": ("a", "b"), "stop": "."}
    specs = infer_signature(TEXT, TEXT, params).params
    assert [(spec.name, spec.dtype, spec.default_value, spec.shape) for spec in specs] == [
        ("top_k", INT64, 2, None),
        ("scale", DOUBLE, 0.5, None),
        ("fast", BOOL, True, None),
        ("labels", STRING, ["a", "b"], (-1,)),
        ("stop", STRING, ".", None),
    ]
    given = (ParamSpec("top_k", INT64),)
    assert infer_signature(TEXT, TEXT, given).params == given


@pytest.mark.parametrize(
    "params", [{"top_k": None}, {"stop": []}, {"mixed": [1, "a"]}, ["top_k"], {"d": {"a": 1}}, 5, 0, "top_k"]
)
def test_a_parameter_whose_type_cannot_be_told_is_refused(params):
    with pytest.raises(InvalidOptionError, match="params"):
        infer_signature(TEXT, TEXT, params)


scalars = {STRING: st.text(), INT64: st.integers(-(2**63), 2**63 - 1), DOUBLE: st.floats(), BOOL: st.booleans()}


@st.composite
def columns(draw):
    """Values of one feature, and the feature."""
    dtype = draw(st.sampled_from(list(scalars)))
    depth = draw(st.integers(0, 2))
    values = scalars[dtype] if dtype is not DOUBLE else st.floats(allow_nan=False)
    for _ in range(depth):
        values = st.lists(values, min_size=1, max_size=3)
    return draw(st.lists(values, min_size=1, max_size=4)), FeatureSpec("x", dtype, (-1,) * depth)


@given(columns())
def test_rows_fit_the_signature_that_was_made_of_them(column):
    values, feature = column
    frame = pd.DataFrame({"x": pd.Series(values, dtype=object)})
    (told,) = infer_signature(frame, TEXT).inputs
    assert told == feature
    window = from_frame(frame, [told])
    assert window.errors == ()
    assert window.batch.schema == arrow_schema([feature])
