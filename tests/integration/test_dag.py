"""Both operators in a DAG, as `airflow dags test` runs it: XCom, templates, values of the trigger form, mapping."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_provider_hfreg.testing.models import text_classifier

DAGS = Path(__file__).parent / "dags"


@pytest.fixture(scope="module")
def airflow(tmp_path_factory):
    """An Airflow of its own with a registry in a folder; called with a command, it runs it and returns what it said."""
    folder = tmp_path_factory.mktemp("airflow")
    registry = {"conn_type": "hfreg", "host": (folder / "registry").as_uri()}
    environment = os.environ | {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__HFREG__CACHE_FOLDER": str(folder / "cache"),
        "AIRFLOW_CONN_HFREG_DEFAULT": json.dumps(registry),
    }

    def run(*command):
        program = [sys.executable, "-m", "airflow", *command]
        ended = subprocess.run(program, env=environment, capture_output=True, text=True, check=False, timeout=280)
        assert ended.returncode == 0, f"{ended.stdout[-5000:]}\n{ended.stderr[-5000:]}"
        return ended.stdout

    run("db", "migrate")
    run.folder = folder
    return run


def test_a_dag_logs_a_model_and_scores_tables_with_it(airflow, tmp_path):
    table = tmp_path / "texts.parquet"
    texts = [f"text number {row}" for row in range(9)] + [None]
    pq.write_table(pa.table({"id": list(range(10)), "body": texts}), table)
    conf = {
        "model_folder": str(text_classifier(tmp_path / "model")),
        "input": table.as_uri(),
        "output_folder": (tmp_path / "out").as_uri(),
        "returned": str(tmp_path / "returned.json"),
        "rows_per_shard": 4,
        "max_row_errors": 0.1,
    }
    said = airflow("dags", "test", "log_and_score", "--conf", json.dumps(conf))
    returned = json.loads((tmp_path / "returned.json").read_text())
    assert returned["logged"]["created"] is True
    assert returned["logged"]["model_name"] == "tiny"
    for report in (returned["scored"], *returned["mapped"]):
        assert report["content_digest"] == returned["logged"]["content_digest"]
        assert (report["rows_ok"], report["rows_quarantined"], report["shards_total"]) == (9, 1, 3)
    for name in ("whole", "first", "second"):
        assert sorted(pq.read_table(tmp_path / "out" / name)["id"].to_pylist()) == list(range(9))
    assert "state=success" in said
    assert names_of_mapped(airflow.folder / "airflow.db", "score_many") == {"to first", "to second"}


def names_of_mapped(database, task_id):
    """Return the names under which the instances of a mapped task are shown."""
    with sqlite3.connect(database) as connection:
        rows = connection.execute("SELECT rendered_map_index FROM task_instance WHERE task_id = ?", [task_id])
        return {name for (name,) in rows}
