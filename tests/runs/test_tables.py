"""Tables through a store: every row once, in order, in the planned types; what cannot be read is a value."""

import codecs
import json
from functools import reduce
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_hfreg.errors import InputFormatError
from airflow_provider_hfreg.runs.inputs import TableFormat
from airflow_provider_hfreg.runs.tables import READERS, jsonl_table
from airflow_provider_hfreg.runs.tables.base import ReadSchema
from airflow_provider_hfreg.runs.tables.json_types import join_types, settled, type_of_json
from airflow_provider_hfreg.runs.tables.records import BLOCK_BYTES
from airflow_provider_hfreg.runs.tables.windows import rewindow
from airflow_provider_hfreg.storage.urls import open_store

CSV, JSONL, PARQUET = (READERS[f] for f in (TableFormat.CSV, TableFormat.JSONL, TableFormat.PARQUET))


@pytest.fixture
def store(file_url):
    return open_store(file_url)


def scan(reader, store, content, rows_per_range=3):
    store.put("t", content)
    return reader.scan(store, "t", len(content), rows_per_range=rows_per_range)


def read(reader, store, found, schema=None, *, as_text=frozenset(), window_rows=100):
    """All rows by all ranges: (row number, values) of the good ones, and the broken ones."""
    schema = schema or pa.schema([(n, pa.string() if pa.types.is_null(t) else t) for n, t in found.columns.items()])
    good, broken = [], []
    for piece in found.ranges:
        windows = reader.read(
            store, "t", piece, ReadSchema(schema, as_text), header=found.header, first_row=100 + piece.first_row
        )
        rows_before = len(good) + len(broken)
        for window in rewindow(windows, window_rows):
            good += list(zip(window.row.tolist(), window.batch.to_pylist(), strict=True))
            broken += window.broken
        assert len(good) + len(broken) - rows_before == piece.rows
    numbers = sorted([number for number, _ in good] + [row.row for row in broken])
    assert numbers == list(range(100, 100 + found.rows))
    assert [number for number, _ in good] == sorted(number for number, _ in good)
    return good, broken


def table_bytes(table, **options):
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **options)
    return sink.getvalue().to_pybytes()


# --- CSV

cell = st.none() | st.text(max_size=6)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    rows=st.lists(st.tuples(cell, cell), max_size=12),
    line_end=st.sampled_from(["\n", "\r\n"]),
    per_range=st.integers(1, 5),
    bom=st.booleans(),
    last_line_end=st.booleans(),
)
def test_a_csv_of_any_texts_and_nulls_comes_back_as_it_was_written(
    store, rows, line_end, per_range, bom, last_line_end
):
    quoted = [",".join("" if c is None else '"' + c.replace('"', '""') + '"' for c in row) for row in rows]
    text = line_end.join(["a,b", *quoted]) + (line_end if last_line_end else "")
    found = scan(CSV, store, (b"\xef\xbb\xbf" if bom else b"") + text.encode(), per_range)
    good, broken = read(CSV, store, found, pa.schema([("a", pa.string()), ("b", pa.string())]))
    assert [tuple(values.values()) for _, values in good] == rows
    assert not broken


def test_csv_columns_are_text_as_it_stands(store):
    content = b"version,id,n,z,b\n1.1,123456789012345678,12e4,-0,true\n1.10, 0.5,007,,x\n"
    found = scan(CSV, store, content)
    assert set(found.columns.values()) == {pa.string()}
    good, broken = read(CSV, store, found)
    assert [tuple(row.values()) for _, row in good] == [
        ("1.1", "123456789012345678", "12e4", "-0", "true"),
        ("1.10", " 0.5", "007", None, "x"),
    ]
    assert not broken


def test_bytes_that_are_no_utf_8_cost_a_row_only_in_a_column_that_a_feature_reads(store):
    found = scan(CSV, store, b"note,text\n\xff\xc3\xa9,a\nb,\xff\n")
    good, broken = read(CSV, store, found, as_text=frozenset({"note"}))
    assert good == [(100, {"note": "\\xff\u00e9", "text": "a"})]
    assert [(row.row, row.code, row.column) for row in broken] == [(101, "bad_encoding", "text")]


def test_an_empty_cell_is_null_and_a_quoted_one_is_an_empty_text(store):
    good, _ = read(CSV, store, scan(CSV, store, b'a,b\n,""\n'), pa.schema([("a", pa.string()), ("b", pa.string())]))
    assert good == [(100, {"a": None, "b": ""})]


def test_csv_lines_that_cannot_be_read_are_errors_of_their_rows_with_the_raw_text(store):
    content = b'n,t\n1,a\n2\n\n3,c,c\nx,"d ""d"""\n5,\xff\n6,f\n'
    found = scan(CSV, store, content)
    good, broken = read(CSV, store, found, pa.schema([("n", pa.int64()), ("t", pa.string())]))
    assert good == [(100, {"n": 1, "t": "a"}), (105, {"n": 6, "t": "f"})]
    assert [(row.row, row.code, row.column, row.raw) for row in broken] == [
        (101, "field_count", None, "2"),
        (102, "field_count", None, "3,c,c"),
        (103, "bad_value", "n", 'x,"d ""d"""'),
        (104, "bad_encoding", "t", "5,\\xff"),
    ]
    assert broken[0].message == "the line has 1 fields, the header 2"
    assert broken[2].message == "'x' is no int64, which this column was planned as"


def test_a_list_column_in_csv_is_json(store):
    content = b'l\n"[""a"", ""b""]"\nnonsense\n'
    good, broken = read(CSV, store, scan(CSV, store, content), pa.schema([("l", pa.list_(pa.string()))]))
    assert good[0][1] == {"l": ["a", "b"]}
    assert [row.code for row in broken] == ["bad_json"]


def test_a_csv_with_a_header_alone_or_nothing_at_all_has_no_rows(store):
    assert scan(CSV, store, b"a,b\n").rows == 0
    assert dict(scan(CSV, store, b"a,b").columns) == {"a": pa.string(), "b": pa.string()}
    empty = scan(CSV, store, b"")
    assert (empty.rows, empty.is_open) == (0, True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,a\n1,2\n", "two columns have the same name: 'a'"),
        ("a,b\n1,2\n".encode("utf-16"), "UTF-16"),
        (b"PAR1xxxx", "is no CSV"),
        (b"\xe9,b\n1,2\n", "column names in UTF-8"),
    ],
)
def test_what_is_no_csv_is_refused_by_name(store, content, message):
    with pytest.raises(InputFormatError, match=message):
        scan(CSV, store, content)


def test_a_range_is_cut_at_the_byte_where_a_row_begins(store):
    content = b'a\n"1\n1"\n\n2\n3\n\n'
    found = scan(CSV, store, content, rows_per_range=2)
    assert [content[piece.start_byte : piece.end_byte] for piece in found.ranges] == [b'"1\n1"\n\n2\n', b"3\n"]
    assert [(piece.first_row, piece.rows) for piece in found.ranges] == [(0, 2), (2, 1)]


# --- JSONL

values = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=4)
values |= st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=2), values, max_size=2)
objects = st.dictionaries(st.sampled_from(["a", "b", "c"]), values).map(lambda value: json.dumps(value).encode())
lines = (
    objects
    | st.binary(max_size=8).map(lambda raw: raw.replace(b"\n", b""))
    | st.sampled_from(
        [
            b'{"a":',
            b"1}",
            b'{"a":1}{"a":2}',
            b'{"a":"\\ud800"}',
            b'{"a":1,"a":2}',
            b"[1]",
            b'{"a":"\xff"}',
            b" ",
            b'{"a":NaN}',
        ]
    )
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(st.lists(lines, max_size=6), st.integers(1, 4))
def test_any_lines_give_each_row_once_and_what_python_reads(store, written, per_range):
    content = b"\n".join(written)
    found = scan(JSONL, store, content, per_range)
    rows = [line for line in content.removeprefix(codecs.BOM_UTF8).split(b"\n") if line.strip(b" \t\r")]
    assert found.rows == len(rows)
    schema = pa.schema([("a", pa.string()), ("b", pa.int64()), ("c", pa.list_(pa.string()))])
    good, _ = read(JSONL, store, found, schema)
    for number, row in good:
        # NaN is no JSON; it is read as null, as pandas means it
        expected = json.loads(rows[number - 100], parse_constant=lambda name: None if name == "NaN" else float(name))
        assert row["a"] == expected.get("a")
        assert row["b"] == expected.get("b")


simple = st.fixed_dictionaries(
    {},
    optional={
        "a": st.none() | st.text(max_size=4),
        "b": st.none() | st.integers(-(2**63), 2**63 - 1),
        "c": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "d": st.none() | st.lists(st.text(max_size=2), max_size=2),
        "e": st.none() | st.booleans(),
        "other": values,
    },
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.lists(simple, min_size=1, max_size=6), st.booleans())
def test_a_block_read_at_once_equals_the_same_read_line_by_line(store, rows, ascii_only):
    content = "\n".join(json.dumps(row, ensure_ascii=ascii_only) for row in rows).encode("utf-8", "surrogatepass")
    types = [pa.string(), pa.int64(), pa.float64(), pa.list_(pa.string()), pa.bool_()]
    schema = pa.schema(list(zip("abcde", types, strict=True)))
    block = next(iter(jsonl_blocks(content)))
    at_once = jsonl_table._read_at_once(block, schema, len(rows))
    by_line = jsonl_table._read_by_line(block, ReadSchema(schema), 0)
    if at_once is not None:
        assert not by_line.broken
        assert at_once.to_pylist() == by_line.batch.to_pylist()


def jsonl_blocks(content):
    from airflow_provider_hfreg.runs.tables.records import jsonl_records, record_blocks

    return record_blocks(lambda s, n: content[s : s + n], 0, len(content), jsonl_records, where="x")


def test_plain_lines_are_read_at_once():
    content = b'{"a": "x", "n": 1}\n\n {"n": 2, "other": {"deep": [1]}} \r\n'
    schema = pa.schema([("a", pa.string()), ("n", pa.int64())])
    batch = jsonl_table._read_at_once(next(iter(jsonl_blocks(content))), schema, 2)
    assert batch.to_pylist() == [{"a": "x", "n": 1}, {"a": None, "n": 2}]


def test_a_broken_line_is_the_error_of_its_row_with_the_raw_text(store):
    content = b'{"a": 1}\n{"a": \n[2]\n{"a": "x"}\n'
    good, broken = read(JSONL, store, scan(JSONL, store, content), pa.schema([("a", pa.int64())]))
    assert good == [(100, {"a": 1})]
    assert [(row.row, row.code, row.raw) for row in broken] == [
        (101, "bad_json", '{"a": '),
        (102, "bad_json", "[2]"),
        (103, "wrong_type", '{"a": "x"}'),
    ]


def test_columns_passed_through_keep_what_is_no_text_as_json(store):
    content = b'{"a": "x"}\n{"a": {"b": "\xc3\xa9"}}\n{"a": 5}\n'
    good, _ = read(JSONL, store, scan(JSONL, store, content), pa.schema([("a", pa.string())]), as_text=frozenset("a"))
    assert [row["a"] for _, row in good] == ["x", '{"b": "é"}', "5"]


def test_types_of_json_columns_are_joined_over_the_file(store):
    rows = [{"i": 1, "d": 1, "m": 1, "l": [1], "o": {}}, {"i": 2, "d": 0.5, "m": "x", "l": [], "n": None}]
    found = scan(JSONL, store, "\n".join(map(json.dumps, rows)).encode())
    types = {name: str(dtype) for name, dtype in found.columns.items()}
    assert types == {"i": "int64", "d": "double", "m": "string", "l": "list<item: int64>", "o": "string", "n": "null"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(st.lists(st.lists(values, max_size=4), min_size=1, max_size=3))
def test_no_value_of_a_column_that_no_feature_reads_costs_its_row(store, blocks):
    written = [[json.dumps({"a": value}).encode() for value in block] for block in blocks]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonl_table, "record_blocks", lambda *_, **__: chain.from_iterable(map(jsonl_blocks, contents)))
        contents = [b"\n".join(lines) for lines in written]
        found = JSONL.scan(store, "t", 0, rows_per_range=10)
    types = {name: settled(dtype) for name, dtype in found.columns.items()}
    everything = [line for lines in written for line in lines]
    again = scan(JSONL, store, b"\n".join(everything))
    assert again.columns == found.columns
    if types:
        good, broken = read(JSONL, store, again, pa.schema(types), as_text=frozenset(types))
        assert not broken
        for line, (_, row) in zip(everything, good, strict=True):
            given_value = json.loads(line)["a"]
            if not (pa.types.is_string(types["a"]) or isinstance(given_value, float)):
                assert row["a"] == given_value


@given(st.lists(values, max_size=5), st.randoms())
def test_types_of_json_values_join_in_any_order(written, rng):
    types = [type_of_json(value) for value in written]
    shuffled = rng.sample(types, len(types))
    assert reduce(join_types, types, pa.null()) == reduce(join_types, shuffled, pa.null())


@pytest.mark.parametrize(
    ("first", "later", "dtype", "kept"),
    [
        (0, 0.5, pa.float64(), [0.0, 0.5]),
        (123456789012345678, 0.5, pa.string(), ["123456789012345678", "0.5"]),
        (123456789012345678, 1, pa.int64(), [123456789012345678, 1]),
        (0.5, 2**53 + 1, pa.string(), ["0.5", "9007199254740993"]),
        (0, "A0", pa.string(), ["0", "A0"]),
        ([1], ["a"], pa.string(), ["[1]", '["a"]']),
        ([1], [None], pa.string(), ["[1]", "[null]"]),
        ([2**60], [None], pa.string(), ["[1152921504606846976]", "[null]"]),
        ("a", "\ud800", pa.string(), ["a", '"\\ud800"']),
        (None, {"k": 1}, pa.string(), [None, '{"k": 1}']),
    ],
)
def test_the_type_of_a_json_column_fits_a_value_far_behind_its_first(store, first, later, dtype, kept):
    filler = json.dumps({"a": first, "text": "x" * 1000})
    lines = [filler] * (BLOCK_BYTES // len(filler) + 10) + [json.dumps({"a": later})]
    found = scan(JSONL, store, "\n".join(lines).encode(), rows_per_range=100_000)
    assert settled(found.columns["a"]) == dtype
    good, broken = read(JSONL, store, found, pa.schema([("a", dtype)]), as_text=frozenset("a"), window_rows=10**6)
    assert [good[0][1]["a"], good[-1][1]["a"]] == kept
    assert not broken


# --- Parquet


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(rows=st.integers(0, 40), group=st.integers(1, 15), per_range=st.integers(1, 17), window=st.integers(1, 50))
def test_parquet_rows_come_once_whatever_the_row_groups(store, rows, group, per_range, window):
    table = pa.table({"n": pa.array(range(rows), pa.int64()), "t": pa.array([str(n) for n in range(rows)])})
    found = scan(PARQUET, store, table_bytes(table, row_group_size=group), per_range)
    good, broken = read(PARQUET, store, found, window_rows=window)
    assert [row["n"] for _, row in good] == list(range(rows))
    assert not broken


def test_parquet_types_come_plain_and_nested_ones_whole(store):
    table = pa.table(
        {
            "d": pa.array(["a", "b", "a"]).dictionary_encode(),
            "l": pa.array(["x", "y", None], pa.large_string()),
            "s": pa.array([{"k": [1]}, None, {"k": []}]),
            "p.q": pa.array([1, 2, 3]),
            "w": pa.array(np.array([1, 2, 3], dtype="datetime64[us]")),
        }
    )
    found = scan(PARQUET, store, table_bytes(table))
    good, _ = read(PARQUET, store, found)
    assert found.columns["d"] == found.columns["l"] == pa.string()
    assert [row for _, row in good] == table.to_pylist()


def test_what_is_no_parquet_is_refused_by_name(store):
    with pytest.raises(InputFormatError, match="t cannot be read as Parquet"):
        scan(PARQUET, store, b"a,b\n1,2\n")


def test_two_parquet_columns_of_one_name_are_refused(store):
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    with pytest.raises(InputFormatError, match="same name: 'a'"):
        scan(PARQUET, store, table_bytes(table))


def test_small_windows_are_joined_and_large_ones_cut(store):
    content = b"n\n" + b"".join(b"%d\n" % n for n in range(95))
    found = scan(CSV, store, content, rows_per_range=1000)
    windows = rewindow(
        CSV.read(store, "t", found.ranges[0], ReadSchema(pa.schema([("n", pa.int64())])), header=("n",), first_row=0),
        10,
    )
    assert [window.rows for window in windows] == [10] * 9 + [5]
