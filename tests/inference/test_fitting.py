"""Whatever a network is fitted with, its numbers are those of each sequence alone; and only what is proven is kept."""

import contextlib
import functools
import itertools
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.gpu.tasks import parts

# 4.57 makes scripts of parts of DeBERTa and ModernBERT, at import.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")

TEXTS = (
    "the film was good",
    "",
    "Das Essen war größtenteils köstlich, der Service leider nicht.",
    "it's",
    "the film was good",
    "a dull plot " * 60,
    "10/10 ",
    "the film was fine",
)
PACKED = ("albert", "bert", "camembert", "distilbert", "electra", "roberta", "xlm-roberta")
PADDED = ("deberta-v2", "megatron-bert", "modernbert", "mpnet")
TASKS = ("feature-extraction", "fill-mask", "question-answering", "text-classification", "token-classification")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    from airflow_provider_hfreg.testing import encoder_models as models

    makers = {
        "feature-extraction": models.embedder,
        "fill-mask": models.masked_language_model,
        "question-answering": models.question_answerer,
        "text-classification": models.sequence_classifier,
        "token-classification": models.token_classifier,
    }

    @functools.cache
    def folder(task, architecture):
        path = tmp_path_factory.mktemp(f"{task}-{architecture}")
        return makers[task](path, architecture=architecture)

    return folder


@pytest.fixture(scope="module")
def load(folders):
    """Load a fresh network."""
    from airflow_provider_hfreg.inference.loading import load_pipeline
    from airflow_provider_hfreg.pipelines.folder import describe_folder

    def loaded(task, architecture, **parameters):
        folder = folders(task, architecture)
        return load_pipeline(folder, describe_folder(folder, task, parameters), device="cpu")

    return loaded


@pytest.fixture(scope="module")
def engines(load):
    """Return an engine on a network as it came, each sequence alone, and one on a fitted network."""
    from airflow_provider_hfreg.inference.engine import Engine
    from airflow_provider_hfreg.inference.fitting import fitted

    @functools.cache
    def both(task, architecture, prepacks=False):
        alone = Engine(load(task, architecture), token_budget=1)
        return alone, Engine(fitted(load(task, architecture), prepacks=lambda _: prepacks))

    return both


def window(task, texts, engine):
    mask = engine.loaded.tokenizer.mask_token
    columns = {
        "feature-extraction": {"inputs": texts},
        "fill-mask": {"inputs": [f"{text[:50]} {mask} and {mask}" for text in texts]},
        "question-answering": {"question": ["the film"] * len(texts), "context": [text or "x" for text in texts]},
        "text-classification": {"text": texts, "text_pair": [None if len(text) % 2 else "not bad" for text in texts]},
        "token-classification": {"inputs": texts},
    }
    return pa.record_batch({name: pa.array(values, pa.string()) for name, values in columns[task].items()})


def assert_same(result, expected):
    (others, numbers), (those, oracle) = parts(result), parts(expected)
    assert others == those
    assert np.abs(numbers - oracle).max(initial=0) <= 1e-5
    assert (result.row.tolist(), result.errors) == (expected.row.tolist(), expected.errors)


@pytest.mark.parametrize("prepacks", [False, True])
@pytest.mark.parametrize("architecture", [*PACKED, *PADDED])
@pytest.mark.parametrize("task", TASKS)
def test_numbers_are_those_of_each_sequence_alone(task, architecture, prepacks, engines):
    alone, engine = engines(task, architecture, prepacks)

    result = engine.run(window(task, TEXTS, engine))

    assert_same(result, alone.run(window(task, TEXTS, engine)))


@settings(max_examples=40)
@given(data=st.data())
def test_neither_order_nor_batches_nor_duplicates_change_a_number(data, engines):
    from airflow_provider_hfreg.inference.engine import Engine

    task = data.draw(st.sampled_from(TASKS))
    alone, engine = engines(task, data.draw(st.sampled_from([*PACKED, *PADDED])))
    some = data.draw(st.lists(st.text(min_size=1, max_size=40), min_size=1, max_size=8))
    texts = data.draw(st.lists(st.sampled_from(some), min_size=1, max_size=16))
    small = Engine(engine.loaded, token_budget=data.draw(st.integers(1, 300)))
    most_padding = data.draw(st.none() | st.integers(0, 20))

    with mock.patch("airflow_provider_hfreg.inference.engine._most_padding", return_value=most_padding):
        result = small.run(window(task, texts, engine))
    assert_same(result, alone.run(window(task, texts, engine)))


@pytest.mark.parametrize("task", ["feature-extraction", "text-classification", "token-classification"])
@pytest.mark.parametrize("architecture", ["convbert", "xlnet"])
def test_a_network_that_reads_padding_runs_texts_of_one_length_together(architecture, task, engines):
    """ConvBERT's windows reach into the padding, and XLNet's classifier reads the last place of the row."""
    alone, engine = engines(task, architecture)
    assert engine.loaded.reads_padding or (architecture == "xlnet" and task != "text-classification")

    result = engine.run(window(task, TEXTS, engine))

    assert_same(result, alone.run(window(task, TEXTS, engine)))


@pytest.mark.parametrize("architecture", [*PACKED, *PADDED])
def test_no_other_architecture_is_taken_for_one(architecture, engines):
    assert not engines("text-classification", architecture)[1].loaded.reads_padding


def test_a_text_without_a_token_fails_whatever_runs_beside_it(tmp_path):
    """GPT-2's tokenizer puts nothing around a text; a row of padding alone would be answered like any other."""
    from airflow_provider_hfreg.inference.engine import Engine
    from airflow_provider_hfreg.inference.fitting import fitted
    from airflow_provider_hfreg.inference.frameworks import transformers
    from airflow_provider_hfreg.inference.loading import load_pipeline
    from airflow_provider_hfreg.pipelines.folder import describe_folder
    from airflow_provider_hfreg.testing.models import byte_level_tokenizer, write_model

    tokenizer = byte_level_tokenizer("gpt2")
    tokenizer.pad_token = tokenizer.eos_token
    config = transformers.GPT2Config(
        n_embd=32, n_layer=2, n_head=2, n_positions=64, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id
    )
    folder = write_model(tmp_path, transformers.AutoModelForSequenceClassification, config, tokenizer, 0)
    loaded = fitted(load_pipeline(folder, describe_folder(folder, "text-classification", {}), device="cpu"))
    assert not loaded.reads_padding
    texts = ["the film was good", "", "it's"]
    rows = pa.record_batch({"text": texts, "text_pair": pa.nulls(3, pa.string())})

    result, alone = Engine(loaded).run(rows), Engine(loaded, token_budget=1).run(rows)

    assert_same(result, alone)
    assert [(error.row, error.code) for error in result.errors] == [(1, "model_error")]
    assert "makes no token of the text" in result.errors[0].message


def test_a_network_that_a_short_text_would_switch_is_left_as_it_is(load):
    from airflow_provider_hfreg.inference.fitting import fitted

    loaded = load("text-classification", "big_bird")
    assert fitted(loaded) is loaded
    assert loaded.network.bert.attention_type == "block_sparse"


def test_a_network_that_cannot_be_compared_runs_texts_of_one_length_together(load, caplog):
    from airflow_provider_hfreg.inference.fitting import fitted

    with mock.patch("airflow_provider_hfreg.inference.fitting.encode", side_effect=KeyError("broken")):
        assert fitted(load("text-classification", "bert")).reads_padding
    assert "cannot be compared" in caplog.text


def test_a_tokenizer_whose_numbers_have_holes_is_compared(load):
    from airflow_provider_hfreg.inference.fitting import fitted

    loaded = load("text-classification", "bert")
    with mock.patch.object(type(loaded.tokenizer), "convert_ids_to_tokens", lambda _, ids: [None] * len(ids)):
        assert fitted(loaded).layout.last is not None


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "last"])
@pytest.mark.parametrize("architecture", ["albert", "bert", "distilbert", "mpnet", "roberta"])
def test_vectors_are_pooled_alike_in_every_layout(architecture, pooling, engines):
    alone, engine = engines("feature-extraction", architecture)
    rows = window("feature-extraction", TEXTS, engine)

    assert_same(engine.run(rows, {"pooling": pooling}), alone.run(rows, {"pooling": pooling}))


@pytest.mark.parametrize("architecture", [*PACKED, *PADDED])
@pytest.mark.parametrize("task", TASKS)
def test_only_listed_architectures_are_packed_and_none_under_4(task, architecture, engines):
    from airflow_provider_hfreg.inference.frameworks import transformers

    _, engine = engines(task, architecture)

    may = architecture in PACKED and not transformers.__version__.startswith("4.")
    assert engine.loaded.layout.packed is may
    assert engine.run(window(task, TEXTS, engine)).padded_tokens >= 1


@pytest.mark.parametrize(
    ("architecture", "prepacks", "told"),
    [
        ("bert", True, "packed, prepacked layers"),
        ("mpnet", False, "padded"),
        ("convbert", False, "one length at a time"),
    ],
)
def test_the_layout_that_was_found_is_told(load, architecture, prepacks, told):
    import transformers

    from airflow_provider_hfreg.inference.fitting import fitted
    from airflow_provider_hfreg.inference.numerics import layout_of

    if transformers.__version__.startswith("4."):
        told = told.replace("packed,", "padded,")
    assert layout_of(fitted(load("text-classification", architecture), prepacks=lambda _: prepacks)) == told


def test_a_packed_window_has_no_padding(engines):
    from airflow_provider_hfreg.inference.frameworks import transformers

    _, engine = engines("text-classification", "bert")
    result = engine.run(window("text-classification", TEXTS, engine))
    assert (result.padded_tokens == result.tokens) is not transformers.__version__.startswith("4.")


def test_a_network_that_mixes_the_tokens_of_a_row_stays_padded_and_the_log_says_so(load, caplog):
    from airflow_provider_hfreg.inference.fitting import fitted

    loaded = load("text-classification", "bert")
    own = loaded.network.config._attn_implementation
    embeddings = loaded.network.bert.embeddings
    embeddings.register_forward_hook(lambda _module, _inputs, states: states + states.mean(dim=1, keepdim=True))

    found = fitted(loaded)

    assert (found.layout.packed, found.layout.last) == (False, None)
    assert found.network.config._attn_implementation == own
    assert "BertForSequenceClassification differs by" in caplog.text


def test_who_calls_a_packed_network_with_padding_gets_what_it_gave_before(load):
    from airflow_provider_hfreg.inference.fitting import fitted
    from airflow_provider_hfreg.inference.frameworks import torch

    plain, found = load("text-classification", "bert"), fitted(load("text-classification", "bert"))
    rows = plain.tokenizer(list(TEXTS), padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        assert (found.network(**rows).logits - plain.network(**rows).logits).abs().max() <= 1e-5


def test_a_chosen_attention_is_kept(folders):
    from dataclasses import replace

    from airflow_provider_hfreg.inference.fitting import fitted
    from airflow_provider_hfreg.inference.loading import load_pipeline
    from airflow_provider_hfreg.pipelines.folder import describe_folder

    folder = folders("text-classification", "bert")
    spec = replace(describe_folder(folder, "text-classification"), attn_implementation="eager")
    found = fitted(load_pipeline(folder, spec, device="cpu"))
    assert found.layout.packed is False
    assert found.network.config._attn_implementation == "eager"


def test_layers_whose_weights_are_read_and_not_called_are_put_back(load, caplog):
    from airflow_provider_hfreg.inference.fitting import fitted
    from airflow_provider_hfreg.inference.frameworks import torch

    loaded = load("text-classification", "bert")
    layer = loaded.network.bert.encoder.layer[0].intermediate

    def read(states):
        return layer.intermediate_act_fn(torch.nn.functional.linear(states, layer.dense.weight, layer.dense.bias))

    layer.forward = read

    found = fitted(loaded, prepacks=lambda _: True)

    assert {type(module) for module in found.network.modules() if "Linear" in type(module).__name__} == {
        torch.nn.Linear
    }
    assert "with prepacked linear layers" in caplog.text


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("could not create a memory object")], ids=repr)
@pytest.mark.parametrize("task", ["text-classification", "text-generation"])
def test_whatever_ends_the_fitting_leaves_no_network_half_changed(task, error, tmp_path, folders):
    """At each call of the network, and at each layer that is prepacked."""
    from airflow_provider_hfreg.inference.fitting import fitted
    from airflow_provider_hfreg.inference.frameworks import torch
    from airflow_provider_hfreg.inference.loading import load_pipeline
    from airflow_provider_hfreg.inference.packed import PACKED
    from airflow_provider_hfreg.inference.prepacked import PrepackedLinear, linear_layers
    from airflow_provider_hfreg.pipelines.folder import describe_folder
    from airflow_provider_hfreg.testing.models import text_generator

    folder = (
        folders(task, "bert")
        if task == "text-classification"
        else text_generator(tmp_path / "model", architecture="llama")
    )
    reorder = torch.ops.mkldnn._reorder_linear_weight
    endings = set()
    for last in itertools.count():
        loaded = load_pipeline(folder, describe_folder(folder, task, {}), device="cpu")
        own, every, left = loaded.network.config._attn_implementation, len(linear_layers(loaded.network)), [last]

        def fail(*_, left=left):
            left[0] -= 1
            if left[0] == -1:
                raise error

        loaded.network.register_forward_pre_hook(fail)
        found = None
        prepacking = mock.patch.object(torch.ops.mkldnn, "_reorder_linear_weight", lambda *of: fail() or reorder(*of))
        with prepacking, contextlib.suppress(KeyboardInterrupt):
            found = fitted(loaded, prepacks=lambda _: True)
        prepacked = sum(isinstance(module, PrepackedLinear) for module in loaded.network.modules())
        packed = loaded.network.config._attn_implementation == PACKED
        assert prepacked in (0, every)
        assert packed or loaded.network.config._attn_implementation == own
        assert packed == (found is not None and found.layout.packed)
        assert found is not None or not prepacked
        endings.add((found is None, bool(prepacked)))
        if left[0] >= 0:
            break
    assert last > 10
    assert (False, True) in endings
    assert ((True, False) in endings) == isinstance(error, KeyboardInterrupt)


def test_what_a_user_loads_is_as_transformers_made_it_though_the_engine_has_run(tmp_path, folders):
    import pandas as pd

    from airflow_provider_hfreg.inference.frameworks import torch, transformers
    from airflow_provider_hfreg.registry import Registry

    registry = Registry((tmp_path / "registry").as_uri(), cache_folder=tmp_path / "cache")
    for task in ("text-classification", "feature-extraction"):
        version = registry.log_folder(folders(task, "bert"), model_name=task, version_name="v1", task=task)
        column = version.show_functions()[0]["signature"].inputs[0].name
        version.run(pd.DataFrame({column: ["a film", "a good film"], "text_pair": [None, None]}))
        engine = version.engine(device="cpu")
        assert engine.is_fitted
        assert engine.loaded.layout.last is not None

        network = version.load().model

        auto_class = {"text-classification": "AutoModelForSequenceClassification", "feature-extraction": "AutoModel"}
        as_made = getattr(transformers, auto_class[task]).from_pretrained(folders(task, "bert"))
        assert [type(module) for module in network.modules()] == [type(module) for module in as_made.modules()]
        assert network.config._attn_implementation == as_made.config._attn_implementation
        for name, weight in as_made.state_dict().items():
            assert torch.equal(network.state_dict()[name], weight)
