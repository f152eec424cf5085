"""text-generation: prompts in, the pipeline's texts out, whatever the family of the version."""

import json
import warnings

import numpy as np
import pyarrow as pa
import pytest

from airflow_provider_hfreg.errors import UnsupportedPipelineError
from airflow_provider_hfreg.pipelines.base import Outputs, PromptCut, TaskContext
from airflow_provider_hfreg.pipelines.catalog import get_task
from airflow_provider_hfreg.pipelines.ragged import Ragged
from airflow_provider_hfreg.testing import models

TASK = get_task("text-generation")
PROMPTS = ["the film was good", "Das Essen war größten", "この映画は", " it 's , well"]


class Words:
    """A tokenizer of a few words, spaces included, as the byte-level ones have them."""

    words = ("", "<end>", " good", " film", " .", "the")
    special = (1,)

    def batch_decode(self, sequences, *, skip_special_tokens, clean_up_tokenization_spaces):
        assert clean_up_tokenization_spaces is False  # it would be the installed family's
        kept = [[i for i in ids if not (skip_special_tokens and i in self.special)] for ids in sequences]
        return ["".join(self.words[i] for i in ids).lstrip() for ids in kept]

    def clean_up_tokenization(self, text):
        return text.replace(" .", ".")


def context(parameters=None, version=None, **config):
    return TaskContext(Words(), config, parameters or {}, transformers_version=version)


def window(*prompts):
    return pa.record_batch({"inputs": pa.array(prompts, pa.string())})


def texts_of(results):
    return [[found["generated_text"] for found in json.loads(text)] for text in results.columns["outputs"].to_pylist()]


# --- rows to sequences


def test_each_row_is_one_prompt_after_the_prefix():
    sequences = TASK.preprocess(window("a", ""), context({"prefix": "Say: "}))
    assert (sequences.row.tolist(), sequences.text.to_pylist()) == ([0, 1], ["Say: a", "Say: "])


@pytest.mark.parametrize(("given", "text"), [({}, "of the model a"), ({"prefix": ""}, "a"), ({"prefix": "b"}, "ba")])
def test_the_models_own_prefix_holds_where_none_is_given(given, text):
    assert TASK.preprocess(window("a"), context(given, prefix="of the model ")).text.to_pylist() == [text]


@pytest.mark.parametrize(
    ("parameters", "encoding", "cut"),
    [
        ({}, {}, PromptCut.TOO_LONG),
        ({"max_length": 50}, {}, PromptCut.TOO_LONG),  # a length of generation
        ({"handle_long_generation": "hole"}, {}, PromptCut.MAKE_ROOM),
        ({"truncation": True}, {"truncation": True}, PromptCut.NEVER),
        ({"truncation": False}, {"truncation": False}, PromptCut.NEVER),
        ({"add_special_tokens": False}, {"add_special_tokens": False}, PromptCut.TOO_LONG),
        (
            {"tokenizer_encode_kwargs": {"truncation": True, "max_length": 5}},
            {"truncation": True, "max_length": 5},
            PromptCut.NEVER,
        ),
    ],
)
def test_a_long_prompt_is_cut_as_the_user_said_or_at_its_start(parameters, encoding, cut):
    sequences = TASK.preprocess(window("a"), context(parameters))
    assert (sequences.encoding, sequences.prompt_cut) == (encoding, cut)


# --- token ids to rows


OUTPUTS = Outputs(np.array([0, 2]), generated=[[[2, 4, 1]], [[3], [2]]], input_ids=Ragged.of_lists([[5], [5, 3]]))


def test_the_prompt_stands_before_the_text_as_it_was_given():
    results = TASK.postprocess(OUTPUTS, window("THE", "not run", " the  film"), context(version="4.57.6"))
    assert results.row.tolist() == [0, 2]
    assert texts_of(results) == [["THE good."], [" the  film film", " the  film good"]]


def test_the_new_text_stands_alone_on_request():
    results = TASK.postprocess(OUTPUTS, window("a", "b", "c"), context({"return_full_text": False}, version="4.57.6"))
    assert texts_of(results) == [[" good."], [" film", " good"]]


def test_from_5_9_on_the_new_tokens_are_decoded_alone():
    results = TASK.postprocess(OUTPUTS, window("the", "b", "the"), context(version="5.9.0"))
    assert texts_of(results) == [["thegood."], ["thefilm", "thegood"]]


@pytest.mark.parametrize(
    ("version", "given", "text"),
    [
        ("4.57.6", {}, "good."),
        ("5.19.0", {}, "good."),
        ("5.23.0", {}, "good ."),
        (None, {}, "good ."),
        ("4.57.6", {"clean_up_tokenization_spaces": False}, "good ."),
        ("5.23.0", {"clean_up_tokenization_spaces": True}, "good."),
        ("5.23.0", {"skip_special_tokens": False}, "good .<end>"),
    ],
)
def test_spaces_and_special_tokens_go_as_the_family_or_the_user_says(version, given, text):
    results = TASK.postprocess(OUTPUTS, window("", "", ""), context({**given, "return_full_text": False}, version))
    assert texts_of(results)[0][0].strip() == text


def test_no_rows_give_a_column_of_the_right_type():
    results = TASK.postprocess(Outputs(np.empty(0, np.int64)), window(), context())
    assert (results.columns["outputs"].type, len(results.columns["outputs"])) == (pa.string(), 0)


def test_a_row_of_several_texts_is_one_list():
    outputs = Outputs(np.array([0]), generated=[[[2], [2]]], input_ids=Ragged.of_lists([[5]]))
    results = TASK.postprocess(outputs, window("the"), context({"return_full_text": False, "prefix": "x"}))
    assert results.columns["outputs"].to_pylist() == ['[{"generated_text": "good"}, {"generated_text": "good"}]']


# --- against the pipeline itself


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def generator(request, tmp_path_factory):
    import transformers

    folder = str(models.text_generator(tmp_path_factory.mktemp("generator"), architecture=request.param))

    def build(**arguments):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return transformers.pipeline("text-generation", folder, device="cpu", **arguments)

    return build


def read_back(pipe):
    return TASK.parameters_of(pipe._preprocess_params, pipe._forward_params, pipe._postprocess_params)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"return_full_text": False},
        {"clean_up_tokenization_spaces": True},
        {"skip_special_tokens": False, "return_full_text": False},
        {"prefix": "Once "},
        {"add_special_tokens": True, "prefix": "Once "},
        {"num_return_sequences": 2, "num_beams": 2},
    ],
)
def test_the_texts_are_the_pipelines(generator, arguments):
    import transformers

    pipe = generator(do_sample=False, max_new_tokens=7, **arguments)
    told = TaskContext(pipe.tokenizer, pipe.model.config.to_dict(), read_back(pipe), {}, transformers.__version__)
    rows = window(*PROMPTS)
    sequences = TASK.preprocess(rows, told)
    input_ids, generated = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for text in sequences.text.to_pylist():
            encoded = pipe.tokenizer(text, return_tensors="pt", **sequences.encoding)
            settings = {name: arguments[name] for name in ("num_return_sequences", "num_beams") if name in arguments}
            ids = pipe.model.generate(**encoded, max_new_tokens=7, do_sample=False, pad_token_id=0, **settings)
            input_ids.append(encoded["input_ids"][0].tolist())
            generated.append(ids[:, len(input_ids[-1]) :].tolist())
        expected = [pipe(prompt, pad_token_id=0) for prompt in PROMPTS]
    outputs = Outputs(sequences.row, generated=generated, input_ids=Ragged.of_lists(input_ids))
    results = TASK.postprocess(outputs, rows, told)
    assert results.columns["outputs"].to_pylist() == [json.dumps(one, ensure_ascii=False) for one in expected]


# --- arguments and signature


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"return_full_text": False},
        {"return_full_text": True, "prefix": "Once "},
        {"clean_up_tokenization_spaces": False, "skip_special_tokens": False},
        {"handle_long_generation": "hole"},
        {"truncation": True, "add_special_tokens": False, "tokenizer_encode_kwargs": {"max_length": 5}},
    ],
)
def test_what_a_pipeline_was_built_with_is_read_back(generator, arguments):
    assert read_back(generator(**arguments)) == arguments


def test_stop_strings_are_read_back_in_a_form_that_the_family_takes(generator):
    read = read_back(generator(stop_sequence="good"))
    pipe = generator(**read)
    if hasattr(pipe, "_generate_kwargs"):
        assert read == read_back(pipe) == {"stop_sequence": "good"}
    else:  # 4.57 stops at each of the tokens, and keeps them among the generation settings
        assert read == {"eos_token_id": pipe.tokenizer.encode("good", add_special_tokens=False)}
        assert pipe.generation_config.eos_token_id == read["eos_token_id"]


def test_tensors_are_refused_by_the_options_name(generator):
    with pytest.raises(UnsupportedPipelineError, match="return_tensors"):
        read_back(generator(return_tensors=True))
    with pytest.raises(UnsupportedPipelineError, match="return_tensors"):
        TASK.signature({"return_tensors": True})


@pytest.mark.parametrize("option", ["return_dict_in_generate", "output_scores"])
def test_what_puts_tensors_beside_the_text_is_refused(option):
    with pytest.raises(UnsupportedPipelineError, match=f"{option}=True"):
        TASK.signature({option: True})


def test_another_way_to_handle_length_is_refused():
    with pytest.raises(UnsupportedPipelineError, match="handle_long_generation"):
        TASK.signature({"handle_long_generation": "truncate"})


def test_the_signature_prints_as_documented_and_has_the_runs_parameters():
    signature = TASK.signature({"max_new_tokens": 100, "return_full_text": False})
    assert " ".join(repr(signature).split()) == (
        "ModelSignature( inputs=[ FeatureSpec(dtype=DataType.STRING, name='inputs') ], "
        "outputs=[ FeatureSpec(dtype=DataType.STRING, name='outputs') ] )"
    )
    defaults = {param.name: param.default_value for param in signature.params}
    assert (defaults["max_new_tokens"], defaults["return_full_text"], defaults["num_beams"]) == (100, False, None)
