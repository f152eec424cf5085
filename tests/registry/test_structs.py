"""Structs instead of JSON text: the same objects in exact types, for every task that gives lists of objects."""

import dataclasses
import json

import pandas as pd
import pyarrow as pa
import pytest

from airflow_provider_hfreg.errors import (
    InvalidOptionError,
    RowsFailedError,
    UnknownParameterError,
    UnsupportedPipelineError,
)
from airflow_provider_hfreg.registry import Registry
from airflow_provider_hfreg.testing import encoder_models, models

TEXTS = ["the film was good", None, 'größtenteils "köstlich" 映画', "a dull plot"]
MASKED = ["the [MASK] was good", None, "[MASK] and [MASK]", "no mask"]
QUESTIONS = {"question": TEXTS, "context": ["it is what it is", "a", "the film was good", "10/10 would buy again"]}
TWO_TEXTS = {"num_return_sequences": 2, "num_beams": 2, "do_sample": False, "max_new_tokens": 4}
LABELLED = "struct<label: string, score: double>"
TOKEN = "struct<entity: string, score: double, index: int64, word: string, start: int64, end: int64>"
ENTITY = "struct<entity_group: string, score: double, word: string, start: int64, end: int64>"
ANSWER = "struct<score: double, start: int64, end: int64, answer: string>"
OF_MASK = "list<item: struct<score: double, token: int64, token_str: string, sequence: string>>"

# model, task, arguments, columns in, column out, what its lists hold
CASES = {
    "text-classification": (models.text_classifier, {"top_k": 2}, {"text": TEXTS}, "outputs", LABELLED),
    "token-classification": (encoder_models.token_classifier, {}, {"inputs": TEXTS}, "outputs", TOKEN),
    "ner": (
        encoder_models.token_classifier,
        {"aggregation_strategy": "simple"},
        {"inputs": TEXTS},
        "outputs",
        ENTITY,
    ),
    "fill-mask": (encoder_models.masked_language_model, {"top_k": 2}, {"inputs": MASKED}, "outputs", OF_MASK),
    "question-answering": (encoder_models.question_answerer, {"top_k": 3}, QUESTIONS, "outputs", ANSWER),
    "text-generation": (
        models.text_generator,
        TWO_TEXTS,
        {"inputs": TEXTS},
        "outputs",
        "struct<generated_text: string>",
    ),
    "summarization": (
        models.text_to_text_model,
        TWO_TEXTS,
        {"documents": TEXTS},
        "summary_text",
        "struct<summary_text: string>",
    ),
    "text2text-generation": (
        models.text_to_text_model,
        TWO_TEXTS,
        {"inputs": TEXTS},
        "generated_text",
        "struct<generated_text: string>",
    ),
    "translation_en_to_de": (
        models.text_to_text_model,
        TWO_TEXTS,
        {"inputs": TEXTS},
        "translation_text",
        "struct<translation_text: string>",
    ),
}


@pytest.fixture(scope="module")
def version_of(tmp_path_factory):
    """Log a version of a task with some arguments."""
    root = tmp_path_factory.mktemp("structs")
    registry = Registry((root / "store").as_uri(), cache_folder=root / "cache")
    folders = {}

    def logged(task, **arguments):
        make = CASES[task][0]
        folder = folders.get(make) or folders.setdefault(make, make(root / make.__name__))
        return registry.log_folder(folder, model_name=task, task=task, pipeline_kwargs=arguments)

    return logged


@pytest.mark.parametrize("task", CASES)
def test_structs_are_what_the_json_text_says_in_the_type_that_is_told_in_advance(task, version_of):
    _, arguments, inputs, column, kind = CASES[task]
    version = version_of(task, **arguments)
    frame = pd.DataFrame(inputs, index=list("dcba"))
    told = version.output_schema("struct")
    assert (told.names, str(told.field(column).type)) == ([column], f"list<item: {kind}>")
    assert version.output_schema() == version.output_schema("json") == pa.schema([(column, pa.string())])

    texts = version.run(frame, on_row_error="null", device="cpu")
    structs = version.run(frame, on_row_error="null", output_format="struct", device="cpu")

    assert structs.dtypes.to_dict() == {column: pd.ArrowDtype(told.field(column).type)}
    assert list(structs.index) == list("dcba")
    assert structs[column].isna().tolist() == texts[column].isna().tolist()
    assert structs[column].isna().tolist()[:3] == [False, True, False]
    for text, rows in zip(texts[column].dropna(), structs[column].dropna(), strict=True):
        found = json.loads(text)
        if task == "fill-mask" and not isinstance(found[0], list):
            found = [found]  # of one mask
        assert repr(rows) == repr(found)  # 1 is not 1.0
    assert any(structs[column].dropna())

    empty = version.run(frame[:0], output_format="struct", device="cpu")
    assert (len(empty), empty.dtypes.to_dict()) == (0, structs.dtypes.to_dict())
    nothing = version.run(frame[1:2], on_row_error="null", output_format="struct", device="cpu")
    assert (nothing[column].isna().tolist(), nothing.dtypes.to_dict()) == ([True], structs.dtypes.to_dict())
    with pytest.raises(RowsFailedError) as caught:
        version.run(frame, output_format="struct", device="cpu")
    assert caught.value.result.dtypes.to_dict() == structs.dtypes.to_dict()


def test_the_columns_that_hold_no_json_text_are_the_same_in_both_formats(version_of):
    version = version_of("text-classification")
    frame = pd.DataFrame({"text": ["the film was good"]})
    assert version.output_schema("struct") == version.output_schema("json")
    pd.testing.assert_frame_equal(version.run(frame, output_format="struct"), version.run(frame))


def test_the_parameters_of_a_run_decide_its_types(version_of):
    several = version_of("translation_en_to_de", **TWO_TEXTS)
    entities = version_of("ner")
    frame = pd.DataFrame({"inputs": ["the film was good"]})
    for version, params, kind in (
        (several, {"num_return_sequences": 1}, "string"),
        (entities, {"aggregation_strategy": "simple"}, f"list<item: {ENTITY}>"),
        (entities, {}, f"list<item: {TOKEN}>"),
    ):
        (column,) = version.output_schema("struct", params=params)
        result = version.run(frame, params=params, output_format="struct", device="cpu")[column.name]
        assert str(column.type) == kind
        assert str(result.dtype) == (kind if kind == "string" else f"{kind}[pyarrow]")


def test_more_rows_than_a_window_keep_their_order(version_of):
    version = version_of("text-classification", top_k=2)
    frame = pd.DataFrame({"text": [f"the film {row % 3}" for row in range(5000)]})
    result = version.run(frame, output_format="struct")["outputs"]
    labels, scores = (result.list.flatten().struct.field(name).tolist() for name in ("label", "score"))
    assert labels == labels[:6] * 1666 + labels[:4]
    assert scores == pytest.approx(scores[:6] * 1666 + scores[:4], abs=1e-6)  # of other batches
    assert result.list.flatten().struct.field("score").dtype == "double[pyarrow]"


@pytest.mark.parametrize("output_format", ["arrow", "STRUCT", None])
def test_another_format_is_refused_before_anything_is_loaded(output_format, version_of):
    version = version_of("text-classification", top_k=2)
    for ask in (
        lambda: version.output_schema(output_format),
        lambda: version.run(pd.DataFrame({"text": ["a"]}), output_format=output_format, device="no such device"),
    ):
        with pytest.raises(InvalidOptionError, match="write 'json' or 'struct'"):
            ask()


@pytest.mark.parametrize("output_format", ["json", "struct"])
def test_a_parameter_that_a_run_would_refuse_has_no_columns(output_format, version_of):
    with pytest.raises(UnknownParameterError, match="no parameter 'nope'"):
        version_of("text-classification", top_k=2).output_schema(output_format, params={"nope": 1})


def test_a_task_whose_signature_was_given_has_texts_and_no_structs(version_of):
    version = version_of("text-classification", top_k=2)
    spec = dataclasses.replace(version.spec, task="image-to-text")
    version.manifest = dataclasses.replace(version.manifest, spec=spec)
    assert version.output_schema().names == ["outputs"]
    with pytest.raises(UnsupportedPipelineError, match=r"'__call__' in text-classification/.* output_format='json'"):
        version.output_schema("struct")
