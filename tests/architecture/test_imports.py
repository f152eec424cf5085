"""Who loads what: Airflow's processes must stay light, and rooms know only the rooms to their right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import airflow_provider_hfreg

ROOT = Path(airflow_provider_hfreg.__file__).parents[1]
AIRFLOW_FACING = ("hooks", "triggers", "operators", "cli")
HEAVY = (
    "torch",
    "transformers",
    "safetensors",
    "tokenizers",
    "pandas",
    "pyarrow",
    "numpy",
    "boto3",
    "botocore",
    "celery",
    "kombu",
)

LIST_LOADED = """
import importlib, json, pkgutil, sys
import airflow.sdk

before = set(sys.modules)
for name in json.loads(sys.argv[1]):
    module = importlib.import_module(name)
    for found in pkgutil.walk_packages(getattr(module, "__path__", []), name + "."):
        importlib.import_module(found.name)
print(json.dumps(sorted({name.partition(".")[0] for name in set(sys.modules) - before})))
"""


def loaded_by(*modules, beside=()):
    """Return the packages that a fresh process loads with modules, Airflow's SDK being there already."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, beside))}
    program = [sys.executable, "-c", LIST_LOADED, json.dumps(modules)]
    ended = subprocess.run(program, env=environment, capture_output=True, text=True, check=True, timeout=240)
    return set(json.loads(ended.stdout.splitlines()[-1]))


def test_what_airflow_imports_of_ours_loads_nothing_heavy():
    rooms = [f"airflow_provider_hfreg.{room}" for room in AIRFLOW_FACING]
    assert not loaded_by("airflow_provider_hfreg.get_provider_info", *rooms) & set(HEAVY)


def test_the_providers_description_imports_nothing_of_ours():
    program = "import sys, airflow_provider_hfreg.get_provider_info as m; m.get_provider_info(); print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=240)
    ours = [name for name in ended.stdout.split() if name.startswith("airflow_provider_hfreg")]
    assert ours == ["airflow_provider_hfreg", "airflow_provider_hfreg.get_provider_info"]
    assert "airflow" not in ended.stdout.split()


def test_parsing_the_example_dags_loads_no_model_library():
    dags = [
        path.stem
        for path in (ROOT / "example_dags").glob("*.py")
        if "DAG(" in (text := path.read_text()) or "@dag" in text
    ]
    assert "sentiment_nightly" in dags
    assert not loaded_by(*dags, beside=[ROOT / "example_dags"]) & {"torch", "transformers", "safetensors", "pandas"}


def test_a_registry_opens_without_the_model_libraries():
    loaded = loaded_by("airflow_provider_hfreg.registry", "airflow_provider_hfreg.runs.batch")
    assert not loaded & {"torch", "transformers", "safetensors", "pandas"}


def test_rooms_import_only_to_their_right():
    linter = Path(sys.executable).with_name("lint-imports")
    if not linter.exists():
        pytest.skip("import-linter is not installed (extra: dev)")
    ended = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=240)
    assert ended.returncode == 0, ended.stdout


def test_every_file_stays_readable_at_a_sitting():
    lengths = {path: path.read_text().count("\n") for path in (ROOT / "airflow_provider_hfreg").rglob("*.py")}
    too_long = {str(path.relative_to(ROOT)): length for path, length in lengths.items() if length > 500}
    assert not too_long
    assert sorted(lengths.values())[len(lengths) // 2] < 250
