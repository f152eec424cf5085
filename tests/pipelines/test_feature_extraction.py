"""feature-extraction: one vector of a text, against plain torch on each text alone."""

import functools
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_hfreg.errors import UnknownParameterError, UnsupportedPipelineError
from airflow_provider_hfreg.pipelines.base import Outputs, TaskContext
from airflow_provider_hfreg.pipelines.catalog import get_task
from airflow_provider_hfreg.pipelines.folder import describe_folder
from airflow_provider_hfreg.testing import encoder_models, models

TASK = get_task("feature-extraction")
ENCODERS = ("bert", "distilbert", "roberta", "mpnet", "albert", "electra")
POOLINGS = ("mean", "cls", "max", "last")
TEXTS = (
    "the film was good",
    "Das Essen war größtenteils köstlich, der Service leider nicht.",
    "この映画はとても面白かったです。",
    "it's",
    "the film was good",
    "👩‍👩‍👧 zero\u200dwidth \u0000 joiners and \t tabs",
    " leading and trailing ",
    "a dull plot " * 60,
)


@pytest.fixture(scope="session")
def folders(folder_of, tmp_path_factory):
    """Return the folder of an encoder, or of a decoder whose tokenizer pads on the left."""

    @functools.cache
    def folder(architecture):
        if architecture in ENCODERS:
            return folder_of(encoder_models.embedder, architecture)
        made = tmp_path_factory.mktemp("left") / architecture
        shutil.copytree(folder_of(models.text_generator, architecture), made)
        path = made / "tokenizer_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"padding_side": "left"}))
        return made

    return folder


@pytest.fixture(scope="session")
def engines(folders, engine_of):
    return lambda architecture: engine_of(folders(architecture), "feature-extraction")


def window(texts):
    return pa.record_batch({"inputs": pa.array(texts, pa.string())})


def vectors(result):
    return np.array(result.outputs.column("embedding").to_pylist(), np.float32)


def alone(engine, text, pooling, *, normalize=False, max_length=None):
    """Pool one text's vectors by hand, without padding or mask."""
    import torch

    loaded = engine.loaded
    limit = max_length or models.POSITIONS
    encoded = loaded.tokenizer(text, truncation=True, max_length=limit, return_tensors="pt")
    with torch.no_grad():
        tokens = loaded.network(**encoded).last_hidden_state[0].numpy()
    vector = {
        "mean": lambda: tokens.mean(axis=0),
        "cls": lambda: tokens[0],
        "max": lambda: tokens.max(axis=0),
        "last": lambda: tokens[-1],
    }[pooling]()
    return vector / np.linalg.norm(vector) if normalize else vector


@pytest.mark.parametrize("architecture", [*ENCODERS, "gpt2", "llama"])
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("normalize", [False, True])
def test_a_vector_is_that_of_its_text_alone(architecture, pooling, normalize, engines):
    engine = engines(architecture)

    result = engine.run(window(TEXTS), {"pooling": pooling, "normalize": normalize})

    oracle = [alone(engine, text, pooling, normalize=normalize) for text in TEXTS]
    assert np.abs(vectors(result) - oracle).max() <= 1e-5
    assert (result.row.tolist(), result.errors, result.truncated_rows) == (list(range(len(TEXTS))), (), 1)


def test_the_mean_is_that_of_the_plain_pipelines_tokens(folders, engines, pipe_of):
    pipe = pipe_of(folders("bert"), "feature-extraction")

    result = engines("bert").run(window(TEXTS[:7]))

    assert np.abs(vectors(result) - [np.mean(pipe(text)[0], axis=0) for text in TEXTS[:7]]).max() <= 1e-5


@settings(max_examples=15)
@given(data=st.data())
def test_neither_order_nor_batches_nor_windows_change_a_vector(data, engines):
    from airflow_provider_hfreg.inference.engine import Engine

    engine = engines(data.draw(st.sampled_from(["roberta", "gpt2"])))
    params = {"pooling": data.draw(st.sampled_from(POOLINGS))}
    texts = data.draw(st.lists(st.text(min_size=1, max_size=40), min_size=1, max_size=12))
    order = data.draw(st.permutations(range(len(texts))))
    one_by_one = [vectors(engine.run(window([text]), params))[0] for text in texts]
    small = Engine(engine.loaded, token_budget=data.draw(st.integers(1, 300)))

    together = vectors(small.run(window([texts[place] for place in order]), params))

    assert np.abs(together - [one_by_one[place] for place in order]).max() <= 1e-5


def test_an_empty_text_has_the_vector_of_the_special_tokens(engines):
    engine = engines("bert")
    assert np.abs(vectors(engine.run(window(["", "x"])))[0] - alone(engine, "", "mean")).max() <= 1e-5


@pytest.mark.parametrize("texts", [["", "the film", ""], ["", ""]])
def test_a_text_without_a_token_is_that_rows_error_whatever_stands_beside_it(texts, engines):
    result = engines("gpt2").run(window(texts))

    empty = [row for row, text in enumerate(texts) if not text]
    assert [(error.row, error.code) for error in result.errors] == [(row, "model_error") for row in empty]
    assert "no token" in result.errors[0].message
    assert result.row.tolist() == [row for row in range(len(texts)) if row not in empty]
    assert str(result.outputs.schema.field("embedding").type.value_type) == "float"


def test_a_long_text_is_cut_where_the_version_says_and_counted(engines):
    engine = engines("bert")

    result = engine.run(window(["a dull plot " * 9, "x"]), {"max_length": 8})

    assert result.truncated_rows == 1
    assert np.abs(vectors(result)[0] - alone(engine, "a dull plot " * 9, "mean", max_length=8)).max() <= 1e-5


@pytest.mark.parametrize("architecture", ["bert", "roberta", "gpt2"])
def test_a_text_is_cut_to_what_the_network_reads_whatever_max_length_says(architecture, engines):
    engine = engines(architecture)

    result = engine.run(window(["a dull plot " * 60, "x"]), {"max_length": 100_000})

    assert (result.errors, result.truncated_rows) == ((), 1)
    assert np.abs(vectors(result)[0] - alone(engine, "a dull plot " * 60, "mean")).max() <= 1e-5


def test_a_folder_that_promises_more_than_its_network_reads_is_cut_to_that(folder_of, tmp_path):
    from airflow_provider_hfreg.inference.engine import Engine
    from airflow_provider_hfreg.inference.loading import load_pipeline

    folder = Path(shutil.copytree(folder_of(encoder_models.sentence_embedder, pooling="cls"), tmp_path / "model"))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 10 * models.POSITIONS}))
    engine = Engine(load_pipeline(folder, describe_folder(folder, "feature-extraction"), device="cpu"))

    result = engine.run(window(["a dull plot " * 60]))

    assert (result.errors, result.truncated_rows) == ((), 1)


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_the_shortest_max_length_leaves_one_token_of_the_text_and_a_shorter_one_is_refused(architecture, engines):
    engine = engines(architecture)
    shortest = 1 + engine.loaded.tokenizer.num_special_tokens_to_add()
    texts = window(["a dull plot", "a"])

    result = engine.run(texts, {"max_length": shortest})

    assert result.truncated_rows == 1
    assert np.abs(vectors(result)[0] - alone(engine, "a dull plot", "mean", max_length=shortest)).max() <= 1e-5
    for length in range(-3, shortest):
        with pytest.raises(UnknownParameterError, match=rf"max_length is {length}[;,] "):
            engine.run(texts, {"max_length": length})
        with pytest.raises(UnknownParameterError, match=rf"max_length is {length}[;,] "):
            engine.run(texts, {"tokenize_kwargs": {"max_length": length}})


def test_a_long_text_that_may_not_be_cut_is_that_rows_error(engines):
    result = engines("bert").run(window(["x", "a dull plot " * 60]), {"truncation": False})
    assert ([error.row for error in result.errors], result.row.tolist()) == ([1], [0])


def test_what_the_user_said_to_the_tokenizer_holds(engines):
    engine = engines("bert")
    plain = alone(engine, "the film", "mean")

    said = vectors(engine.run(window(["the film"]), {"tokenize_kwargs": {"add_special_tokens": False}}))[0]

    assert not np.allclose(said, plain, atol=1e-3)


def test_a_prompt_stands_before_every_text(engines):
    engine = engines("roberta")
    result = engine.run(window(["film", "plot"]), {"prompt": "Query: "})
    assert (
        np.abs(vectors(result) - [alone(engine, f"Query: {text}", "mean") for text in ("film", "plot")]).max() <= 1e-5
    )


def test_texts_become_small_letters_where_the_version_says_so(engines):
    engine = engines("roberta")  # cased
    result = engine.run(window(["Great Value"]), {"do_lower_case": True, "prompt": "QUERY "})
    assert np.abs(vectors(result)[0] - alone(engine, "query great value", "mean")).max() <= 1e-5


def test_small_letters_are_made_one_by_one_as_the_tokenizer_of_sentence_transformers_makes_them(engines):
    engine = engines("roberta")
    result = engine.run(window(["ΟΔΟΣ İ"]), {"do_lower_case": True})
    assert np.abs(vectors(result)[0] - alone(engine, "οδοσ i̇", "mean")).max() <= 1e-5


@pytest.mark.parametrize("text", ["the film was good\n", " the film was good", "the film was good\u00a0\t"])
def test_white_space_around_a_text_is_read_as_sentence_transformers_reads_it_since_5_4(text, folder_of, engine_of):
    folder = folder_of(encoder_models.sentence_embedder, "roberta")
    engine = engine_of(folder, "feature-extraction")
    bare, spaced = vectors(engine.run(window(["the film was good", text])))
    assert np.abs(spaced - alone(engine, text, "mean", normalize=True)).max() <= 1e-5
    assert np.abs(spaced - bare).max() > 1e-2


def test_a_bfloat16_model_is_pooled_in_32_bits(folders):
    from airflow_provider_hfreg.inference.engine import Engine
    from airflow_provider_hfreg.inference.loading import load_pipeline

    spec = describe_folder(folders("bert"), "feature-extraction", {"dtype": "bfloat16", "normalize": True})
    engine = Engine(load_pipeline(folders("bert"), spec, device="cpu"))

    assert np.abs(np.linalg.norm(vectors(engine.run(window(TEXTS))), axis=1) - 1).max() <= 1e-6


@pytest.mark.parametrize("make", [encoder_models.masked_language_model, models.text_generator])
def test_a_model_saved_with_another_head_gives_the_vectors_under_it(make, folder_of, engine_of):
    engine = engine_of(folder_of(make), "feature-extraction")  # BERT's for masks has no pooler, which is not read
    assert np.abs(vectors(engine.run(window(["the film"])))[0] - alone(engine, "the film", "mean")).max() <= 1e-5


def test_no_rows_give_no_rows(engines):
    result = engines("bert").run(window([]))
    assert (result.outputs.num_rows, result.outputs.schema.field("embedding").type) == (0, pa.list_(pa.float32()))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_vector_that_is_no_numbers_is_that_rows_error(bad):
    given = np.array([[1.0, 2.0], [0.5, bad]], np.float32)
    outputs = Outputs(row=np.array([3, 5]), values={"embedding": given})
    results = TASK.postprocess(outputs, window([]), TaskContext(None, {}))
    assert (results.row.tolist(), results.columns["embedding"].to_pylist()) == ([3], [[1.0, 2.0]])
    assert [(error.row, error.code) for error in results.errors] == [(5, "not_a_number")]


# --- what the parameters are


def test_the_signature_prints_as_documented_and_lists_what_a_run_may_set():
    signature = TASK.signature({"pooling": "cls"})
    assert repr(signature.outputs[0]) == "FeatureSpec(dtype=DataType.FLOAT, name='embedding', shape=(-1,))"
    assert {param.name: param.default_value for param in signature.params} == {
        "pooling": "cls",
        "normalize": None,
        "prompt": None,
        "max_length": None,
        "do_lower_case": None,
    }


def test_every_pooling_that_is_promised_is_done():
    from airflow_provider_hfreg.inference import pooling

    with pytest.raises(UnknownParameterError, match=f"it must be one of {', '.join(pooling.POOLINGS)}"):
        TASK.signature({"pooling": "median"})
    for name in pooling.POOLINGS:
        TASK.signature({"pooling": name})


def test_a_sentence_transformers_folder_says_how(folder_of):
    folder = folder_of(encoder_models.sentence_embedder, pooling="cls")
    assert describe_folder(folder, "feature-extraction").parameters == {"pooling": "cls", "normalize": True}


def test_what_is_given_goes_before_what_the_folder_says(folder_of):
    folder = folder_of(encoder_models.sentence_embedder, pooling="cls")
    given = {"normalize": False, "max_length": 9}
    assert describe_folder(folder, "feature-extraction", given).parameters == {"pooling": "cls", **given}


def test_a_module_that_is_not_run_may_be_left_out_by_saying_both(folder_of):
    folder = folder_of(encoder_models.sentence_embedder, pooling="weightedmean")
    with pytest.raises(UnsupportedPipelineError, match="weightedmean"):
        describe_folder(folder, "feature-extraction", {"pooling": "mean"})
    both = {"pooling": "mean", "normalize": True}
    assert describe_folder(folder, "feature-extraction", both).parameters == both


def test_where_the_folder_says_nothing_the_plain_mean_is_recorded_and_told(folders, caplog):
    described = describe_folder(folders("bert"), "feature-extraction")
    assert described.parameters == {"pooling": "mean", "normalize": False}
    assert f"{folders('bert')} does not say how" in caplog.text
    caplog.clear()
    assert describe_folder(folders("bert"), "feature-extraction", {"pooling": "cls"}).parameters["pooling"] == "cls"
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"pooling": "median"}, "mean, cls, max, last"),
        ({"normalize": "yes"}, "normalize"),
        ({"max_length": "9"}, "max"),
        ({"tokenize_kwargs": 3}, "tokenize_kwargs is 3; it must be a mapping"),
        ({"tokenize_kwargs": {"max_length": "9"}}, "max_length is '9'"),
        ({"max_length": 0}, "max_length is 0; a text has at least 1 token"),
    ],
)
def test_a_value_that_a_parameter_cannot_have_is_refused(folders, arguments, told):
    with pytest.raises(UnknownParameterError, match=told):
        describe_folder(folders("bert"), "feature-extraction", arguments)


@pytest.mark.parametrize("architecture", ["t5", "bart"])
def test_an_encoder_with_a_decoder_is_refused(architecture, tmp_path):
    folder = models.text_to_text_model(tmp_path, architecture=architecture)
    with pytest.raises(UnsupportedPipelineError, match="ForConditionalGeneration"):
        describe_folder(folder, "feature-extraction")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["BodyModel"]}))
    with pytest.raises(UnsupportedPipelineError, match=f"is a {architecture}, an encoder with a decoder"):
        describe_folder(folder, "feature-extraction")


# --- a pipeline object


@pytest.fixture
def packaged(tmp_path):
    from airflow_provider_hfreg.inference.packaging import package_pipeline

    return lambda pipe: package_pipeline(pipe, tmp_path / "packaged")


def test_a_plain_pipeline_takes_its_pooling_from_the_folder_that_it_was_made_of(folder_of, pipe_of, packaged):
    folder = folder_of(encoder_models.sentence_embedder, pooling="max", normalize=False)
    pipe = pipe_of(folder, "feature-extraction", truncation=True, tokenize_kwargs={"max_length": 9, "stride": 2})
    assert packaged(pipe).parameters == {
        "max_length": 9,
        "normalize": False,
        "pooling": "max",
        "tokenize_kwargs": {"stride": 2},
        "truncation": True,
    }


def test_a_plain_pipeline_whose_folder_is_not_at_hand_is_refused_with_the_way_out(folders, pipe_of, packaged):
    pipe = pipe_of(folders("bert"), "feature-extraction")
    pipe.model.config._name_or_path = "BAAI/bge-small-en"
    with pytest.raises(UnsupportedPipelineError, match=r"files of BAAI/bge-small-en are not at hand.*log_hub_model"):
        packaged(pipe)


def test_a_model_made_in_memory_is_pooled_by_the_mean_and_that_is_told(folders, pipe_of, packaged, caplog):
    pipe = pipe_of(folders("bert"), "feature-extraction")
    pipe.model.config._name_or_path = ""
    assert packaged(pipe).parameters == {"normalize": False, "pooling": "mean"}
    assert "A model made in memory does not say how" in caplog.text


def test_tensors_are_refused(folders, pipe_of, packaged):
    with pytest.raises(UnsupportedPipelineError, match="return_tensors"):
        packaged(pipe_of(folders("bert"), "feature-extraction", return_tensors=True))


def test_the_callable_of_ours_gives_one_vector_and_keeps_how(folder_of, packaged):
    from airflow_provider_hfreg import inference

    folder = folder_of(encoder_models.sentence_embedder, pooling="cls")
    pipe = inference.pipeline("feature-extraction", str(folder), normalize=False, device="cpu")

    assert pipe.parameters == {"pooling": "cls", "normalize": False}
    assert len(pipe("the film")["embedding"]) == 32
    assert [set(answer) for answer in pipe(["the film", "a plot"])] == [{"embedding"}] * 2
    assert packaged(pipe).parameters == {"normalize": False, "pooling": "cls"}


def test_the_callable_of_ours_asks_for_the_pooling_of_a_hub_model_before_it_loads_one():
    from airflow_provider_hfreg import inference

    with pytest.raises(UnsupportedPipelineError, match="files of org/model are not at hand"):
        inference.pipeline("feature-extraction", "org/model", normalize=True)
