"""The table at the end."""

from __future__ import annotations

import pyarrow as pa
import pytest
from sentiment_report import describe


@pytest.fixture
def run():
    return {
        "status": "completed",
        "batch_run_id": "0a1b2c3d4e-5f6a7b8c9d",
        "model_name": "sentiment",
        "version_name": "v1",
        "content_digest": "sha256:" + "0" * 64,
        "output": "s3://lake/scored",
        "rows_in": 1_000,
        "rows_ok": 999,
        "rows_quarantined": 1,
        "rows_truncated": 0,
        "shards_total": 6,
        "shards_resumed": 0,
        "rows_per_s": 1234.5,
        "elapsed_s": 0.81,
        "errors_url": None,
    }


RESULTS = pa.table(
    {"split": ["train", "held_out", "held_out"], "label": ["A", "A", "B"], "predicted_label": ["B", "A", "A"]}
)


def test_it_tells_rows_speed_accuracy_and_where_the_output_lies(run):
    lines = dict(line.split("  ", 1) for line in map(str.strip, describe(run, RESULTS).splitlines()))
    assert lines["rows in"].strip() == "1,000"
    assert lines["ok"].strip() == "999"
    assert lines["quarantined"].strip() == "1"
    assert lines["accuracy"].strip().startswith("0.5000 on the 2 rows")
    assert lines["majority"].strip().startswith("0.5000")
    assert lines["output"].strip() == "s3://lake/scored"


def test_it_says_that_a_run_was_completed_earlier(run):
    assert "completed earlier" in describe(run | {"status": "already_completed"}, RESULTS)


def test_it_says_how_many_shards_were_there_already(run):
    assert "6 shards, 2 of them there already" in describe(run | {"shards_resumed": 2}, RESULTS)


def test_it_does_without_accuracy_for_a_table_without_labels(run):
    assert "accuracy" not in describe(run, pa.table({"text": ["x"], "predicted_label": ["A"]}))


def test_it_names_the_place_of_quarantined_rows(run):
    assert "s3://lake/errors" in describe(run | {"errors_url": "s3://lake/errors"}, RESULTS)
