"""What a sentence-transformers folder says of pooling, normalisation and reading, and what is refused."""

import json

import pytest

from airflow_provider_hfreg.errors import UnsupportedPipelineError
from airflow_provider_hfreg.pipelines.sentence_transformers import files_saying, read_pooling, read_reading

OLD = "sentence_transformers.models."
FLAGS = {
    "word_embedding_dimension": 384,
    "pooling_mode_cls_token": False,
    "pooling_mode_mean_tokens": False,
    "pooling_mode_max_tokens": False,
    "pooling_mode_mean_sqrt_len_tokens": False,
}


@pytest.fixture
def write(tmp_path):
    """Write a folder's modules and the file of its pooling."""

    def written(pooling, *kinds, path="1_Pooling"):
        paths = ["", path, *(f"{number}_{kind}" for number, kind in enumerate(kinds[2:], 2))]
        modules = [{"idx": 0, "name": "0", "path": paths[i], "type": f"{OLD}{kind}"} for i, kind in enumerate(kinds)]
        (tmp_path / "modules.json").write_text(json.dumps(modules))
        (tmp_path / path).mkdir()
        (tmp_path / path / "config.json").write_text(json.dumps(pooling))
        return tmp_path

    return written


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"pooling_mode": "mean", "include_prompt": True}, "mean"),
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": "max"}, "max"),
        ({"pooling_mode": "lasttoken"}, "last"),
        ({"pooling_mode": ["cls"]}, "cls"),
        (FLAGS | {"pooling_mode_mean_tokens": True}, "mean"),
        (FLAGS | {"pooling_mode_cls_token": True}, "cls"),
        (FLAGS | {"pooling_mode_max_tokens": True}, "max"),
        (FLAGS | {"pooling_mode_lasttoken": True}, "last"),
        (FLAGS, "mean"),
    ],
)
def test_the_pooling_is_told_by_its_name_or_by_the_older_flags(write, config, pooling):
    folder = write(config, "Transformer", "Pooling")
    assert read_pooling(folder) == {"pooling": pooling, "normalize": False}


def test_a_third_module_normalises(write):
    folder = write({"pooling_mode": "mean"}, "Transformer", "Pooling", "Normalize")
    assert read_pooling(folder) == {"pooling": "mean", "normalize": True}


def test_a_plain_folder_says_nothing(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert read_pooling(tmp_path) == read_reading(tmp_path) == {}


@pytest.mark.parametrize(
    ("kinds", "told"),
    [
        (("Transformer", "Pooling", "Dense"), "lists Transformer → Pooling → Dense, and"),
        (("Transformer", "Pooling", "Dense", "Normalize"), "Transformer → Pooling → Dense → Normalize"),
        (("Transformer", "WeightedLayerPooling", "Pooling"), "WeightedLayerPooling"),
        (("StaticEmbedding", "Normalize"), "StaticEmbedding"),
        (("Transformer",), "lists Transformer, and"),
    ],
)
def test_a_module_that_is_not_run_here_is_refused_by_name_with_the_way_out(write, kinds, told):
    with pytest.raises(UnsupportedPipelineError, match=told) as raised:
        read_pooling(write({"pooling_mode": "mean"}, *kinds))
    assert "pipeline_kwargs={'pooling': 'mean', 'normalize': True}" in str(raised.value)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"pooling_mode": "weightedmean"}, "pools by weightedmean, and"),
        ({"pooling_mode": ["cls", "mean"]}, r"pools by cls \+ mean, and"),
        (FLAGS | {"pooling_mode_mean_sqrt_len_tokens": True}, "pools by mean_sqrt_len_tokens"),
        (FLAGS | {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, r"pools by cls \+ mean"),
        ({"pooling_mode": "mean", "include_prompt": False}, "include_prompt"),
    ],
)
def test_a_pooling_that_is_not_done_here_is_refused_by_name(write, config, told):
    with pytest.raises(UnsupportedPipelineError, match=told):
        read_pooling(write(config, "Transformer", "Pooling"))


def test_a_transformer_in_a_folder_of_its_own_is_refused_with_the_way_out(write):
    folder = write({"pooling_mode": "mean"}, "Transformer", "Pooling")
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = "0_BERT"
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(UnsupportedPipelineError, match="has its transformer in 0_BERT"):
        read_pooling(folder)


@pytest.mark.parametrize("content", ["{}", "[", '["Transformer"]', "[]"])
def test_a_damaged_list_of_modules_is_refused_by_its_path(tmp_path, content):
    (tmp_path / "modules.json").write_text(content)
    with pytest.raises(UnsupportedPipelineError, match=r"modules\.json"):
        read_pooling(tmp_path)


def test_a_folder_without_the_file_of_its_pooling_is_refused(write):
    folder = write({}, "Transformer", "Pooling")
    (folder / "1_Pooling" / "config.json").unlink()
    with pytest.raises(UnsupportedPipelineError, match="Fetch the whole folder"):
        read_pooling(folder)


@pytest.mark.parametrize("name", ["sentence_bert_config.json", "sentence_xlm-roberta_config.json"])
def test_how_texts_are_read_is_told_by_files_of_several_names(tmp_path, name):
    (tmp_path / name).write_text(json.dumps({"max_seq_length": 256, "do_lower_case": True}))
    assert read_reading(tmp_path) == {"max_length": 256, "do_lower_case": True}


def test_what_is_not_said_of_reading_is_left_to_the_tokenizer(tmp_path):
    (tmp_path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": None, "do_lower_case": False}))
    (tmp_path / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": {"query": "query: "}, "default_prompt_name": None})
    )
    assert read_reading(tmp_path) == {}


@pytest.mark.parametrize("longest", ["256", 0])
def test_a_length_that_is_none_is_refused(tmp_path, longest):
    (tmp_path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": longest}))
    with pytest.raises(UnsupportedPipelineError, match="max_seq_length"):
        read_reading(tmp_path)


def test_the_default_prompt_is_read(tmp_path):
    told = {"prompts": {"query": "query: ", "document": ""}, "default_prompt_name": "query"}
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(told))
    assert read_reading(tmp_path) == {"prompt": "query: "}


@pytest.mark.parametrize(
    ("prompts", "name"),
    [
        (["query: "], "query"),
        ("query: ", "query"),
        (None, "query"),
        ({"query": 3}, "query"),
        ({"query": "query: "}, ["query"]),
        ({"query": "query: "}, "document"),
    ],
)
def test_a_default_prompt_that_is_none_is_refused_by_its_file(tmp_path, prompts, name):
    path = tmp_path / "config_sentence_transformers.json"
    path.write_text(json.dumps({"prompts": prompts, "default_prompt_name": name}))
    with pytest.raises(UnsupportedPipelineError, match=rf"{path} says default_prompt_name"):
        read_reading(tmp_path)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "last"])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(
    "reading", [{}, {"max_length": 128}, {"do_lower_case": True}, {"max_length": 9, "prompt": 'say "é": '}]
)
def test_what_is_written_for_parameters_is_read_as_these(tmp_path, pooling, normalize, reading):
    parameters = {"pooling": pooling, "normalize": normalize, **reading}
    for name, content in files_saying(parameters, 32).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(content))
    assert read_pooling(tmp_path) | read_reading(tmp_path) == parameters


def test_what_is_written_is_what_sentence_transformers_writes():
    parameters = {"pooling": "cls", "normalize": True, "max_length": 9, "do_lower_case": True, "prompt": "query: "}
    assert files_saying(parameters, 384) == {
        "modules.json": [
            {"idx": 0, "name": "0", "path": "", "type": f"{OLD}Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{OLD}Pooling"},
            {"idx": 2, "name": "2", "path": "2_Normalize", "type": f"{OLD}Normalize"},
        ],
        "1_Pooling/config.json": FLAGS
        | {
            "pooling_mode_cls_token": True,
            "pooling_mode_weightedmean_tokens": False,
            "pooling_mode_lasttoken": False,
            "include_prompt": True,
        },
        "sentence_bert_config.json": {"max_seq_length": 9, "do_lower_case": True},
        "config_sentence_transformers.json": {"prompts": {"default": "query: "}, "default_prompt_name": "default"},
    }
