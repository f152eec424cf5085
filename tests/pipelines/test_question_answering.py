"""
question-answering: the answers of 4.57's pipeline, by columns.

The family that still has the pipeline is asked itself; what it said is kept for the others
(goldens/make_question_answering.py).
"""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_hfreg.errors import UnknownParameterError, UnsupportedPipelineError
from airflow_provider_hfreg.pipelines.base import Outputs, TaskContext, TokenFact
from airflow_provider_hfreg.pipelines.catalog import get_task
from airflow_provider_hfreg.pipelines.ragged import Ragged
from airflow_provider_hfreg.pipelines.spans import SpanLogits, best_spans
from airflow_provider_hfreg.testing import encoder_models

TASK = get_task("question-answering")
GOLDENS = json.loads(Path(__file__).with_name("goldens").joinpath("question_answering.json").read_text("utf-8"))
LONG = "a dull plot, wooden acting, and an ending nobody asked for! " * 6


def window(pairs):
    questions, contexts = zip(*pairs, strict=True) if pairs else ((), ())
    return pa.record_batch({"question": pa.array(questions, pa.string()), "context": pa.array(contexts, pa.string())})


@pytest.fixture(scope="session")
def engine(folder_of):
    from airflow_provider_hfreg.inference.engine import Engine
    from airflow_provider_hfreg.inference.loading import load_pipeline
    from airflow_provider_hfreg.pipelines.folder import describe_folder

    def build(architecture="bert", padding_side="right", **arguments):
        folder = folder_of(encoder_models.question_answerer, architecture)
        loaded = load_pipeline(folder, describe_folder(folder, "question-answering", arguments), device="cpu")
        loaded.tokenizer.padding_side = padding_side
        return Engine(loaded)

    return build


def same(mine, other):
    assert mine["score"] == pytest.approx(other["score"], abs=1e-5)
    assert {**mine, "score": 0} == {**other, "score": 0}


@pytest.mark.parametrize("case", GOLDENS["cases"], ids=lambda case: f"{case['architecture']}-{case['arguments']}")
def test_a_window_gives_what_the_pipeline_gave(case, engine):
    result = engine(case["architecture"], case["padding_side"], **case["arguments"]).run(window(GOLDENS["pairs"]))

    answered = [answers for answers in case["answers"] if answers]
    if "outputs" in result.outputs.schema.names:
        assert result.errors == ()
        for output, answers in zip(result.outputs.column("outputs").to_pylist(), case["answers"], strict=True):
            for mine, other in zip(json.loads(output), answers, strict=True):
                assert list(mine) == ["score", "start", "end", "answer"]
                same(mine, other)
        return
    for mine, (other,) in zip(result.outputs.to_pylist(), answered, strict=True):
        same(mine, other)
    without = [row for row, answers in enumerate(case["answers"]) if not answers]
    assert [(error.row, error.code, error.column) for error in result.errors] == [
        (row, "no_answer", "context") for row in without
    ]


def test_rows_alone_and_together_give_the_same(engine):
    alone, together = engine(), engine()
    pairs = GOLDENS["pairs"][:9]
    assert [alone.run(window([pair])).outputs.to_pylist()[0] for pair in pairs] == [
        pytest.approx(row, abs=1e-5) for row in together.run(window(pairs)).outputs.to_pylist()
    ]


def test_an_empty_question_or_context_is_that_rows_error(engine):
    result = engine().run(window([("", "good"), ("who?", "good"), ("who?", ""), ("", "")]))
    assert result.row.tolist() == [1]
    assert [(error.row, error.code, error.column) for error in result.errors] == [
        (0, "empty_value", "question"),
        (2, "empty_value", "context"),
        (3, "empty_value", "question"),
    ]


def test_a_question_that_leaves_no_room_is_that_rows_error(engine):
    result = engine().run(window([("who?", "good"), ("what? " * 40, LONG), ("why?", LONG)]))
    assert result.row.tolist() == [0, 2]
    assert [(error.row, error.code) for error in result.errors] == [(1, "tokenizer_error")]
    assert result.truncated_rows == 0


def test_one_answer_of_several_asked_for_is_still_a_list(engine):
    (output,) = engine(top_k=2).run(window([("who?", "good")])).outputs.column("outputs").to_pylist()
    assert isinstance(json.loads(output), list)


def test_a_run_may_ask_for_more_but_not_for_other_columns(engine):
    several = engine(top_k=3)
    assert len(json.loads(several.run(window([("a?", LONG)]), {"top_k": 5}).outputs[0][0].as_py())) == 5
    with pytest.raises(UnknownParameterError, match="top_k=1 would change the output columns"):
        several.run(window([("a?", "b")]), {"top_k": 1})


@pytest.mark.parametrize("parameters", [{"top_k": 0}, {"max_answer_len": 0}])
def test_less_than_one_is_refused(parameters):
    with pytest.raises(UnknownParameterError, match="1 or more"):
        TASK.signature(parameters)


@pytest.mark.parametrize("parameters", [{"doc_stride": 61}, {"max_seq_len": 10, "doc_stride": 9}, {"doc_stride": -1}])
def test_a_stride_that_goes_nowhere_is_refused(parameters, engine):
    with pytest.raises(UnknownParameterError, match="Make doc_stride smaller"):
        engine().run(window([("a?", "b")]), parameters)


def test_a_tokenizer_written_in_python_is_refused():
    class Slow:
        is_fast = False
        padding_side = "right"

    with pytest.raises(UnsupportedPipelineError, match="fast tokenizer"):
        TASK.preprocess(window([("a?", "b")]), TaskContext(Slow(), {}))


def test_no_rows_give_columns_of_the_right_types(engine):
    single, several = engine().run(window([])), engine(top_k=2).run(window([]))
    assert [str(field.type) for field in single.outputs.schema] == ["double", "int64", "int64", "string"]
    assert [str(field.type) for field in several.outputs.schema] == ["string"]


def test_scores_that_are_no_numbers_are_that_rows_error():
    logits = Ragged.of([3, 3], np.array([0, 1, 2, 0, np.nan, 2], np.float32))
    facts = {
        TokenFact.CHARACTERS: logits.with_values(np.array([[0, 0], [0, 1], [0, 1]] * 2)),
        TokenFact.WORD: logits.with_values(np.array([-1, 0, 0] * 2)),
        TokenFact.TEXT: logits.with_values(np.array([-1, 0, 1] * 2)),
    }

    class Tokenizer:
        padding_side = "right"
        cls_token_id = 0

    outputs = Outputs(
        np.array([0, 1]),
        ragged={"start": logits, "end": logits},
        facts=facts,
        input_ids=Ragged.of_lists([[0, 5, 6], [0, 5, 6]]),
    )
    results = TASK.postprocess(outputs, window([("q", "x"), ("q", "y")]), TaskContext(Tokenizer(), {}))
    assert (results.row.tolist(), results.columns["answer"].to_pylist()) == ([0], ["x"])
    assert [(error.row, error.code) for error in results.errors] == [(1, "not_a_number")]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(pairs=st.lists(st.tuples(st.text(max_size=20), st.text(max_size=60)), max_size=5))
def test_any_texts_give_one_row_or_a_named_error(pairs, engine):
    if not _ENGINES:
        _ENGINES.append(engine())
    result = _ENGINES[0].run(window(pairs))
    assert sorted([*result.row.tolist(), *(error.row for error in result.errors)]) == list(range(len(pairs)))
    assert {error.code for error in result.errors} <= {"empty_value", "no_answer"}
    for (_, context), found in zip([pairs[row] for row in result.row], result.outputs.to_pylist(), strict=True):
        assert found["answer"] == context[found["start"] : found["end"]]


_ENGINES = []


# --- the likeliest spans


def all_pairs(start, end, allowed, count, longest):
    """One sequence, pair by pair; ties are left to whoever asks."""
    start, end = (np.where(allowed, logits, np.float32(-10000)) for logits in (start, end))
    start, end = (np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum() for logits in (start, end))
    none = start[0] * end[0]
    start[0] = end[0] = 0
    pairs = [
        (start[first] * end[last], first, last)
        for first in range(len(start))
        for last in range(first, min(first + longest, len(start)))
    ]
    return sorted(pairs, reverse=True)[:count], none


@settings(max_examples=60)
@given(st.lists(st.integers(1, 60), max_size=5), st.integers(1, 20), st.integers(1, 20), st.integers(0, 99))
def test_the_best_spans_are_those_of_all_pairs(lengths, count, longest, seed):
    random = np.random.default_rng(seed)
    total = sum(lengths)
    start, end = (Ragged.of(lengths, random.normal(size=total).astype(np.float32) * 3) for _ in range(2))
    allowed = random.random(total) < 0.7
    spans, none = best_spans(SpanLogits(start, end, allowed), count=count, longest=longest)
    assert len(none) == len(lengths)
    for sequence in range(len(lengths)):
        one = slice(*start.offsets[sequence : sequence + 2])
        expected, impossible = all_pairs(start.values[one], end.values[one], allowed[one], count, longest)
        assert none[sequence] == pytest.approx(impossible, abs=1e-6)
        of_sequence = spans.sequence == sequence
        found = [
            (score, first, last)
            for score, first, last in zip(
                spans.score[of_sequence].tolist(),
                spans.first[of_sequence].tolist(),
                spans.last[of_sequence].tolist(),
                strict=True,
            )
            if score > 0
        ]
        # Where no token is allowed, all are as likely as each other, and none is an answer.
        may = allowed[one]
        likely = [
            (pytest.approx(float(score), abs=1e-6), first, last)
            for score, first, last in expected
            if score > 0 and may[first] and may[last]
        ]
        assert found == likely


@settings(max_examples=40)
@given(st.lists(st.integers(1, 14), min_size=1, max_size=4), st.integers(1, 20), st.integers(1, 9), st.integers(0, 99))
def test_ties_are_decided_as_the_pipeline_decides_them(lengths, count, longest, seed):
    pipelines = pytest.importorskip(
        "transformers.pipelines.question_answering", reason="the installed transformers has no such pipeline"
    )
    random = np.random.default_rng(seed)
    start, end = (Ragged.of(lengths, random.integers(0, 3, sum(lengths)).astype(np.float32)) for _ in range(2))
    allowed = random.random(sum(lengths)) < 0.8
    spans, _ = best_spans(SpanLogits(start, end, allowed), count=count, longest=longest)
    for sequence, length in enumerate(lengths):
        if length**2 == count:
            continue  # the pipeline fails
        one = slice(*start.offsets[sequence : sequence + 2])
        mask = (~allowed[one]).astype(np.int64)[None]
        firsts, lasts, scores, _ = pipelines.select_starts_ends(
            start.values[one][None], end.values[one][None], mask, None, top_k=count, max_answer_len=longest
        )
        of_sequence = spans.sequence == sequence
        assert spans.first[of_sequence].tolist() == firsts.tolist()
        assert spans.last[of_sequence].tolist() == lasts.tolist()
        assert spans.score[of_sequence].tolist() == pytest.approx(scores.tolist(), abs=1e-6)


def test_what_a_pipeline_was_built_with_is_read_back(folder_of, pipe_of):
    pytest.importorskip(
        "transformers.pipelines.question_answering", reason="the installed transformers has no such pipeline"
    )
    arguments = {
        "top_k": 3,
        "doc_stride": 4,
        "max_seq_len": 30,
        "handle_impossible_answer": True,
        "align_to_words": False,
    }
    pipe = pipe_of(folder_of(encoder_models.question_answerer, "bert"), "question-answering", **arguments)
    read = TASK.parameters_of(pipe._preprocess_params, pipe._forward_params, pipe._postprocess_params)
    assert read == arguments


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # 4.57 with numpy 2
def test_a_pipeline_is_built_and_called_under_every_family(folder_of):
    from airflow_provider_hfreg.inference import pipeline

    folder = str(folder_of(encoder_models.question_answerer, "bert"))
    case = next(case for case in GOLDENS["cases"] if case["arguments"] == {"top_k": 4})
    question, context = GOLDENS["pairs"][0]

    (one,) = next(case for case in GOLDENS["cases"] if not case["arguments"])["answers"][0]
    same(pipeline("question-answering", folder, device="cpu")(question=question, context=context), one)
    several = pipeline("question-answering", folder, device="cpu", top_k=4)(question=question, context=context)
    for mine, other in zip(several, case["answers"][0], strict=True):
        same(mine, other)
