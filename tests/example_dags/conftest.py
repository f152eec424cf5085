"""The examples' own modules, a table like the real one that is made in a moment, and an Airflow to run DAGs with."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "example_dags"

# As Airflow does with a folder of DAGs.
sys.path.insert(0, str(EXAMPLES))


@pytest.fixture(scope="session")
def easy_table():
    """A thousand rated texts of which the feeling is plain."""
    from sentiment_data import with_labels

    draw = random.Random(0)
    good, bad = ["good", "great", "lovely"], ["bad", "dull", "awful"]
    signs = [draw.choice([1, -1]) for _ in range(1_000)]
    texts = [f"text {number}: {draw.choice(good if sign > 0 else bad)}!" for number, sign in enumerate(signs)]
    ids = tuple(f"tweets/{number}" for number in range(len(texts)))
    return with_labels(ids, ("tweets",) * len(ids), tuple(texts), tuple(2.0 * sign for sign in signs), train_rows=800)


@pytest.fixture(scope="session")
def airflow_environment(tmp_path_factory):
    """Environment of a process whose Airflow reads the examples and has a database."""
    home = tmp_path_factory.mktemp("airflow")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    environment |= {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(EXAMPLES),
        "AIRFLOW__HFREG__CACHE_FOLDER": str(home / "cache"),
    }
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], env=environment, check=True, capture_output=True)
    return environment
