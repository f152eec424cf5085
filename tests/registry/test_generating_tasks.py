"""Logging and running the tasks whose pipelines transformers removed, and zero-shot, through the registry's face."""

import json

import numpy as np
import pandas as pd
import pytest

from airflow_provider_hfreg.errors import ColumnMissingError, RowsFailedError, UnsupportedPipelineError
from airflow_provider_hfreg.inference import pipeline
from airflow_provider_hfreg.testing import models

TEXTS = ["the film was good", "größtenteils 映画 👩‍👩‍👧", ""]
TURNS = [["hi"], ["a", "b"], ["größtenteils 映画"]]
LABELS = [["urgent", "not urgent"], ["日本語"], ["a", "b", "c"]]
LIST_OF_TEXTS = "FeatureSpec(dtype=DataType.STRING, name='{}', shape=(-1,))"

# task → model, its arguments, columns in, outputs and their dtypes
TASKS = {
    "summarization": ("t5", {"max_new_tokens": 5}, {"documents": TEXTS}, {"summary_text": "string"}),
    "text2text-generation": ("bart", {"max_new_tokens": 5}, {"inputs": TEXTS}, {"generated_text": "string"}),
    "translation": ("marian", {"max_new_tokens": 5}, {"inputs": TEXTS}, {"translation_text": "string"}),
    "translation_de_to_fr": ("marian", {"max_new_tokens": 5}, {"inputs": TEXTS}, {"translation_text": "string"}),
    "conversational": (
        "gpt2",
        {"max_new_tokens": 5},
        {"user_inputs": TURNS, "generated_responses": [[], ["c"], []]},
        {"generated_responses": "object"},
    ),
    "zero-shot-classification": (
        "bert",
        {},
        {"sequences": [*TEXTS[:2], "it's"], "candidate_labels": LABELS},
        {"sequence": "string", "labels": "object", "scores": "object"},
    ),
}


@pytest.fixture(scope="module")
def pipe_of(tmp_path_factory):
    """Build the pipeline of a task over its tiny model."""

    def built(task, **arguments):
        architecture, own, _, _ = TASKS[task]
        folder = tmp_path_factory.mktemp(architecture)
        make = {
            "gpt2": models.text_generator,
            "bert": lambda where, **more: models.text_classifier(where, labels=("contradiction", "entailment"), **more),
        }.get(architecture, models.text_to_text_model)
        make(folder, architecture=architecture)
        return pipeline(task, str(folder), device="cpu", **{**own, **arguments})

    return built


@pytest.fixture(params=TASKS)
def task(request):
    return request.param


@pytest.fixture
def version(task, file_registry, pipe_of):
    return file_registry.log_model(pipe_of(task), model_name="some", version_name="v1")


def test_any_frame_gives_its_rows_in_the_signatures_columns(task, version):
    _, _, inputs, outputs = TASKS[task]
    frame = pd.DataFrame({"extra": [1, 2, 3], **inputs}, index=["c", "a", "b"])
    before = frame.copy(deep=True)

    result = version.run(frame, device="cpu")

    assert {name: str(dtype) for name, dtype in result.dtypes.items()} == outputs
    assert list(result.index) == ["c", "a", "b"]
    pd.testing.assert_frame_equal(frame, before)
    unnamed = version.run(pd.DataFrame(list(zip(*inputs.values(), strict=True)), index=frame.index), device="cpu")
    pd.testing.assert_frame_equal(unnamed, result, check_exact=False, atol=1e-5)
    alone = version.run(frame[1:2], device="cpu")
    pd.testing.assert_frame_equal(alone, result[1:2], check_exact=False, atol=1e-5)
    empty = version.run(frame[:0], device="cpu")
    assert (len(empty), {name: str(dtype) for name, dtype in empty.dtypes.items()}) == (0, outputs)


def test_a_null_is_its_rows_error_and_a_missing_column_the_callers(task, version):
    _, _, inputs, _ = TASKS[task]
    for name in inputs:
        frame = pd.DataFrame(inputs)
        frame[name] = [frame[name][0], None, frame[name][2]]
        with pytest.raises(RowsFailedError, match=rf"row 1 \(null_value\).*{name}") as caught:
            version.run(frame, device="cpu")
        assert list(caught.value.result.index) == [0, 2]
        with pytest.raises(ColumnMissingError, match=name):
            version.run(pd.DataFrame(inputs).drop(columns=name), device="cpu")


def test_the_name_stays_and_a_version_loads_as_a_pipeline(task, version):
    assert version.task == task
    pipe = version.load(device="cpu")
    assert pipe.task == task
    assert callable(pipe)


def test_lists_of_texts_are_shown_as_such(file_registry, pipe_of):
    version = file_registry.log_model(pipe_of("conversational"), model_name="chat", version_name="v1")
    shown = str(version.show_functions()[0]["signature"])
    assert shown.count(LIST_OF_TEXTS.format("generated_responses")) == 2
    assert LIST_OF_TEXTS.format("user_inputs") in shown


def test_several_texts_are_a_json_list_in_the_same_column(file_registry, pipe_of):
    version = file_registry.log_model(pipe_of("translation", num_return_sequences=2), model_name="t", version_name="v")

    result = version.run(pd.DataFrame({"inputs": TEXTS}), device="cpu")

    for text in result["translation_text"]:
        assert [list(each) for each in json.loads(text)] == [["translation_text"], ["translation_text"]]
    single = version.run(pd.DataFrame({"inputs": TEXTS}), params={"num_return_sequences": np.int64(1)}, device="cpu")
    assert not any(text.startswith("[{") for text in single["translation_text"])


@pytest.mark.parametrize("task", [task for task in TASKS if "_text" in str(TASKS[task][3])])
def test_tensors_are_refused_by_the_options_name(task, file_registry, pipe_of):
    with pytest.raises(UnsupportedPipelineError, match="return_tensors"):
        file_registry.log_model(pipe_of(task, return_tensors=True), model_name="tensors")


def test_a_pipelines_own_labels_make_the_column_optional(file_registry, pipe_of):
    pipe = pipe_of("zero-shot-classification", candidate_labels=["good", "bad"])
    version = file_registry.log_model(pipe, model_name="labelled", version_name="v1")

    result = version.run(pd.DataFrame({"sequences": TEXTS[:2]}), device="cpu")

    assert [sorted(labels) for labels in result["labels"]] == [["bad", "good"]] * 2
