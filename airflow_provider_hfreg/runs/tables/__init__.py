"""Parquet, CSV and JSONL read through an object store: typed once per run, streamed by windows, bad rows as values."""
