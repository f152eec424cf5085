"""The engine against transformers' own pipeline, one text at a time, as the oracle."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ARCHITECTURES = ("bert", "distilbert", "roberta")


def best(result):
    return result.outputs.column("label").to_pylist(), np.array(result.outputs.column("score").to_pylist())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("token_budget", [1, 100, 100_000])
def test_labels_and_scores_are_the_plain_pipelines(
    architecture, token_budget, classifiers, plain, engine_of, text_window, texts
):
    pipe = plain("text-classification", classifiers(architecture))

    result = engine_of(pipe, token_budget=token_budget).run(text_window(texts))

    oracle = [pipe(text, truncation=True)[0] for text in texts]
    labels, scores = best(result)
    assert labels == [answer["label"] for answer in oracle]
    assert np.abs(scores - [answer["score"] for answer in oracle]).max() <= 1e-5
    assert result.row.tolist() == list(range(len(texts)))
    assert result.errors == ()


def test_pairs_and_single_texts_share_a_window(classifiers, plain, engine_of, text_window, texts):
    pipe = plain("text-classification", classifiers("bert"), top_k=2)
    pairs = [None, "not bad", "", *["the film was good"] * (len(texts) - 3)]

    result = engine_of(pipe, token_budget=200).run(text_window(texts, pairs))

    for text, pair, output in zip(texts, pairs, result.outputs.column("outputs").to_pylist(), strict=True):
        oracle = pipe({"text": text, "text_pair": pair} if pair else {"text": text}, truncation=True)
        answers = json.loads(output)
        assert [answer["label"] for answer in answers] == [answer["label"] for answer in oracle]
        assert np.allclose([a["score"] for a in answers], [o["score"] for o in oracle], rtol=0, atol=1e-5)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
@given(data=st.data())
def test_neither_order_nor_batches_nor_windows_change_a_score(data, classifiers, plain, engine_of, text_window):
    engine = _shared_engine(classifiers, plain, engine_of)
    texts = data.draw(st.lists(st.text(max_size=40), min_size=1, max_size=12))
    order = data.draw(st.permutations(range(len(texts))))
    engine._executor.token_budget = data.draw(st.integers(1, 300))

    alone = [best(engine.run(text_window([text]))) for text in texts]
    labels, scores = best(engine.run(text_window([texts[place] for place in order])))

    assert labels == [alone[place][0][0] for place in order]
    assert np.abs(scores - [alone[place][1][0] for place in order]).max() <= 1e-5


def test_equal_texts_run_once(classifiers, plain, engine_of, text_window):
    pipe = plain("text-classification", classifiers("bert"))

    result = engine_of(pipe).run(text_window(["good", "bad", "good", "good"], [None, None, None, "bad"]))

    assert result.sequences == 3
    assert result.outputs.num_rows == 4
    assert result.tokens <= result.padded_tokens


def test_a_cut_text_is_counted(classifiers, plain, engine_of, text_window):
    pipe = plain("text-classification", classifiers("roberta"))

    result = engine_of(pipe).run(text_window(["short", "long " * 100, "long " * 100, "x"]))

    assert result.truncated_rows == 2


@pytest.mark.filterwarnings("ignore:`max_length` is ignored")  # says transformers itself, of padding=True
def test_a_length_without_a_word_on_truncation_cuts_as_in_the_pipeline(classifiers, plain, engine_of, text_window):
    text = "the film was good and the music better"
    for padding in (False, True):
        pipe = plain("text-classification", classifiers("bert"), max_length=4, padding=padding)

        outputs = engine_of(pipe).run(text_window([text])).outputs

        assert outputs.column("score").to_pylist() == pytest.approx([pipe(text)[0]["score"]], abs=1e-5)


def test_what_the_user_said_about_truncation_holds(classifiers, plain, engine_of, text_window):
    pipe = plain("text-classification", classifiers("bert"), truncation=True, max_length=8)

    labels, scores = best(engine_of(pipe).run(text_window(["a dull plot " * 9])))

    assert [{"label": labels[0], "score": pytest.approx(scores[0], abs=1e-5)}] == pipe("a dull plot " * 9)


def test_a_text_too_long_to_run_is_that_rows_error_and_no_others(classifiers, plain, engine_of, text_window, texts):
    pipe = plain("text-classification", classifiers("bert"), truncation=False)
    too_long = texts.index("a dull plot " * 60)

    result = engine_of(pipe, token_budget=400).run(text_window(texts))

    assert [(error.row, error.code) for error in result.errors] == [(too_long, "model_error")]
    assert result.row.tolist() == [row for row in range(len(texts)) if row != too_long]
    assert result.outputs.num_rows == len(texts) - 1


def test_a_window_of_which_no_row_works_has_typed_columns(classifiers, plain, engine_of, text_window):
    pipe = plain("text-classification", classifiers("bert"), truncation=False)

    result = engine_of(pipe).run(text_window(["a dull plot " * 60, "wooden acting " * 60]))

    assert result.row.tolist() == []
    assert [error.row for error in result.errors] == [0, 1]
    assert [str(field.type) for field in result.outputs.schema] == ["string", "double"]


def test_no_rows_give_no_rows(classifiers, plain, engine_of, text_window):
    result = engine_of(plain("text-classification", classifiers("bert"))).run(text_window([]))

    assert result.outputs.num_rows == result.sequences == result.truncated_rows == 0
    assert [str(field.type) for field in result.outputs.schema] == ["string", "double"]


def test_a_run_may_set_its_own_parameters(classifiers, plain, engine_of, text_window):
    pipe = plain("text-classification", classifiers("bert"), top_k=1)

    result = engine_of(pipe).run(text_window(["good"]), {"top_k": 3})

    assert len(json.loads(result.outputs.column("outputs")[0].as_py())) == 3


def test_a_bfloat16_model_runs_in_its_own_dtype(classifiers, plain, engine_of, text_window, texts):
    import torch

    pipe = plain("text-classification", classifiers("bert"), dtype=torch.bfloat16)
    engine = engine_of(pipe)

    labels, scores = best(engine.run(text_window(texts[:3])))

    assert engine.loaded.network.dtype is torch.bfloat16
    oracle = [pipe(text)[0] for text in texts[:3]]
    assert labels == [answer["label"] for answer in oracle]
    assert np.abs(scores - [answer["score"] for answer in oracle]).max() <= 2e-2  # bfloat16 itself is no better


_ENGINES = []


def _shared_engine(classifiers, plain, engine_of):
    # hypothesis calls the test often; the model is loaded for the first
    if not _ENGINES:
        _ENGINES.append(engine_of(plain("text-classification", classifiers("roberta"))))
    return _ENGINES[0]
