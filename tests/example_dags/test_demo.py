"""``make demo`` on a small table: the whole DAG, then the same again, then with a gate that nothing passes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

EXAMPLES = Path(__file__).parents[2] / "example_dags"


@pytest.fixture(scope="module")
def folder(easy_table, tmp_path_factory):
    """The demo's folder, with a prepared table in it."""
    folder = tmp_path_factory.mktemp("demo")
    pq.write_table(easy_table, folder / "sentiment.parquet")
    return folder


@pytest.fixture(scope="module")
def demo(folder):
    """Runs the demo and returns its exit status and what was on the screen."""

    def run(*params):
        command = [sys.executable, EXAMPLES / "run_demo.py", folder, "epochs=5", *params]
        environment = os.environ | {"AIRFLOW__CORE__DAGS_FOLDER": "/another/airflow/of/this/shell"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.stderr == ""
        return done.returncode, done.stdout

    return run


@pytest.fixture(scope="module")
def first(demo):
    return demo()


def test_the_screen_ends_with_the_report(first):
    status, screen = first
    assert status == 0, screen
    assert "Wrote" not in screen, "the table was there"
    assert "rows in        1,000" in screen
    assert "on the 200 rows held out" in screen


def test_the_screen_shows_nothing_of_airflow_itself(first, folder):
    _, screen = first
    assert "DAG TEST" not in screen
    assert "RuntimeTaskInstance" not in screen
    assert "RuntimeTaskInstance" in (folder / "airflow.log").read_text()


def test_every_row_is_in_the_output_once_beside_its_own_columns(first, folder, easy_table):
    scored = pq.read_table(folder / "scored", partitioning=None)
    assert sorted(scored["id"].to_pylist()) == sorted(easy_table["id"].to_pylist())
    assert scored.column_names == [*easy_table.column_names, "predicted_label", "predicted_score"]


def test_a_second_demo_finds_everything_and_says_so(first, demo):
    _, before = first
    status, screen = demo()
    assert status == 0
    assert "The same training was done already" in screen
    assert "Found, with the same content" in screen
    assert "completed earlier" in screen
    assert [line for line in screen.splitlines() if "accuracy" in line] == [
        line for line in before.splitlines() if "accuracy" in line
    ]


def test_a_version_below_the_gate_is_logged_but_nothing_is_scored_with_it(first, demo, folder):
    status, screen = demo("min_accuracy=1", "train_rows=100", "epochs=1", "model_name=poor")
    assert status == 1
    assert "is needed" in screen
    assert "score\n" not in screen
    assert (folder / "registry" / "models" / "poor").exists()
