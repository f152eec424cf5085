"""A large table in the memory of a few windows."""

import subprocess
import sys

import pytest

SCAN_AND_READ = """
import sys
import pyarrow as pa
from airflow_provider_hfreg.runs.inputs import TableFormat
from airflow_provider_hfreg.runs.tables import READERS
from airflow_provider_hfreg.runs.tables.base import ReadSchema
from airflow_provider_hfreg.runs.tables.windows import rewindow
from airflow_provider_hfreg.storage.urls import open_store

store, key = open_store(sys.argv[1]), sys.argv[2]
reader = READERS[TableFormat(sys.argv[3])]
found = reader.scan(store, key, store.find_info(key).size_bytes, rows_per_range=300_000)
schema = ReadSchema(pa.schema([("id", pa.int64()), ("text", pa.string())]))
rows = 0
for piece in found.ranges:
    for window in rewindow(reader.read(store, key, piece, schema, header=found.header, first_row=rows), 4096):
        rows += window.rows
# Not getrusage: its maximum is inherited from the process that started this one.
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(rows, status["VmHWM"].split()[0])
"""


def peak_kib(store_url, key, name, rows):
    told = [sys.executable, "-c", SCAN_AND_READ, store_url, key, name]
    out = subprocess.run(told, capture_output=True, text=True, check=True).stdout.split()
    assert int(out[0]) == rows
    return int(out[1])


@pytest.mark.slow
def test_a_million_rows_of_csv_need_no_more_memory_than_a_third_of_them(tmp_path):
    line = '{},"the film number {} was good, and the music ""better"" than anything I heard this year,\nby far"\n'
    for rows in (300_000, 1_000_000):
        with (tmp_path / f"{rows}.csv").open("w") as file:
            file.write("id,text\n")
            file.writelines(line.format(number, number) for number in range(rows))
    small = peak_kib(tmp_path.as_uri(), "300000.csv", "csv", 300_000)
    large = peak_kib(tmp_path.as_uri(), "1000000.csv", "csv", 1_000_000)
    assert (tmp_path / "1000000.csv").stat().st_size > 90 * 2**20
    assert large - small < 40 * 2**10


@pytest.mark.slow
def test_a_parquet_row_group_is_streamed(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    peaks = []
    for rows in (100_000, 1_000_000):
        texts = [
            f"the film number {n} was {n * 7919 % 1000003} times as good as any other of this year" for n in range(rows)
        ]
        pq.write_table(pa.table({"id": range(rows), "text": texts}), tmp_path / f"{rows}.parquet", row_group_size=rows)
        peaks.append(peak_kib(tmp_path.as_uri(), f"{rows}.parquet", "parquet", rows))
    assert peaks[1] - peaks[0] < 60 * 2**10
