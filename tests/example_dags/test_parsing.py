"""What a scheduler does with the examples: it parses them, and offers their parameters in a form."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

EXAMPLES = Path(__file__).parents[2] / "example_dags"

PARSE = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
heavy = [name for name in ("torch", "transformers", "pandas", "safetensors", "boto3") if name in sys.modules]
print(json.dumps({"dags": sorted(bag.dags), "errors": bag.import_errors, "heavy": heavy}))
"""


@pytest.fixture(scope="module")
def parsed():
    done = subprocess.run([sys.executable, "-c", PARSE, EXAMPLES], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def params():
    from sentiment_nightly import PARAMS

    return PARAMS


def test_every_example_parses(parsed):
    assert parsed["errors"] == {}
    assert parsed["dags"] == ["minimal", "sentiment_nightly"]


def test_parsing_loads_nothing_heavy(parsed):
    assert parsed["heavy"] == []


def test_every_parameter_is_a_valid_json_schema_with_a_title_and_a_description(params):
    for name, param in params.items():
        jsonschema.Draft202012Validator.check_schema(param.schema)
        assert param.schema.get("title"), name
        assert param.description, name


def test_every_parameter_has_a_default_that_it_accepts(params):
    for param in params.values():
        param.resolve()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model_name", "a b"),
        ("epochs", 0),
        ("epochs", "many"),
        ("min_accuracy", 1.5),
        ("train_rows", 5),
        ("if_output_exists", "overwrite"),
    ],
)
def test_the_form_refuses_what_cannot_work(params, name, value):
    from airflow.sdk.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError):
        params[name].resolve(value)
