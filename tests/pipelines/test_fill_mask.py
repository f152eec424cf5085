"""fill-mask: the pipeline's tokens for each mask, by columns."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_hfreg.errors import UnknownParameterError, UnsupportedPipelineError
from airflow_provider_hfreg.pipelines.base import Outputs, TaskContext
from airflow_provider_hfreg.pipelines.catalog import get_task
from airflow_provider_hfreg.pipelines.ragged import Ragged
from airflow_provider_hfreg.testing import encoder_models

TASK = get_task("fill-mask")
# The heads that see the masks alone, and one that does not.
ARCHITECTURES = (
    "bert",
    "roberta",
    "distilbert",
    "albert",
    "electra",
    "mpnet",
    "xlm-roberta",
    "camembert",
    "megatron-bert",
)
TEXTS = (
    "the film was {}",
    "{}",
    "{} and {}",
    "größtenteils {} köstlich, この映画は",
    "{}{}{} good [PAD] <pad>",
    "👩‍👩‍👧 {} \u0000 zero\u200dwidth",
    "it 's {} , neither good nor {} !",
)


@pytest.fixture(scope="session")
def engines(folder_of, engine_of):
    return lambda architecture: engine_of(folder_of(encoder_models.masked_language_model, architecture), "fill-mask")


@pytest.fixture(scope="session")
def pipes(folder_of, pipe_of):
    def build(architecture="bert", **arguments):
        return pipe_of(folder_of(encoder_models.masked_language_model, architecture), "fill-mask", **arguments)

    return build


def window(values):
    return pa.record_batch({"inputs": pa.array(values, pa.string())})


def masked(text, tokenizer):
    return text.replace("{}", tokenizer.mask_token)


def same(ours, theirs):
    """Equal, scores within 1e-5; a single mask is a list of objects, several are a list of such lists."""
    if theirs and isinstance(theirs[0], list):
        assert len(ours) == len(theirs)
        for mine, other in zip(ours, theirs, strict=True):
            same(mine, other)
        return
    assert [list(found) for found in ours] == [["score", "token", "token_str", "sequence"]] * len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine["score"] == pytest.approx(other["score"], abs=1e-5)
        assert {**mine, "score": 0} == {**other, "score": 0}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_window_gives_what_the_pipeline_gives_text_by_text(architecture, pipes, engines):
    pipe, engine = pipes(architecture), engines(architecture)
    texts = [masked(text, pipe.tokenizer) for text in (*TEXTS, TEXTS[0])]

    result = engine.run(window(texts))

    assert result.errors == ()
    for text, output in zip(texts, result.outputs.column("outputs").to_pylist(), strict=True):
        same(json.loads(output), pipe(text))


@pytest.mark.parametrize("top_k", [0, 1, 3, 1000])
def test_as_many_tokens_as_asked_for_and_there_are(top_k, pipes, engines):
    pipe, engine = pipes(), engines("bert")
    texts = [masked(text, pipe.tokenizer) for text in TEXTS]

    outputs = engine.run(window(texts), {"top_k": top_k}).outputs.column("outputs").to_pylist()

    for text, output in zip(texts, outputs, strict=True):
        same(json.loads(output), pipe(text, top_k=min(top_k, len(pipe.tokenizer))))


@pytest.mark.parametrize(
    "targets", [["good"], ["good", "film", "good", "."], ["music", "unheard-of", "köstlich"], "it"]
)
@pytest.mark.parametrize("top_k", [None, 1, 2])
def test_targets_alone_come_into_question(targets, top_k, pipes, engines):
    given_arguments = {"targets": targets} | ({} if top_k is None else {"top_k": top_k})
    pipe, engine = pipes(**given_arguments), engines("bert")
    texts = [masked(text, pipe.tokenizer) for text in TEXTS]

    outputs = engine.run(window(texts), given_arguments).outputs.column("outputs").to_pylist()

    for text, output in zip(texts, outputs, strict=True):
        same(json.loads(output), pipe(text))


@pytest.mark.parametrize("targets", [[], ["\u200d"]])
def test_without_any_target_nothing_runs(targets, engines):
    with pytest.raises(UnknownParameterError, match="at least one token"):
        engines("bert").run(window(["[MASK]"]), {"targets": targets})


def test_the_head_sees_the_masks_alone(engines):
    engine, seen = engines("bert"), []
    hook = engine.loaded.network.cls.register_forward_hook(lambda _head, _inputs, logits: seen.append(logits.shape[:2]))
    try:
        engine.run(window(["good [MASK] and [MASK]", "a [MASK] film"]))
    finally:
        hook.remove()
    assert [shape.numel() for shape in seen] == [3]


def test_one_row_is_no_special_case_and_two_masks_are_a_list_in_a_list(engines):
    (one,) = engines("bert").run(window(["good [MASK]"])).outputs.column("outputs").to_pylist()
    (two,) = engines("bert").run(window(["good [MASK] [MASK]"]), {"top_k": 2}).outputs.column("outputs").to_pylist()
    assert [type(found) for found in json.loads(one)] == [dict] * 5
    assert [[type(found) for found in of_mask] for of_mask in json.loads(two)] == [[dict] * 2] * 2


def test_a_text_without_a_mask_is_that_rows_error(engines):
    result = engines("bert").run(window(["good", "good [MASK]", "", "long " * 99 + "[MASK]", "[MASK] " + "long " * 99]))
    assert result.row.tolist() == [1, 4]
    assert [(error.row, error.code, error.column) for error in result.errors] == [
        (row, "no_mask", "inputs") for row in (0, 2, 3)
    ]
    assert "[MASK]" in result.errors[0].message
    assert result.truncated_rows == 2
    assert engines("bert").run(window(["good"])).outputs.num_rows == 0


def test_what_the_user_said_about_the_tokenizer_holds(pipes, engines):
    arguments = {"tokenizer_kwargs": {"truncation": True, "max_length": 6}}
    pipe, text = pipes(**arguments), "a [MASK] " + "good " * 9
    (output,) = engines("bert").run(window([text]), arguments).outputs.column("outputs").to_pylist()
    same(json.loads(output), pipe(text))


def test_no_rows_give_a_column_of_texts(engines):
    result = engines("bert").run(window([]))
    assert (str(result.outputs.schema.field("outputs").type), result.outputs.num_rows) == ("string", 0)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(texts=st.lists(st.text(max_size=30) | st.text("[MASK] ab", max_size=30), max_size=6))
def test_any_text_gives_one_row_or_a_named_error(texts, engines):
    result = engines("bert").run(window(texts), {"top_k": 1})
    assert sorted([*result.row.tolist(), *(error.row for error in result.errors)]) == list(range(len(texts)))
    assert {error.code for error in result.errors} <= {"no_mask"}
    assert all(json.loads(output) for output in result.outputs.column("outputs").to_pylist())


def test_scores_that_are_no_numbers_are_that_rows_error(pipes):
    score = Ragged.of([1, 2], np.array([[0.5], [np.nan], [0.5]], np.float32))
    token = score.with_values(np.array([[5], [5], [5]]))
    tokenizer = pipes().tokenizer
    mask = tokenizer.mask_token_id
    outputs = Outputs(
        np.array([0, 3]), ragged={"score": score, "token": token}, input_ids=Ragged.of_lists([[mask], [mask, mask]])
    )
    results = TASK.postprocess(outputs, window([]), TaskContext(tokenizer, {}))
    assert results.row.tolist() == [0]
    assert len(results.columns["outputs"]) == 1
    assert [(error.row, error.code) for error in results.errors] == [(3, "not_a_number")]


@pytest.mark.parametrize(
    "arguments", [{}, {"top_k": 2}, {"targets": ["good", "film"], "tokenizer_kwargs": {"truncation": True}}]
)
def test_what_a_pipeline_was_built_with_is_read_back(arguments, pipes):
    pipe = pipes(**arguments)
    steps = (pipe._preprocess_params, pipe._forward_params, pipe._postprocess_params)
    read = TASK.spelt(TASK.parameters_of(*steps), pipe.tokenizer)
    assert {**read, "targets": sorted(read.get("targets", []))} == {
        **arguments,
        "targets": sorted(arguments.get("targets", [])),
    }
    assert json.loads(json.dumps(read)) == read


def test_a_tokenizer_without_a_mask_is_refused():
    class Tokenizer:
        mask_token_id = None

    with pytest.raises(UnsupportedPipelineError, match="no mask token"):
        TASK.preprocess(window(["a"]), TaskContext(Tokenizer(), {}))
    with pytest.raises(UnknownParameterError, match="0 or more"):
        TASK.signature({"top_k": -1})
