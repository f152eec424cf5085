"""Rows that no file holds become files of one schema, and what cannot is refused by column and value."""

import datetime as dt
import decimal
import json
import uuid

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_provider_hfreg.errors import InputFormatError, InvalidRunOptionError
from airflow_provider_hfreg.runs import row_sources
from airflow_provider_hfreg.runs.row_sources import GivenRows, parquet_pieces


def batch(**columns):
    return pa.record_batch({name: pa.array(values) for name, values in columns.items()})


def pieces(tmp_path, *batches):
    return list(parquet_pieces(iter(batches), tmp_path, what="the query"))


def test_a_stream_is_cut_into_pieces_and_each_batch_is_a_row_group(tmp_path, monkeypatch):
    monkeypatch.setattr(row_sources, "_PIECE_ROWS", 3)
    stored = pieces(tmp_path, *(batch(a=[n, n]) for n in range(5)))
    files = [pq.ParquetFile(piece.path) for piece in stored]
    assert [(piece.rows, file.num_row_groups) for piece, file in zip(stored, files, strict=True)] == [
        (4, 2),
        (4, 2),
        (2, 1),
    ]
    assert pa.concat_tables([file.read() for file in files])["a"].to_pylist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_a_column_that_is_null_at_first_or_whole_at_first_grows(tmp_path):
    stored = pieces(
        tmp_path, batch(a=[None], b=["x"]), batch(a=[1], b=[None]), batch(a=[2.5], b=[None]), batch(a=[3], b=["y"])
    )
    assert [str(piece.schema.field("a").type) for piece in stored] == ["null", "int64", "double"]
    assert pq.read_table(stored[-1].path).to_pydict() == {"a": [2.5, 3.0], "b": [None, "y"]}


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([batch(a=[1]), batch(a=[None, "five"])], r"'a' of the query was int64 so far and is string in 'five'"),
        ([batch(a=[0.5]), batch(a=[2**53 + 1])], "too large"),
        ([pa.RecordBatch.from_arrays([pa.array([1])] * 2, names=["a", "a"])], "same name: 'a'"),
    ],
)
def test_what_would_lose_a_value_is_refused(tmp_path, batches, message):
    with pytest.raises(InputFormatError, match=message):
        pieces(tmp_path, *batches)


def test_given_rows_are_json_lines(tmp_path):
    moment = dt.datetime(2026, 1, 2, 3, tzinfo=dt.UTC)
    number = uuid.UUID(int=7)
    given = [{"a": moment, "b": decimal.Decimal("1.50"), "c": number}, {"a": "köstlich\n"}, "no row", {"a": "\ud83d"}]
    [piece] = GivenRows(given).pieces(tmp_path)
    lines = [json.loads(line) for line in piece.path.read_bytes().splitlines()]
    assert lines[0] == {"a": "2026-01-02T03:00:00+00:00", "b": "1.50", "c": str(number)}
    assert (lines[1:], piece.rows) == ([{"a": "köstlich\n"}, "no row", {"a": "\ud83d"}], 4)


def test_the_same_rows_are_the_same_question():
    assert GivenRows([{"a": 1}]).question == GivenRows(({"a": 1},)).question
    assert GivenRows([{"a": 1}]).question != GivenRows([{"a": 2}]).question


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"a": 1}, {"a": {1, 2}}], r"Row 1 .*\{1, 2\} is of type set"),
        ([{"a": "x" * 2**20}] * 17, r"more than 16 MiB of JSON from row 15 of 17 on.*Write them to a table"),
    ],
)
def test_rows_that_belong_elsewhere_are_refused(rows, message):
    with pytest.raises(InvalidRunOptionError, match=message):
        GivenRows(rows)
