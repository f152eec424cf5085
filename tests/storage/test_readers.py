"""The ranged reader reads as a file does, with few requests."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_hfreg.storage.readers import RangedReader

_CONTENT = b"".join(number.to_bytes(3, "big") for number in range(100_000))


def _reader(content):
    requests = []

    def read_range(start, length):
        requests.append((start, length))
        return content[start : start + length]

    return io.BufferedReader(RangedReader(read_range, len(content))), requests


_MOVES = st.lists(st.tuples(st.integers(0, len(_CONTENT) + 5), st.integers(0, 200_000)), max_size=6)


@given(_MOVES)
def test_it_reads_as_bytes_in_memory_do(moves):
    reader, _ = _reader(_CONTENT)
    expected = io.BytesIO(_CONTENT)
    for position, count in moves:
        assert reader.seek(position) == expected.seek(position)
        assert reader.read(count) == expected.read(count)
        assert reader.read(7) == expected.read(7)
        assert reader.tell() == expected.tell()


def test_reading_forward_asks_for_more_and_more():
    content = bytes(40_000_000)
    reader, requests = _reader(content)
    while reader.read(65_536):
        pass
    assert len(requests) < 15
    assert sum(length for _, length in requests) == len(content)


def test_lines_are_read_with_few_requests():
    content = b"".join(b"line %d\n" % number for number in range(200_000))
    reader, requests = _reader(content)
    assert sum(1 for _ in reader) == 200_000
    assert len(requests) < 10


def test_one_column_of_parquet_costs_its_bytes_and_the_footer():
    buffer = io.BytesIO()
    columns = {name: [f"{name} {number}" for number in range(20_000)] for name in "abcdefgh"}
    pq.write_table(pa.table(columns), buffer, compression="none", use_dictionary=False)
    content = buffer.getvalue()
    reader, requests = _reader(content)
    assert pq.ParquetFile(reader).read(columns=["d"]).num_rows == 20_000
    assert len(requests) <= 4
    assert sum(length for _, length in requests) < len(content) / 4
