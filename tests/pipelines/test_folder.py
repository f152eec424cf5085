"""A folder described without loading it is described as the pipeline that it holds."""

import dataclasses
import json
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest

from airflow_provider_hfreg.errors import (
    InvalidOptionError,
    UnknownParameterError,
    UnsupportedPipelineError,
)
from airflow_provider_hfreg.pipelines.folder import describe_folder
from airflow_provider_hfreg.testing import models


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    models.text_classifier(folder / "classifier")
    models.text_generator(folder / "generator")
    return folder


@pytest.fixture
def classifier(made, tmp_path):
    return shutil.copytree(made / "classifier", tmp_path / "classifier")


@pytest.fixture
def generator(made, tmp_path):
    return shutil.copytree(made / "generator", tmp_path / "generator")


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("kind", "task", "arguments"),
    [
        ("classifier", "text-classification", {}),
        ("classifier", "sentiment-analysis", {"top_k": 2, "function_to_apply": "sigmoid"}),
        ("classifier", "text-classification", {"top_k": None, "truncation": True, "max_length": 9}),
        ("generator", "text-generation", {}),
        ("generator", "text-generation", {"return_full_text": False, "max_new_tokens": 100}),
        ("generator", "text-generation", {"do_sample": False, "num_beams": 2, "num_return_sequences": 2}),
        ("generator", "text-generation", {"max_length": 30, "temperature": 0.5, "prefix": "Once "}),
    ],
)
def test_a_folder_is_described_as_its_pipeline(made, tmp_path, kind, task, arguments):
    import transformers

    from airflow_provider_hfreg.inference.packaging import package_pipeline

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = transformers.pipeline(task, str(made / kind), device="cpu", **arguments)
    packaged = package_pipeline(pipe, tmp_path / "packaged")
    described = describe_folder(tmp_path / "packaged", task, arguments)
    # transformers forgets the alias.
    assert described == dataclasses.replace(packaged, task=task, generation=described.generation)
    # The tokenizer's ends, for models that tell none; and 4.57 keeps what means nothing where nothing is drawn.
    aside = {"bos_token_id", "eos_token_id", "pad_token_id"} | ({"temperature"} if "do_sample" in arguments else set())
    assert described.generation == {name: packaged.generation[name] for name in {*packaged.generation} - aside}


def test_the_models_own_generation_settings_go_before_the_familys(generator):
    edit(generator / "generation_config.json", do_sample=False, max_new_tokens=5)
    assert describe_folder(generator, "text-generation").generation == {}


@pytest.mark.parametrize(
    ("config", "given", "dtype"),
    [
        ({}, {}, "float32"),
        ({"dtype": "bfloat16"}, {}, "bfloat16"),
        ({"dtype": None, "torch_dtype": "torch.float16"}, {}, "float16"),
        ({"dtype": "bfloat16"}, {"dtype": "float16"}, "float16"),
        ({"dtype": "bfloat16"}, {"torch_dtype": "auto"}, "bfloat16"),
        ({"dtype": None}, {}, "float32"),
    ],
)
def test_the_dtype_is_the_given_one_the_configurations_or_the_files(classifier, config, given, dtype):
    edit(classifier / "config.json", **config)
    assert describe_folder(classifier, "text-classification", given).dtype == dtype


def test_the_attention_may_be_pinned(classifier):
    described = describe_folder(
        classifier, "text-classification", {"model_kwargs": {"attn_implementation": "eager"}, "top_k": np.int64(2)}
    )
    assert (described.attn_implementation, described.parameters) == ("eager", {"top_k": 2})


def test_a_models_own_code_is_told(classifier):
    edit(classifier / "config.json", auto_map={"AutoModel": "modeling.Model"}, architectures=["Anything"])
    described = describe_folder(classifier, "text-classification")
    assert (described.remote_code, described.architecture) == (True, "Anything")


# --- refused before anything is uploaded


def refusal(error, folder, task="text-classification", arguments=None):
    with pytest.raises(error) as raised:
        describe_folder(folder, task, arguments)
    return str(raised.value)


def test_an_unknown_argument_is_refused_with_the_list(classifier):
    told = refusal(InvalidOptionError, classifier, arguments={"topk": 2})
    assert told.startswith(
        "pipeline_kwargs holds 'topk', which text-classification does not take. Did you mean 'top_k'? It takes "
        "add_special_tokens, function_to_apply,"
    )


@pytest.mark.parametrize("name", ["device", "batch_size", "token", "trust_remote_code"])
def test_an_argument_that_is_no_part_of_a_version_is_refused_with_the_reason(classifier, name):
    assert f"{name!r}, which is no part of a version: " in refusal(
        InvalidOptionError, classifier, arguments={name: "secret"}
    )
    assert "secret" not in refusal(InvalidOptionError, classifier, arguments={name: "secret"})


@pytest.mark.parametrize("arguments", [{"top_k": "2"}, {"top_k": 1.5}, {"function_to_apply": "relu"}])
def test_a_value_that_an_argument_cannot_have_is_refused(classifier, arguments):
    assert next(iter(arguments)) in refusal(UnknownParameterError, classifier, arguments=arguments)


def test_tensors_are_refused_and_their_absence_is_not(generator):
    assert "return_tensors" in refusal(
        UnsupportedPipelineError, generator, "text-generation", arguments={"return_tensors": True}
    )
    assert describe_folder(generator, "text-generation", {"return_tensors": False}).parameters == {}


def test_a_folder_without_configuration_is_refused(tmp_path):
    assert "has no config.json" in refusal(UnsupportedPipelineError, tmp_path)


def test_a_broken_configuration_is_refused(classifier):
    (classifier / "config.json").write_text("{")
    assert "no JSON object" in refusal(UnsupportedPipelineError, classifier)


def test_a_folder_without_tokenizer_is_refused(classifier):
    (classifier / "tokenizer.json").unlink()
    assert "tokenizer.save_pretrained(folder)" in refusal(UnsupportedPipelineError, classifier)


@pytest.mark.parametrize("architecture", ["BertForMaskedLM", "BertModel"])
def test_a_model_without_the_tasks_head_is_refused(classifier, architecture):
    edit(classifier / "config.json", architectures=[architecture])
    told = refusal(UnsupportedPipelineError, classifier)
    assert f"holds a {architecture}, and text-classification needs one whose name ends in" in told


def test_a_sequence_to_sequence_model_does_not_go_on_from_a_prompt(generator):
    edit(generator / "config.json", architectures=["T5ForConditionalGeneration"], is_encoder_decoder=True)
    assert "T5ForConditionalGeneration" in refusal(UnsupportedPipelineError, generator, "text-generation")


def test_describing_needs_neither_torch_nor_transformers(made):
    script = (
        "import sys; from pathlib import Path; from airflow_provider_hfreg.pipelines.folder import describe_folder;"
        f"describe_folder(Path({str(made / 'classifier')!r}), 'text-classification');"
        "print({'torch', 'transformers', 'pandas', 'safetensors'} & set(sys.modules))"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "set()"
