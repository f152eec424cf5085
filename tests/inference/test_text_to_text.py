"""Summaries, translations and other answers against 4.57's pipelines: written down, and live where that family runs."""

import json
import warnings
from pathlib import Path

import pyarrow as pa
import pytest

from airflow_provider_hfreg import inference

GOLDEN = json.loads(Path(__file__).parents[1].joinpath("pipelines/goldens/text_to_text.json").read_text("utf-8"))
CASES = [
    pytest.param(case, id=f"{case['task']}-{case['architecture']}-{'-'.join(case['arguments'])}")
    for case in GOLDEN["cases"]
]


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    """The folder of a model, made when first asked for."""
    from airflow_provider_hfreg.testing.models import text_to_text_model

    made = {}

    def folder(architecture, config):
        key = (architecture, json.dumps(config))
        if key not in made:
            made[key] = text_to_text_model(tmp_path_factory.mktemp(architecture), architecture=architecture, **config)
        return made[key]

    return folder


@pytest.fixture
def build(folder_of):
    """Build the pipeline of a case, or of a task and more."""

    def built(task, architecture="t5", config=None, **arguments):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # 4.57 warns where it takes a model's first pair of languages
            return inference.pipeline(task, str(folder_of(architecture, config or {})), device="cpu", **arguments)

    return built


def of_case(build, case):
    return build(case["task"], case["architecture"], case["config"], **case["arguments"])


def window_of(pipe, texts):
    return pa.record_batch({"documents" if pipe.task == "summarization" else "inputs": pa.array(texts, pa.string())})


def answers_of(result):
    """Return what a pipeline would have given for each row."""
    (name,) = result.outputs.schema.names
    values = result.outputs.column(name).to_pylist()
    return [json.loads(value) if value.startswith("[{") else [{name: value}] for value in values]


@pytest.mark.parametrize("case", CASES)
def test_text_is_that_of_4_57(case, build, engine_of):
    pipe = of_case(build, case)

    result = engine_of(pipe).run(window_of(pipe, case["texts"]))

    assert (pipe.task, result.errors) == (case["named"], ())
    assert answers_of(result) == case["alone"]


@pytest.mark.parametrize("case", CASES)
def test_the_pipeline_object_is_called_as_in_4_57(case, build):
    pipe = of_case(build, case)

    assert pipe(case["texts"]) == case["together"]
    assert pipe(case["texts"][0]) == case["alone"][0]


@pytest.mark.parametrize("case", CASES)
def test_a_folder_is_described_as_its_pipeline_is(case, build, folder_of, package):
    from airflow_provider_hfreg.pipelines.folder import describe_folder

    _, logged = package(of_case(build, case))
    described = describe_folder(folder_of(case["architecture"], case["config"]), case["task"], case["arguments"])

    assert (described.task, described.parameters) == (logged.task, logged.parameters)
    assert described.generation == logged.generation
