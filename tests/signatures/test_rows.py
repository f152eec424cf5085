"""Which column is which feature, and which rows of a table can be run."""

import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_hfreg.errors import ColumnMissingError, ColumnTypeError
from airflow_provider_hfreg.signatures.features import DataType, FeatureSpec
from airflow_provider_hfreg.signatures.frames import from_frame
from airflow_provider_hfreg.signatures.rows import bind_columns, from_cells, to_window

TEXT = FeatureSpec("text", DataType.STRING)
PAIR = FeatureSpec("text_pair", DataType.STRING)
INPUTS = (TEXT, PAIR)
OPTIONAL = frozenset({"text_pair"})


# --- which column is which


def test_names_are_matched_in_any_order():
    assert bind_columns(INPUTS, ["text_pair", "id", "text"]) == {"text": "text", "text_pair": "text_pair"}


@pytest.mark.parametrize("columns", [[0, 1], range(2), pd.RangeIndex(2), np.arange(2)])
def test_unnamed_columns_are_matched_by_position(columns):
    assert bind_columns(INPUTS, columns) == {"text": 0, "text_pair": 1}


def test_positions_kept_as_text_by_a_file_are_positions():
    assert bind_columns(INPUTS, ["0", "1"]) == {"text": "0", "text_pair": "1"}


def test_an_optional_column_may_be_missing():
    assert bind_columns(INPUTS, ["text"], optional=OPTIONAL) == {"text": "text", "text_pair": None}
    assert bind_columns(INPUTS, [0], optional=OPTIONAL) == {"text": 0, "text_pair": None}


def test_a_map_says_where_the_names_differ():
    bound = bind_columns(INPUTS, ["review", "text_pair"], columns_map={"text": "review"})
    assert bound == {"text": "review", "text_pair": "text_pair"}
    assert bind_columns(INPUTS, [0, 1, 2], columns_map={"text": 2}, optional=OPTIONAL)["text"] == 2


def test_a_missing_column_is_named_with_what_is_there_and_the_way_out():
    with pytest.raises(ColumnMissingError) as raised:
        bind_columns(INPUTS, ["id", "texts"], optional=OPTIONAL)
    assert str(raised.value) == (
        "The model's input 'text' (STRING) needs a column 'text', and the table has 'id', 'texts'. "
        "Rename the column, or map it: {'text': 'texts'}."
    )


def test_too_few_positions_are_a_missing_column():
    with pytest.raises(ColumnMissingError, match=r"'text_pair' \(STRING\)"):
        bind_columns(INPUTS, [0])


def test_a_mapped_column_must_be_there_even_for_an_optional_input():
    with pytest.raises(ColumnMissingError, match="needs a column 'second'"):
        bind_columns(INPUTS, ["text"], columns_map={"text_pair": "second"}, optional=OPTIONAL)


def test_a_map_from_no_input_is_refused():
    with pytest.raises(ColumnMissingError, match="'txt', which is no input"):
        bind_columns(INPUTS, ["text"], columns_map={"txt": "text"}, optional=OPTIONAL)


def test_a_column_that_is_there_twice_is_refused_only_if_needed():
    assert bind_columns((TEXT,), ["id", "id", "text"]) == {"text": "text"}
    with pytest.raises(ColumnMissingError, match="has 2 of them"):
        bind_columns((TEXT,), ["text", "text"])


# --- which rows can be run


def test_a_null_in_a_required_column_is_that_rows_error():
    columns = {"text": pa.array(["a", None, "c"]), "text_pair": pa.array(["x", None, None])}
    window = to_window(columns, INPUTS, optional=OPTIONAL, names={"text": "review", "text_pair": "second"})
    assert window.batch.to_pydict() == {"text": ["a", "c"], "text_pair": ["x", None]}
    assert window.row.tolist() == [0, 2]
    assert [(error.row, error.code, error.column) for error in window.errors] == [(1, "null_value", "review")]
    assert window.errors[0].message == "expected STRING in the column 'review', found null"


def test_a_missing_optional_column_is_all_null():
    window = to_window({"text": pa.array(["a"]), "text_pair": None}, INPUTS, optional=OPTIONAL)
    assert window.batch.to_pydict() == {"text": ["a"], "text_pair": [None]}


def test_a_column_of_nulls_fails_each_row_and_not_the_call():
    window = to_window({"text": pa.nulls(3)}, (TEXT,))
    assert (window.batch.num_rows, len(window.errors)) == (0, 3)


def test_a_column_of_another_type_is_refused_as_a_whole():
    with pytest.raises(ColumnTypeError, match=r"'stars' is of the type int64.*'text' is STRING"):
        to_window({"text": pa.array([1, 2])}, (TEXT,), names={"text": "stars"})


def test_no_rows_are_a_window_of_the_right_types():
    window = to_window({"text": pa.chunked_array([], pa.large_string())}, (TEXT,))
    assert window.batch.schema == pa.schema([("text", pa.string())])
    assert (window.row.dtype, window.errors) == (np.dtype("int64"), ())


def test_good_rows_are_not_copied():
    text = pa.array(["a", "b"])
    assert to_window({"text": text}, (TEXT,)).batch.column(0).buffers()[2].address == text.buffers()[2].address


def test_the_errors_of_cells_join_those_of_the_window():
    array, bad = from_cells(["a", 5, None], TEXT, column="review")
    window = to_window({"text": array}, (TEXT,), errors=bad)
    assert [(error.row, error.code) for error in window.errors] == [(1, "wrong_type"), (2, "null_value")]
    assert window.errors[0].message == "expected STRING in the column 'review', found 5"


cells = st.one_of(st.none(), st.text(max_size=3), st.integers(), st.just(math.nan), st.just("\udcff"), st.binary())


@given(st.lists(st.tuples(cells, cells), max_size=12))
def test_good_rows_and_errors_are_all_rows(rows):
    frame = pd.DataFrame(
        {
            name: pd.Series([row[place] for row in rows], dtype=object)
            for place, name in enumerate(("text", "text_pair"))
        }
    )
    window = from_frame(frame, INPUTS, optional=OPTIONAL)
    failed = [error.row for error in window.errors]
    assert sorted([*window.row.tolist(), *failed]) == list(range(len(rows)))
    assert window.batch.num_rows == len(window.row)
    assert window.batch.column("text").null_count == 0
    assert window.batch.column("text").to_pylist() == [rows[row][0] for row in window.row]


# --- frames


def test_a_frames_index_does_not_matter_and_the_frame_is_not_changed():
    frame = pd.DataFrame({"id": [1, 2], "text": ["a", None]}, index=["x", "x"])
    before = frame.copy(deep=True)
    window = from_frame(frame, INPUTS, optional=OPTIONAL)
    assert (window.row.tolist(), window.errors[0].row) == ([0], 1)
    pd.testing.assert_frame_equal(frame, before)


def test_an_unnamed_frame_is_matched_by_position():
    window = from_frame(pd.DataFrame([["a", ""], ["b", ""]]), INPUTS)
    assert window.batch.to_pydict() == {"text": ["a", "b"], "text_pair": ["", ""]}


@pytest.mark.parametrize("dtype", ["object", "string", "category", "str", pd.ArrowDtype(pa.string())])
def test_text_of_any_dtype_is_read(dtype):
    frame = pd.DataFrame({"text": pd.Series(["a", None, "a"], dtype=dtype)})
    window = from_frame(frame, (TEXT,))
    assert (window.batch.column(0).to_pylist(), window.errors[0].code) == (["a", "a"], "null_value")


def test_a_column_of_numbers_is_no_text():
    with pytest.raises(ColumnTypeError, match="'text' is of the type int64"):
        from_frame(pd.DataFrame({"text": [1]}), (TEXT,))


@pytest.mark.parametrize("dtype", ["float64", "Int64", "int32", "uint8"])
def test_integers_of_any_dtype_are_read(dtype):
    window = from_frame(pd.DataFrame({"n": pd.Series([1, 2], dtype=dtype)}), (FeatureSpec("n", DataType.INT64),))
    assert window.batch.to_pydict() == {"n": [1, 2]}
