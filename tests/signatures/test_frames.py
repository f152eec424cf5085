"""A pandas frame as a window of rows: what pandas makes of columns in which nothing stands."""

import pandas as pd
import pyarrow as pa
import pytest

from airflow_provider_hfreg.errors import ColumnTypeError, InvalidOptionError
from airflow_provider_hfreg.signatures.features import DataType, FeatureSpec
from airflow_provider_hfreg.signatures.frames import from_frame

TEXT = FeatureSpec("text", DataType.STRING)
PAIR = FeatureSpec("text_pair", DataType.STRING)


@pytest.mark.parametrize("empty", [[], pd.Series([], dtype="float64"), pd.Series([], dtype="int64")])
def test_a_column_without_rows_passes_whatever_its_dtype(empty):
    window = from_frame(pd.DataFrame({"text": empty}), [TEXT])
    assert window.batch.num_rows == 0
    assert window.batch.schema.field("text").type == pa.string()
    assert window.errors == ()


def test_an_optional_column_of_nothing_but_nan_is_no_second_text():
    frame = pd.DataFrame({"text": ["a", "b"], "text_pair": [float("nan"), float("nan")]})
    window = from_frame(frame, [TEXT, PAIR], optional=frozenset({"text_pair"}))
    assert window.batch.column("text_pair").null_count == 2
    assert window.errors == ()


@pytest.mark.parametrize(
    "dtype",
    [
        *("object", "string", "category", "float32", "Float64", "Int64", "boolean"),
        *("datetime64[ns]", "timedelta64[ns]", "period[D]", pd.SparseDtype("float64")),
        *(pd.ArrowDtype(pa.int64()), pd.ArrowDtype(pa.large_string())),
    ],
    ids=str,
)
def test_a_column_in_which_nothing_stands_passes_whatever_its_dtype(dtype):
    column = pd.Series([None, None], dtype=dtype)
    window = from_frame(pd.DataFrame({"text": ["a", "b"], "text_pair": column}), [TEXT, PAIR])
    assert [(error.row, error.code, error.column) for error in window.errors] == [
        (0, "null_value", "text_pair"),
        (1, "null_value", "text_pair"),
    ]
    optional = from_frame(
        pd.DataFrame({"text": ["a", "b"], "text_pair": column}), [TEXT, PAIR], optional=frozenset({"text_pair"})
    )
    assert optional.batch.column("text_pair").to_pylist() == [None, None]


def test_a_required_column_of_nothing_but_nan_is_an_error_of_each_row():
    window = from_frame(pd.DataFrame({"text": [float("nan"), float("nan")]}), [TEXT])
    assert [(error.row, error.code) for error in window.errors] == [(0, "null_value"), (1, "null_value")]


def test_a_column_of_numbers_is_still_refused_for_text():
    with pytest.raises(ColumnTypeError, match="'text' is of the type"):
        from_frame(pd.DataFrame({"text": [1.5, float("nan")]}), [TEXT])


@pytest.mark.parametrize(
    "column", [pd.Series([1 + 2j, 3j]), pd.Series(pd.arrays.SparseArray([1.0, 2.0]))], ids=["complex", "sparse"]
)
def test_a_column_that_arrow_cannot_hold_is_told_by_its_name(column):
    with pytest.raises(ColumnTypeError, match="'text' is of the type"):
        from_frame(pd.DataFrame({"text": column}), [TEXT])


@pytest.mark.parametrize(
    "given", [{"text": ["a"]}, "a", ["a"], None, pd.Series(["a"], name="text"), pa.table({"text": ["a"]})]
)
def test_what_is_no_frame_is_told_with_the_way_to_make_one(given):
    with pytest.raises(InvalidOptionError, match=f"is a {type(given).__name__}; give a pandas.DataFrame"):
        from_frame(given, [TEXT])
