"""The package without extras, in an environment of its own: what a scheduler or an API server has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODEL_LIBRARIES = {"torch", "transformers", "safetensors", "tokenizers", "pandas"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

CONNECTION_FORM = """
import json
from airflow.providers_manager import ProvidersManager
manager = ProvidersManager()
prefix = "extra__hfreg__"
fields = [name.removeprefix(prefix) for name in manager.connection_form_widgets if name.startswith(prefix)]
print(json.dumps({"fields": fields, "labels": manager.field_behaviours["hfreg"]["relabeling"]}))
"""
PARSE_DAGS = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
print(json.dumps({"dags": sorted(bag.dags), "errors": bag.import_errors, "loaded": sorted(sys.modules)}))
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """An environment with a wheel of this package and what pip installs with it; returns its Python and a folder."""
    folder = tmp_path_factory.mktemp("base")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", folder, ROOT], check=True)
    [wheel] = folder.glob("*.whl")
    constraints = ROOT / "constraints" / "transformers5.txt"
    subprocess.run([*pip, "install", "--constraint", constraints, wheel], check=True)
    return python, folder


@pytest.fixture(scope="module")
def ask(base):
    """Run a command in it, and return the JSON of its last line."""
    python, folder = base
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTHON"))}
    environment |= {"AIRFLOW_HOME": str(folder / "home"), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}

    def run(*arguments):
        program = [python, *map(str, arguments)]
        ended = subprocess.run(
            program, env=environment, cwd=folder, capture_output=True, text=True, check=True, timeout=300
        )
        return json.loads(ended.stdout.strip().splitlines()[-1])

    return run


def test_no_model_library_is_installed_with_it(ask):
    listed = "import importlib.metadata as m, json; print(json.dumps([d.name.lower() for d in m.distributions()]))"
    installed = set(ask("-c", listed))
    assert {"airflow-provider-hfreg", "apache-airflow", "boto3", "pyarrow"} <= installed
    assert not installed & MODEL_LIBRARIES


def test_airflow_lists_the_provider(ask):
    providers = ask("-m", "airflow", "providers", "list", "--output", "json")
    [ours] = [provider for provider in providers if provider["package_name"] == "airflow-provider-hfreg"]
    assert ours["version"] == "0.1.0"


def test_the_connection_form_has_its_fields(ask):
    form = ask("-c", CONNECTION_FORM)
    assert {"endpoint_url", "region_name", "aws_conn_id"} <= set(form["fields"])
    assert form["labels"]["host"] == "Registry URL"


def test_the_example_dags_are_parsed_without_a_model_library(ask):
    parsed = ask("-c", PARSE_DAGS, ROOT / "example_dags")
    assert parsed["errors"] == {}
    assert {"minimal", "sentiment_nightly"} <= set(parsed["dags"])
    assert not MODEL_LIBRARIES & set(parsed["loaded"])


def test_a_task_that_needs_torch_says_which_extra_it_lacks(ask):
    said = ask(
        "-c",
        "import json\n"
        "from airflow_provider_hfreg.errors import InferenceExtraMissingError\n"
        "from airflow_provider_hfreg.inference import pipeline\n"
        "try:\n    pipeline('text-classification', model='/none')\n"
        "except InferenceExtraMissingError as error:\n    print(json.dumps(str(error)))",
    )
    assert "airflow-provider-hfreg[inference]" in said
