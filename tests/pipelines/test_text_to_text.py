"""Summarization, translation, text2text-generation: what they make of rows, arguments and names, without a model."""

from enum import Enum

import pyarrow as pa
import pytest

from airflow_provider_hfreg.errors import UnsupportedPipelineError
from airflow_provider_hfreg.pipelines.base import TaskContext
from airflow_provider_hfreg.pipelines.catalog import get_task

OF_T5 = {
    "task_specific_params": {"summarization": {"prefix": "summarize: "}, "translation_en_to_de": {"prefix": "de: "}}
}
COLUMNS = {"summarization": "documents", "translation": "inputs", "text2text-generation": "inputs"}


class ReturnType(Enum):
    TENSORS = 0
    TEXT = 1


class Letters:
    """A tokenizer whose tokens are letters."""

    def encode(self, text, *, add_special_tokens):
        assert add_special_tokens is False
        return [ord(letter) for letter in text]


def preprocess(name, text="a", parameters=None, positions=None, **config):
    task = get_task(name)
    column = task.signature({}).inputs[0].name
    context = TaskContext(Letters(), config, parameters or {}, positions=positions)
    return task.preprocess(pa.record_batch({column: pa.array([text])}), context)


@pytest.mark.parametrize(
    ("name", "config", "text"),
    [
        ("summarization", OF_T5, "summarize: a"),
        ("translation_en_to_de", OF_T5, "de: a"),
        ("translation_en_to_ro", OF_T5, "a"),
        ("text2text-generation", OF_T5, "a"),
        ("summarization", {"prefix": "all: "}, "all: a"),
        ("summarization", {**OF_T5, "prefix": "all: "}, "summarize: a"),
        ("summarization", {"prefix": None, "task_specific_params": None}, "a"),
    ],
)
def test_the_models_prefix_for_the_task_stands_before_a_text(name, config, text):
    assert preprocess(name, **config).text.to_pylist() == [text]


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize(
    ("parameters", "positions", "encoding"),
    [
        ({}, None, {}),
        ({}, 64, {"truncation": True, "max_length": 64}),
        ({"truncation": True}, 64, {"truncation": True}),
        ({"truncation": False}, 64, {"truncation": False}),
        ({"max_length": 9}, None, {}),  # of what is written
    ],
)
def test_a_text_is_cut_as_the_user_said_or_where_the_positions_end(name, parameters, positions, encoding):
    assert preprocess(name, parameters=parameters, positions=positions).encoding == encoding


@pytest.mark.parametrize(("stop", "ends"), [("no", [ord("n")]), (["no", "yes", ""], [ord("n"), ord("y")])])
def test_a_stop_sequence_ends_a_text_at_its_first_token(stop, ends):
    settings = preprocess("summarization", parameters={"stop_sequence": stop}).settings
    assert settings == {"stop_sequence": None, "eos_token_id": ends}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_real_pipelines_arguments_are_read_back(name):
    read = get_task(name).parameters_of(
        {"truncation": "only_first"},
        {"max_time": 3.0},
        {"return_type": ReturnType.TEXT, "clean_up_tokenization_spaces": True},
    )
    assert read == {"truncation": True, "max_time": 3.0, "clean_up_tokenization_spaces": True}
    assert get_task(name).parameters_of({"truncation": "do_not_truncate"}, {}, {}) == {"truncation": False}


@pytest.mark.parametrize("name", COLUMNS)
def test_tensors_are_refused_however_they_were_asked_for(name):
    task = get_task(name)
    with pytest.raises(UnsupportedPipelineError, match="return_tensors"):
        task.parameters_of({}, {}, {"return_type": ReturnType.TENSORS})
    with pytest.raises(UnsupportedPipelineError, match="return_tensors"):
        task.signature({"return_tensors": True})
    with pytest.raises(UnsupportedPipelineError, match="return_dict_in_generate"):
        task.signature({"return_dict_in_generate": True})
    assert [feature.name for feature in task.signature({"return_tensors": False}).inputs] == [COLUMNS[name]]


def test_languages_that_the_pipeline_read_from_the_tasks_name_are_no_arguments():
    task = get_task("translation_en_to_fr")
    assert task.parameters_of({"src_lang": "en", "tgt_lang": "fr"}, {}, {}) == {}
    assert task.parameters_of({"src_lang": "en", "tgt_lang": "de"}, {}, {}) == {"src_lang": "en", "tgt_lang": "de"}


@pytest.mark.parametrize(
    ("name", "config", "named"),
    [
        ("translation", OF_T5, "translation_en_to_de"),
        ("translation", {}, "translation"),
        ("translation_en_to_fr", OF_T5, "translation_en_to_fr"),
        ("translation_xx_to_yy", OF_T5, "translation_xx_to_yy"),
    ],
)
def test_plain_translation_becomes_the_models_first_pair(name, config, named):
    assert get_task(name).name_under(name, config) == named


def test_a_pair_of_languages_is_one_task_and_other_names_are_none():
    from airflow_provider_hfreg.errors import SignatureRequiredError

    assert get_task("translation_en_to_fr") is get_task("translation_en_to_fr")
    assert get_task("translation_en_to_fr").languages == ("en", "fr")
    for name in ("translation_en", "translation_en_to_", "translation_a_b_to_c", "translations"):
        with pytest.raises(SignatureRequiredError, match="translation_xx_to_yy"):
            get_task(name)
