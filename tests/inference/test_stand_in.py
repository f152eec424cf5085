"""Pipelines for tasks that the installed transformers lacks: built, called and refused as transformers' own were."""

import shutil

import pytest
import torch
import transformers

from airflow_provider_hfreg import inference
from airflow_provider_hfreg.errors import InferenceError, InvalidOptionError, UnsupportedPipelineError
from airflow_provider_hfreg.inference.stand_in import StandInPipeline, build_stand_in, load_pipeline_object
from airflow_provider_hfreg.pipelines.folder import describe_folder
from airflow_provider_hfreg.testing.encoder_models import sentence_embedder


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory):
    from airflow_provider_hfreg.testing.models import text_generator

    return str(text_generator(tmp_path_factory.mktemp("chat"), architecture="llama"))


@pytest.fixture
def chat(chat_model):
    return inference.pipeline("conversational", chat_model, device="cpu", max_new_tokens=5)


TURN = {"user_inputs": ["hi"], "generated_responses": []}


def test_it_has_what_packaging_and_people_read(chat):
    assert isinstance(chat, StandInPipeline)
    assert (chat.task, chat.parameters, chat.generation) == ("conversational", {"max_new_tokens": 5}, {})
    assert (type(chat.model).__name__, chat.device) == ("LlamaForCausalLM", torch.device("cpu"))
    assert repr(chat) == "StandInPipeline('conversational', LlamaForCausalLM)"


def test_columns_are_given_as_a_mapping_a_list_of_them_or_by_keyword(chat):
    answer = chat(TURN)

    assert len(answer["generated_responses"]) == 1
    assert chat([TURN, TURN]) == [answer, answer]
    assert chat(**TURN) == answer


def test_it_is_built_from_a_model_and_its_tokenizer(chat, chat_model):
    model = transformers.AutoModelForCausalLM.from_pretrained(chat_model)
    tokenizer = transformers.AutoTokenizer.from_pretrained(chat_model)
    built = inference.pipeline("conversational", model, tokenizer=tokenizer, device=-1, max_new_tokens=5)

    assert built(TURN) == chat(TURN)
    with pytest.raises(InvalidOptionError, match="give tokenizer="):
        inference.pipeline("conversational", model)


def test_a_call_with_set_seed_is_repeatable(chat):
    transformers.set_seed(3)
    first = chat(TURN, do_sample=True, max_new_tokens=12)
    transformers.set_seed(3)
    assert chat(TURN, do_sample=True, max_new_tokens=12) == first


def test_what_transformers_only_needs_itself_is_taken_and_left_out(chat_model):
    pipe = inference.pipeline("conversational", chat_model, device="cpu", batch_size=2, num_workers=0, framework="pt")
    assert pipe.parameters == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_tokens": 3}, "'max_tokens', which conversational does not take. Did you mean 'max_new_tokens'"),
        ({"num_return_sequences": 2}, "'num_return_sequences', which conversational does not take"),
    ],
)
def test_an_argument_that_the_task_lacks_is_refused(arguments, message, chat, chat_model):
    with pytest.raises(InvalidOptionError, match=message):
        inference.pipeline("conversational", chat_model, **arguments)
    with pytest.raises(InvalidOptionError, match=message):
        chat(TURN, **arguments)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("hi", "give a mapping with user_inputs, generated_responses"),
        ({"user_inputs": [], "generated_responses": []}, "at least one turn of the user"),
        ({"user_inputs": ["hi"]}, "generated_responses.* found null"),
        ({"users": ["hi"]}, "holds 'users'; the task's inputs are user_inputs"),
    ],
)
def test_an_input_that_cannot_be_run_is_named(given, message, chat):
    with pytest.raises(InferenceError, match=message):
        chat(given)


def test_a_task_of_nobody_is_refused_with_those_there_are():
    with pytest.raises(UnsupportedPipelineError, match=r"no pipeline for the task 'crystal-ball'.*conversational"):
        inference.pipeline("crystal-ball", "somewhere")


def test_a_task_without_a_default_model_asks_for_one():
    with pytest.raises(InvalidOptionError, match="give model="):
        inference.pipeline("conversational")


# --- whose tokenizer has a class of its own


@pytest.fixture
def classed_embedder(tmp_path, keeping_capitals):
    return keeping_capitals(sentence_embedder(tmp_path / "embedder", pooling="cls"))


def logged_vector(folder, text):
    spec = describe_folder(folder, "feature-extraction")
    return load_pipeline_object(folder, spec, device="cpu")(text)["embedding"]


def test_a_pipeline_of_a_folder_reads_texts_as_the_version_of_that_folder_does(classed_embedder):
    pipe = inference.pipeline("feature-extraction", str(classed_embedder), device="cpu")
    expected = logged_vector(classed_embedder, "The FILM was GOOD")
    assert pipe("The FILM was GOOD")["embedding"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("task", ["feature-extraction", "question-answering"])
def test_a_tokenizer_of_the_hub_is_read_as_one_of_a_folder(task, classed_embedder, tmp_path):
    snapshot = tmp_path / "cache" / "models--org--model" / "snapshots" / ("0" * 40)
    shutil.copytree(classed_embedder, snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    how = {"pooling": "cls"} if task == "feature-extraction" else {}

    pipe = build_stand_in(task, "org/model", cache_dir=str(tmp_path / "cache"), local_files_only=True, **how)

    of_folder = build_stand_in(task, str(classed_embedder), **how)
    assert pipe.tokenizer("The FILM was GOOD")["input_ids"] == of_folder.tokenizer("The FILM was GOOD")["input_ids"]
