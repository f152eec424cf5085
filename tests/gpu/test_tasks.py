"""Every task gives on an accelerator what it gives on the processor, each way of a single pass and of many."""

import pytest

from .tasks import TEXTS, assert_same, window

# 4.57 makes scripts of parts of some networks, at import.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")

GREEDY = {"do_sample": False, "num_beams": 1, "max_new_tokens": 6}
CASES = [
    ("feature-extraction", None, {"pooling": "cls", "normalize": True}),
    *[("feature-extraction", "roberta", {"pooling": each, "normalize": False}) for each in ("mean", "max", "last")],
    ("fill-mask", None, {}),
    ("fill-mask", "mpnet", {"top_k": 3, "targets": ["good", "the", "film"]}),
    ("question-answering", "albert", {"top_k": 2}),
    ("table-question-answering", None, {}),
    *[("text-classification", each, {}) for each in ("bert", "distilbert", "electra", "deberta-v2", "modernbert")],
    ("token-classification", "xlm-roberta", {"aggregation_strategy": "simple"}),
    ("zero-shot-classification", None, {}),
    ("conversational", "gpt2", GREEDY),
    *[("text-generation", each, GREEDY) for each in ("gpt2", "llama")],
    ("text-generation", "llama", GREEDY | {"num_beams": 3}),
    ("text-generation", "llama", GREEDY | {"do_sample": True, "top_k": 5, "num_return_sequences": 2}),
    *[("text2text-generation", each, GREEDY) for each in ("t5", "bart", "marian")],
    ("summarization", "t5", GREEDY),
    ("translation", "marian", GREEDY),
]


@pytest.mark.parametrize(("task", "architecture", "parameters"), CASES)
def test_a_task_gives_what_it_gives_on_the_processor(task, architecture, parameters, device, load):
    from airflow_provider_hfreg.inference.engine import Engine

    oracle = Engine(load("cpu", task, architecture, **parameters))
    rows = window(task, oracle.loaded.tokenizer)

    loaded = load(device, task, architecture, **parameters)
    result = Engine(loaded).run(rows, seed=3)

    assert loaded.network.device.type == loaded.device.type != "cpu"
    assert len(result.row) == len(TEXTS)
    assert_same(result, oracle.run(rows, seed=3))


@pytest.mark.parametrize("architecture", ["bert", "mpnet", "roberta"])
def test_what_is_read_of_the_last_layer_is_fitted_there_too(architecture, device, load):
    assert load(device, "text-classification", architecture).layout.last is not None


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("architecture", ["bert", "mpnet"])
def test_coarser_numbers_are_as_close_as_they_can_be(architecture, dtype, device, load):
    """What of a float32 network is left in 8 or 11 bits, layer after layer, in a vector of each text."""
    from airflow_provider_hfreg.inference.engine import Engine

    given = {"pooling": "mean", "normalize": True}
    oracle = Engine(load("cpu", "feature-extraction", architecture, **given))
    rows = window("feature-extraction", oracle.loaded.tokenizer)

    result = Engine(load(device, "feature-extraction", architecture, dtype=dtype, **given)).run(rows)

    assert_same(result, oracle.run(rows), within={"bfloat16": 5e-2, "float16": 5e-3}[dtype])
