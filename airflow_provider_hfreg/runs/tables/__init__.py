"""Parquet, CSV and JSONL read through an object store: typed once per run, streamed by windows, bad rows as values."""

from __future__ import annotations

from airflow_provider_hfreg.runs.inputs import TableFormat
from airflow_provider_hfreg.runs.tables.base import TableReader
from airflow_provider_hfreg.runs.tables.csv_table import CsvReader
from airflow_provider_hfreg.runs.tables.jsonl_table import JsonlReader
from airflow_provider_hfreg.runs.tables.parquet_table import ParquetReader

READERS: dict[TableFormat, TableReader] = {
    TableFormat.PARQUET: ParquetReader(),
    TableFormat.CSV: CsvReader(),
    TableFormat.JSONL: JsonlReader(),
}
