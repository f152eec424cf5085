"""Models with the tokenizer files that their authors published, against what transformers 4.57 made of them."""

import json
import warnings
from pathlib import Path

import pandas as pd
import pytest

from airflow_provider_hfreg import inference

GOLDEN = json.loads(Path(__file__).parents[1].joinpath("pipelines/goldens/hub_folders.json").read_text("utf-8"))
CASES = [
    pytest.param(case, id=f"{case['folder']}-{case['task']}-{'-'.join(case['arguments'])}") for case in GOLDEN["cases"]
]


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    """The folder of a name, made when first asked for."""
    from airflow_provider_hfreg.testing.hub_folders import HUB_FOLDERS

    root = tmp_path_factory.mktemp("hub")

    def folder(name):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return root / name if (root / name).exists() else HUB_FOLDERS[name](root / name)

    return folder


@pytest.fixture(params=["log_model", "log_folder"])
def log(request, file_registry, folder_of):
    """Log a case's folder, as a pipeline and as it stands."""

    def logged(case):
        folder, task, arguments = folder_of(case["folder"]), case["task"], case["arguments"]
        if request.param == "log_folder":
            return file_registry.log_folder(folder, model_name="m", task=task, pipeline_kwargs=arguments)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # 4.57 warns where it takes a model's first pair of languages
            pipe = inference.pipeline(task, str(folder), device="cpu", **arguments)
        return file_registry.log_model(pipe, model_name="m")

    return logged


def numbers(value):
    return [leaf for leaf in leaves(value) if isinstance(leaf, float)]


def others(value):
    return [leaf for leaf in leaves(value) if not isinstance(leaf, float)]


def leaves(value):
    value = json.loads(value) if isinstance(value, str) and value.startswith("[{") else value
    inner = [value[key] for key in sorted(value)] if isinstance(value, dict) else value
    return [leaf for each in inner for leaf in leaves(each)] if isinstance(inner, list) else [inner]


@pytest.mark.parametrize("case", CASES)
def test_a_folder_of_the_hub_is_encoded_and_answers_as_in_4_57(case, log):
    texts, version = case["texts"], log(case)

    rows = version.run(pd.DataFrame(texts), device="cpu").to_dict("records")
    tokenizer = version.load(device="cpu").tokenizer

    assert tokenizer(texts)["input_ids"] == case["encoded"]
    if case["folder"] == "bert":  # the generic one is as its family makes it, when logged as a pipeline
        assert tokenizer(texts, texts[::-1])["token_type_ids"] == case["types"]
    assert others(rows) == others(case["answers"])
    assert numbers(rows) == pytest.approx(numbers(case["answers"]), abs=1e-5)
