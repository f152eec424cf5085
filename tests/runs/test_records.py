"""The vectorised scanners against Python's own readers."""

import csv
import io
import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_hfreg.errors import InputFormatError
from airflow_provider_hfreg.runs.tables import records
from airflow_provider_hfreg.runs.tables.records import (
    UnclosedQuoteError,
    csv_field_counts,
    csv_records,
    jsonl_records,
    record_blocks,
)

csv_text = st.text(alphabet='ab,"\n\r é', max_size=40)


def block(text: str):
    return np.frombuffer(text.encode(), dtype=np.uint8)


def python_rows(text: str) -> list[list[str]]:
    return [row for row in csv.reader(io.StringIO(text, newline="")) if row]


@given(csv_text)
@example('a,"x\ny"\n5" nail,"z"\n')
@example('"""a","",""""\n')
@example('a,"b""\n","c')
@example('"a"b"c,"\n"\n')
@example("a\r\r\nb\r")
def test_records_and_fields_are_those_of_pythons_csv(text):
    try:
        found = csv_records(block(text), final=True)
    except UnclosedQuoteError:
        assert text.count('"') > 0
        return
    rows = ~found.blank
    assert csv_field_counts(block(text), found)[rows].tolist() == [len(row) for row in python_rows(text)]
    starts = found.starts[rows].tolist()
    ends = found.ends[rows].tolist()
    content = text.encode()
    pieces = [content[start:end].decode() for start, end in zip(starts, ends, strict=True)]
    assert [python_rows(piece)[0] for piece in pieces] == python_rows(text)


@given(st.lists(st.lists(st.text(max_size=8), min_size=2, max_size=3), max_size=8), st.sampled_from(["\n", "\r\n"]))
def test_whatever_pythons_csv_writes_is_found_again(rows, line_end):
    sink = io.StringIO(newline="")
    # Left to itself, Python's writer leaves a lone \\r unquoted, and its own reader then finds two rows.
    csv.writer(sink, lineterminator=line_end, quoting=csv.QUOTE_ALL).writerows(rows)
    found = csv_records(block(sink.getvalue()), final=True)
    assert int(np.count_nonzero(~found.blank)) == len(rows)


@given(csv_text, st.integers(1, 9))
def test_blocks_of_any_size_give_the_same_records(text, size):
    content = text.encode()
    try:
        whole = csv_records(np.frombuffer(content, dtype=np.uint8), final=True)
    except UnclosedQuoteError:
        return
    blocks = list(
        record_blocks(
            lambda start, length: content[start : start + length],
            0,
            len(content),
            csv_records,
            where="here",
            block_bytes=size,
        )
    )
    ends = [block.offset + int(end) for block in blocks for end in block.records.ends]
    assert ends == whole.ends.tolist()
    assert b"".join(block.content for block in blocks) == content


@given(st.text(alphabet='{}"a \t\n\r', max_size=30), st.integers(1, 9))
def test_lines_are_those_of_python_without_the_blank_ones(text, size):
    content = text.encode()
    expected = [line for line in content.split(b"\n") if line.strip(b" \t\r")]
    blocks = record_blocks(
        lambda start, length: content[start : start + length],
        0,
        len(content),
        jsonl_records,
        where="here",
        block_bytes=size,
    )
    found = [b.raw(int(n)) for b in blocks for n in np.flatnonzero(~b.records.blank)]
    assert [line.rstrip(b"\r") for line in found] == [line.rstrip(b"\r") for line in expected]


@given(st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=5) | st.integers()), max_size=6))
def test_whatever_pythons_json_writes_is_one_line_each(rows):
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    found = jsonl_records(block(text), final=True)
    assert len(found.ends) == len(rows)


def test_a_quote_that_is_never_closed_is_named_with_its_place():
    content = b'a,b\n1,"x\n2,y\n'
    with pytest.raises(
        InputFormatError, match=r"s3://b/in\.csv: the quote opened in the record at byte 4 is never clos"
    ):
        list(record_blocks(lambda s, n: content[s : s + n], 0, len(content), csv_records, where="s3://b/in.csv"))


def test_a_record_without_end_does_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(records, "LARGEST_RECORD_BYTES", 1000)
    content = b'a\n"' + b"x\n" * 5000
    with pytest.raises(InputFormatError, match="the record at byte 2 is longer"):
        list(record_blocks(lambda s, n: content[s : s + n], 0, len(content), csv_records, where="x", block_bytes=100))


def test_a_file_that_became_shorter_is_told():
    with pytest.raises(InputFormatError, match="shorter than it was"):
        list(record_blocks(lambda _s, _n: b"", 0, 10, csv_records, where="x"))
