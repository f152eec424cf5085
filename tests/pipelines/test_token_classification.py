"""token-classification: the pipeline's tokens and entities, by columns."""

import json
import warnings

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_hfreg.errors import UnknownParameterError, UnsupportedPipelineError
from airflow_provider_hfreg.inference.tokenization import encode
from airflow_provider_hfreg.pipelines.base import Outputs, TaskContext
from airflow_provider_hfreg.pipelines.catalog import get_task
from airflow_provider_hfreg.pipelines.ragged import Ragged
from airflow_provider_hfreg.testing import encoder_models

TASK = get_task("token-classification")
STRATEGIES = ("none", "simple", "first", "average", "max")
TEXTS = (
    "the film was good and the music better than anything",
    "",
    " ",
    "größtenteils köstlich: Die Küche, İstanbul ﬁn.",
    "この映画は 面白かったです",
    "👩‍👩‍👧 zero\u200dwidth \u0000 e\u0301 joiners [MASK] and \t tabs",
    "it's neither good nor bad; it simply is",
    "[UNK] ⁂⁂ good⁂bad",
    "a dull plot, wooden acting " * 9,
)
texts = st.text(max_size=60) | st.sampled_from(TEXTS)


@pytest.fixture(scope="session")
def pipes(folder_of, pipe_of):
    def build(architecture="bert", **arguments):
        return pipe_of(folder_of(encoder_models.token_classifier, architecture, seed=3), "ner", **arguments)

    return build


@pytest.fixture(scope="session")
def engines(folder_of, engine_of):
    return lambda architecture="bert": engine_of(
        folder_of(encoder_models.token_classifier, architecture, seed=3), "ner"
    )


def window(values):
    return pa.record_batch({"inputs": pa.array(values, pa.string())})


def same(ours, theirs):
    """Equal as JSON, scores within 1e-5."""
    assert [list(found) for found in ours] == [list(found) for found in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        assert mine["score"] == pytest.approx(float(other["score"]), abs=1e-5)
        assert {**mine, "score": 0} == {**other, "score": 0}


def oracle(pipe, text, **arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of words that a tokenizer does not know
        return pipe(text, **arguments)


@pytest.mark.parametrize("architecture", ["bert", "roberta"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_window_gives_what_the_pipeline_gives_text_by_text(architecture, strategy, pipes, engines):
    pipe = pipes(architecture, aggregation_strategy=strategy)

    result = engines(architecture).run(window([*TEXTS, TEXTS[0]]), {"aggregation_strategy": strategy})

    assert result.errors == ()
    assert result.truncated_rows == 1
    for text, output in zip([*TEXTS, TEXTS[0]], result.outputs.column("outputs").to_pylist(), strict=True):
        same(json.loads(output), oracle(pipe, text))


@pytest.mark.parametrize("architecture", ["bert", "roberta"])
@pytest.mark.parametrize("strategy", STRATEGIES[1:])
@pytest.mark.parametrize("stride", [0, 20])
def test_a_long_text_is_read_whole_with_a_stride(architecture, strategy, stride, pipes, engines):
    texts = [TEXTS[8], "good", TEXTS[3] * 9, TEXTS[8]]
    pipe = pipes(architecture, aggregation_strategy=strategy, stride=stride)

    result = engines(architecture).run(window(texts), {"aggregation_strategy": strategy, "stride": stride})

    assert result.truncated_rows == 0
    for text, output in zip(texts, result.outputs.column("outputs").to_pylist(), strict=True):
        same(json.loads(output), oracle(pipe, text))


@pytest.mark.parametrize("ignore", [[], ["O"], ["O", "PER", "MISC"], ["B-PER", "I-PER"], [*encoder_models.ENTITIES]])
@pytest.mark.parametrize("strategy", ["none", "simple", "first"])
def test_labels_are_left_out_as_told(ignore, strategy, pipes, engines):
    pipe = pipes(aggregation_strategy=strategy, ignore_labels=ignore)
    parameters = {"aggregation_strategy": strategy, "ignore_labels": ignore}

    outputs = engines().run(window(TEXTS[:4]), parameters).outputs.column("outputs").to_pylist()

    for text, output in zip(TEXTS, outputs, strict=False):
        same(json.loads(output), oracle(pipe, text))
    if strategy == "none" and len(ignore) == len(encoder_models.ENTITIES):
        assert outputs == ["[]"] * 4


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(data=st.data())
def test_any_logits_and_texts_give_the_pipelines_entities(data, pipes):
    """Few values, so that ties are met; the pipeline's own ``postprocess`` is asked, text by text."""
    architecture = data.draw(st.sampled_from(["bert", "roberta"]))
    pipe = _once(pipes, architecture)
    strategy = data.draw(st.sampled_from(STRATEGIES))
    stride = data.draw(st.sampled_from([None, 3])) if strategy != "none" else None
    given_texts = data.draw(st.lists(texts, max_size=4))
    context = TaskContext(
        pipe.tokenizer, pipe.model.config.to_dict(), {"aggregation_strategy": strategy, "stride": stride}
    )
    sequences = TASK.preprocess(window(given_texts), context)
    encoded = encode(
        pipe.tokenizer, sequences.text, None, {**sequences.encoding, "max_length": 12}, limit=12, facts=sequences.facts
    )
    seed = data.draw(st.integers(0, 99))
    values = np.random.default_rng(seed).integers(0, 3, (int(encoded.lengths.sum()), len(encoder_models.ENTITIES)))
    logits = Ragged.of(encoded.lengths, values.astype(np.float32))
    outputs = Outputs(
        encoded.text, ragged={"logits": logits}, facts=encoded.facts, input_ids=encoded.columns["input_ids"]
    )

    results = TASK.postprocess(outputs, window(given_texts), context)

    assert results.row.tolist() == list(range(len(given_texts)))
    for row, output in enumerate(results.columns["outputs"].to_pylist()):
        of_row = np.flatnonzero(encoded.text == row)
        same(json.loads(output), _by_the_pipeline(pipe, given_texts[row], outputs, of_row, strategy))


def _by_the_pipeline(pipe, text, outputs, sequences, strategy):
    import torch
    from transformers.pipelines.token_classification import AggregationStrategy

    parts = [
        {
            "sentence": text,
            "logits": torch.from_numpy(outputs.ragged["logits"].take(np.array([place])).values)[None],
            "input_ids": torch.from_numpy(outputs.input_ids.take(np.array([place])).values)[None],
            **{
                name: torch.from_numpy(fact.take(np.array([place])).values)[None]
                for name, fact in zip(
                    ("offset_mapping", "special_tokens_mask"),
                    (outputs.facts[key] for key in sorted(outputs.facts, key=lambda key: key.value)),
                    strict=True,
                )
            },
        }
        for place in sequences
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pipe.postprocess(parts, aggregation_strategy=AggregationStrategy[strategy.upper()])


_PIPES = {}


def _once(pipes, architecture):
    if architecture not in _PIPES:
        _PIPES[architecture] = pipes(architecture)
    return _PIPES[architecture]


def test_a_text_whose_scores_are_no_numbers_is_that_rows_error():
    logits = Ragged.of([1, 2], np.array([[0, 1], [np.nan, 1], [1, 0]], np.float32))
    facts = {
        TASK_FACT: Ragged.of([1, 2], values)
        for TASK_FACT, values in zip(
            sorted(TASK.preprocess(window(["a"]), TaskContext(None, {})).facts, key=lambda fact: fact.value),
            (np.zeros((3, 2), np.int64), np.zeros(3, np.bool_)),
            strict=True,
        )
    }

    class Tokenizer:
        unk_token_id = None
        convert_ids_to_tokens = staticmethod(lambda ids: [str(one) for one in ids])

    results = TASK.postprocess(
        Outputs(np.array([1, 4]), ragged={"logits": logits}, facts=facts, input_ids=Ragged.of_lists([[1], [1, 2]])),
        window(["a"] * 5),
        TaskContext(Tokenizer(), {}),
    )

    assert results.row.tolist() == [1]
    assert [(error.row, error.code) for error in results.errors] == [(4, "not_a_number")]
    assert json.loads(results.columns["outputs"][0].as_py())[0]["entity"] == "LABEL_1"


def test_no_rows_give_a_column_of_texts(engines):
    result = engines().run(window([]))
    assert (str(result.outputs.schema.field("outputs").type), result.outputs.num_rows) == ("string", 0)


def test_a_tokenizer_written_in_python_tells_no_places():
    class Slow:
        is_fast = False
        model_max_length = 64

    for parameters in ({"aggregation_strategy": "first"}, {"aggregation_strategy": "simple", "stride": 3}):
        with pytest.raises(UnknownParameterError, match="need a fast tokenizer"):
            TASK.preprocess(window(["a"]), TaskContext(Slow(), {}, parameters))
    assert TASK.preprocess(window(["a"]), TaskContext(Slow(), {}, {"aggregation_strategy": "simple"})).row.tolist() == [
        0
    ]


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        ({"aggregation_strategy": "best"}, "one of none, simple, first, average, max"),
        ({"aggregation_strategy": "none", "stride": 3}, "stride joins"),
    ],
)
def test_what_cannot_be_is_refused_before_the_model_runs(parameters, match):
    with pytest.raises(UnknownParameterError, match=match):
        TASK.signature(parameters)


def test_a_stride_beyond_the_tokenizers_length_is_refused(engines):
    with pytest.raises(UnknownParameterError, match="less than the 64 tokens"):
        engines().run(window(["a"]), {"aggregation_strategy": "simple", "stride": 64})


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"aggregation_strategy": "simple"},
        {"aggregation_strategy": "max", "stride": 4, "ignore_labels": []},
        {"ignore_labels": ["O", "MISC"]},
    ],
)
def test_what_a_pipeline_was_built_with_is_read_back(arguments, pipes):
    pipe = pipes(**arguments)
    read = TASK.parameters_of(pipe._preprocess_params, pipe._forward_params, pipe._postprocess_params)
    assert read == arguments


def test_a_pipeline_of_words_is_refused(pipes):
    pipe = pipes(is_split_into_words=True)
    with pytest.raises(UnsupportedPipelineError, match="built with is_split_into_words"):
        TASK.parameters_of(pipe._preprocess_params, pipe._forward_params, pipe._postprocess_params)
