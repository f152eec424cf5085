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


# Of a stop sequence 4.57 keeps its first token alone, and forgets that it was given.
@pytest.mark.parametrize("case", [case for case in CASES if "stop_sequence" not in case.values[0]["arguments"]])
def test_a_folder_is_described_as_its_pipeline_is(case, build, folder_of, package):
    from airflow_provider_hfreg.pipelines.folder import describe_folder

    _, logged = package(of_case(build, case))
    described = describe_folder(folder_of(case["architecture"], case["config"]), case["task"], case["arguments"])

    assert (described.task, described.parameters) == (logged.task, logged.parameters)
    assert described.generation == logged.generation


def test_a_version_loads_as_the_pipeline_that_was_logged(build, package):
    from airflow_provider_hfreg.inference.stand_in import load_pipeline_object

    prefixes = {"summarization": {"prefix": "summarize: ", "num_beams": 2}}
    pipe = build("summarization", config={"task_specific_params": prefixes}, max_new_tokens=9)
    answer = pipe("the film was good")
    folder, spec = package(pipe)

    loaded = load_pipeline_object(folder, spec, device="cpu")

    assert loaded("the film was good") == answer
    again, spec_again = package(loaded)
    assert spec_again == spec
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {path.name: path.read_bytes() for path in again.iterdir()} == files


def test_a_call_may_set_parameters_of_its_own(build):
    pipe = build("text2text-generation", max_new_tokens=4)

    assert len(pipe("good", num_return_sequences=2)) == 2
    assert [len(each) for each in pipe(["good", "bad"], num_return_sequences=2)] == [2, 2]
    assert pipe("good", max_new_tokens=8) != pipe("good")


def test_a_run_may_set_what_the_pipeline_did_not(build, engine_of):
    pipe = build("text2text-generation", max_new_tokens=4)
    engine = engine_of(pipe)
    window = window_of(pipe, ["good"])

    assert answers_of(engine.run(window, {"max_new_tokens": 8})) == [pipe("good", max_new_tokens=8)]
    several = answers_of(engine.run(window, {"num_return_sequences": 2}))
    assert several == [pipe("good", num_return_sequences=2)]
    assert answers_of(engine.run(window)) == [pipe("good")]


def test_drawn_texts_depend_on_the_seed_alone(build, engine_of):
    pipe = build("text2text-generation", max_new_tokens=8, do_sample=True, num_beams=1)
    engine = engine_of(pipe)
    texts = ["good", "the film was good", "bad", "good"]

    together = answers_of(engine.run(window_of(pipe, texts), seed=5))

    alone = [answers_of(engine.run(window_of(pipe, [text]), seed=5, first_row=row)) for row, text in enumerate(texts)]
    assert [[answer] for answer in together] == alone
    assert answers_of(engine.run(window_of(pipe, texts), seed=6)) != together


@pytest.mark.parametrize("architecture", ["bart", "marian"])
def test_a_text_is_cut_where_the_models_positions_end(architecture, build, engine_of):
    pipe = build("translation", architecture, max_new_tokens=4)
    engine = engine_of(pipe)
    long = "good " * 100

    result = engine.run(window_of(pipe, [long, "good"]))

    assert (result.errors, result.truncated_rows) == ((), 1)
    assert answers_of(result) == [pipe(long, truncation=True), pipe("good")]


def test_a_text_that_must_not_be_cut_is_its_rows_error(build, engine_of):
    pipe = build("translation", "bart", max_new_tokens=4, truncation=False)

    result = engine_of(pipe).run(window_of(pipe, ["good " * 100, "good"]))

    assert [error.row for error in result.errors] == [0]
    assert answers_of(result) == [pipe("good")]


def test_a_run_may_choose_other_languages(build, engine_of):
    pipe = build("translation", "mbart", max_new_tokens=6, src_lang="en_XX", tgt_lang="ro_RO")
    french = build("translation", "mbart", max_new_tokens=6, src_lang="en_XX", tgt_lang="fr_XX")
    engine = engine_of(pipe)

    result = engine.run(window_of(pipe, ["the film was good"]), {"tgt_lang": "fr_XX"})

    assert answers_of(result) == [french("the film was good")] != [pipe("the film was good")]
    assert answers_of(engine.run(window_of(pipe, ["the film was good"]))) == [pipe("the film was good")]


@pytest.mark.parametrize(
    ("languages", "message"),
    [
        ({}, "was not told which"),
        ({"src_lang": "en_XX"}, "was not told"),
        ({"src_lang": "en_XX", "tgt_lang": "xx"}, "'xx'"),
    ],
)
def test_a_model_of_many_languages_must_be_told_two_that_it_knows(languages, message, build, engine_of):
    from airflow_provider_hfreg.errors import UnknownParameterError

    engine = engine_of(build("translation", "mbart", max_new_tokens=4))

    with pytest.raises(UnknownParameterError, match=message):
        engine.run(pa.record_batch({"inputs": ["good"]}), languages)


def test_no_rows_give_an_empty_column(build, engine_of):
    pipe = build("summarization", "bart")

    outputs = engine_of(pipe).run(window_of(pipe, [])).outputs

    assert (outputs.num_rows, outputs.schema.names, outputs.schema.types) == (0, ["summary_text"], [pa.string()])
