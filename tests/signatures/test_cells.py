"""Single values in the type a signature wants: what is taken, what is told, and that nothing is lost."""

import datetime as dt
import decimal
import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_hfreg.signatures.cells import convert, convert_cells, is_readable

MISSING = [None, float("nan"), pd.NA, pd.NaT, np.float64("nan")]
scalars = st.one_of(
    st.sampled_from(MISSING),
    st.text(max_size=5),
    st.text(st.characters(categories=["Cs"]), min_size=1, max_size=2),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.booleans(),
    st.binary(max_size=3),
    st.decimals(allow_nan=False, allow_infinity=True),
    st.fractions(),
    st.dates(),
    st.just(10**400),
    st.builds(np.int16, st.integers(-5, 5)),
    st.builds(np.bool_, st.booleans()),
    st.builds(object),
)
cells = st.one_of(scalars, st.lists(scalars, max_size=2), st.tuples(scalars), st.builds(dict))
wanted_types = st.sampled_from(
    [pa.string(), pa.int64(), pa.int8(), pa.float64(), pa.bool_(), pa.binary(), pa.list_(pa.string())]
)


@given(st.lists(cells, max_size=4), wanted_types)
def test_every_value_is_converted_null_or_told(values, wanted):
    array, bad = convert_cells(values, wanted)
    assert array.type == wanted
    assert len(array) == len(values)
    told = {cell.row for cell in bad}
    assert len(told) == len(bad)
    for row, (value, converted) in enumerate(zip(values, array.to_pylist(), strict=True)):
        missing = any(value is one for one in MISSING) or (isinstance(value, float) and math.isnan(value))
        assert (converted is None) == (row in told or missing)


@given(st.lists(cells, max_size=4), wanted_types)
def test_a_value_fares_alone_as_it_does_among_others(values, wanted):
    array, bad = convert_cells(values, wanted)
    alone = [convert_cells([value], wanted) for value in values]
    # Arrow's cast of a decimal may miss the nearest double by one.
    expected = [pytest.approx(single[0].as_py(), nan_ok=True) for single, _ in alone]
    assert array.to_pylist() == expected
    assert {cell.row for cell in bad} == {row for row, (_, found) in enumerate(alone) if found}


@pytest.mark.parametrize("value", [5, 2.5, True, b"text", dt.date(2020, 1, 1), ["text"], {"a": 1}, "half \ud800"])
def test_what_is_no_text_is_told(value):
    array, bad = convert_cells(["fine", value], pa.string())
    assert array.to_pylist() == ["fine", None]
    assert [(cell.row, cell.code) for cell in bad] == [(1, "wrong_type")]


@pytest.mark.parametrize("value", [np.str_("text"), "größer", "", " "])
def test_text_is_text(value):
    assert convert_cells([value, pd.NA], pa.string())[0].to_pylist() == [value, None]


@pytest.mark.parametrize("value", [3, 3.0, np.int8(3), np.float32(3), decimal.Decimal(3), Fraction(3)])
def test_a_whole_number_is_an_integer(value):
    assert convert_cells([value, "no number"], pa.int64())[0].to_pylist() == [3, None]


@pytest.mark.parametrize("value", [True, np.bool_(0)])
@pytest.mark.parametrize("wanted", [pa.int64(), pa.float64()])
def test_a_boolean_is_no_number(value, wanted):
    array, bad = convert_cells([1.5, value] if wanted == pa.float64() else [1, value], wanted)
    assert (array[1].as_py(), bad[0].row) == (None, 1)


def test_an_unsigned_integer_that_overflows_is_that_rows_error():
    array, bad = convert(pa.array([1, 2**63, None], pa.uint64()), pa.int64())
    assert array.to_pylist() == [1, None, None]
    assert [(cell.row, cell.found) for cell in bad] == [(1, "9223372036854775808, which needs more than 64 bits")]


def test_nan_among_floats_is_a_missing_integer():
    assert convert(pa.array([1.0, math.nan]), pa.int64()) == (pa.array([1, None]), ())


def test_integers_beyond_a_doubles_precision_are_rounded():
    assert convert(pa.array([2**53 + 1]), pa.float64())[0].to_pylist() == [float(2**53 + 1)]


@pytest.mark.parametrize(
    "array",
    [
        pa.array(["a", None], pa.large_string()),
        pa.array(["a", None]).cast(pa.string_view()),
        pa.array(["a", None]).dictionary_encode(),
        pa.array(["a", None], pa.large_string()).dictionary_encode(),
    ],
)
def test_every_layout_of_text_is_text(array):
    assert is_readable(array.type, pa.string())
    assert convert(array, pa.string()) == (pa.array(["a", None]), ())


@pytest.mark.parametrize("layout", [pa.list_, pa.large_list, pa.list_view, pa.large_list_view])
def test_every_layout_of_lists_is_a_list(layout):
    array = pa.array([["a"], None, []], layout(pa.large_string()))
    assert is_readable(array.type, pa.list_(pa.string()))
    assert convert(array, pa.list_(pa.string()))[0].to_pylist() == [["a"], None, []]


def test_a_null_inside_a_list_is_that_rows_error():
    array, bad = convert(pa.array([["a", None], ["b"], None]), pa.list_(pa.string()))
    assert array.to_pylist() == [None, ["b"], None]
    assert [(cell.row, cell.code) for cell in bad] == [(0, "null_value")]


def test_pairs_are_of_length_two():
    pairs = pa.list_(pa.list_(pa.int64(), 2))
    array, bad = convert(pa.array([[[1, 2]], [[1, 2, 3]], []]), pairs)
    assert array.to_pylist() == [[[1, 2]], None, []]
    assert bad[0].found == "a list of length 3"


def test_bytes_that_are_no_utf8_are_that_rows_error():
    content = pa.array([b"fine", b"\xff", None])
    text = pa.Array.from_buffers(pa.string(), 3, content.buffers())
    array, bad = convert(text, pa.string())
    assert array.to_pylist() == ["fine", None, None]
    assert [(cell.row, cell.found) for cell in bad] == [(1, "text that is not valid UTF-8")]


@pytest.mark.parametrize(
    ("given_type", "wanted"),
    [
        (pa.int64(), pa.string()),
        (pa.binary(), pa.string()),
        (pa.string(), pa.int64()),
        (pa.bool_(), pa.int64()),
        (pa.timestamp("s"), pa.string()),
        (pa.string(), pa.list_(pa.string())),
        (pa.list_(pa.int64()), pa.list_(pa.string())),
        (pa.list_(pa.string()), pa.string()),
    ],
)
def test_a_column_of_another_kind_is_not_readable(given_type, wanted):
    assert not is_readable(given_type, wanted)
