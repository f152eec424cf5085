import functools
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_hfreg.errors import InferenceError
from airflow_provider_hfreg.inference import tokenization
from airflow_provider_hfreg.inference.padding import padded
from airflow_provider_hfreg.inference.tokenization import encode, token_limit
from airflow_provider_hfreg.pipelines.base import TokenFact
from airflow_provider_hfreg.pipelines.ragged import Ragged
from airflow_provider_hfreg.testing import models

texts = st.text(max_size=30)


@pytest.fixture(scope="module")
def tokenizer():
    from airflow_provider_hfreg.testing.models import word_piece_tokenizer

    return word_piece_tokenizer()


def strings(values):
    return pa.array(values, pa.string())


def lists_of(encoded):
    return {name: ragged.lists() for name, ragged in encoded.columns.items()}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.lists(st.tuples(texts, st.none() | st.text(min_size=1, max_size=30)), max_size=10))
def test_many_texts_are_encoded_as_one_by_one(tokenizer, sequences):
    encoded = encode(tokenizer, strings([a for a, _ in sequences]), strings([b for _, b in sequences]), {}, limit=None)

    alone = [tokenizer(text, pair) for text, pair in sequences]
    assert encoded.lengths.tolist() == [len(each["input_ids"]) for each in alone]
    assert encoded.columns["input_ids"].lists() == [each["input_ids"] for each in alone]
    if sequences:
        assert encoded.columns["token_type_ids"].lists() == [each["token_type_ids"] for each in alone]


def test_truncation_without_a_length_is_to_what_the_model_reads(tokenizer):
    encoded = encode(tokenizer, strings(["good " * 30, "good"]), None, {"truncation": True}, limit=10)

    assert encoded.lengths.tolist() == [10, len(tokenizer("good")["input_ids"])]
    assert encoded.truncated.tolist() == [True, False]


words = st.sampled_from(["good", "unforgettable", ",", "zzzzzzzzzzzz", " ", "\u3000", "\u4e2d\u6587", "\u00e9"])
kinds = {
    "word piece": models.word_piece_tokenizer,
    "unigram": models.unigram_tokenizer,
    "byte level": functools.partial(models.byte_level_tokenizer, "gpt2"),
}


@pytest.fixture(scope="module", params=kinds)
def kind(request):
    return kinds[request.param]()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(st.lists(st.lists(words, max_size=60).map(" ".join), min_size=1, max_size=4), st.booleans(), st.integers(6, 12))
def test_of_a_text_that_is_cut_its_beginning_is_enough(kind, sequences, paired, limit):
    strategy = {"truncation": "only_first" if paired else True}
    pairs = strings(["good"] * len(sequences)) if paired else None
    whole = encode(kind, strings(sequences), pairs, strategy, limit=limit)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenization, "_CHARACTERS_PER_TOKEN", 6)
        begun = encode(kind, strings(sequences), pairs, strategy, limit=limit)
    assert lists_of(begun) == lists_of(whole)
    assert begun.truncated.tolist() == whole.truncated.tolist()


@pytest.mark.parametrize(
    ("text", "characters_read"),
    [
        ("the film was good " * 100_000, 640),  # the beginning
        (" " * 100_000 + "good " * 100, 100_500),  # nothing but blanks at the beginning: whole
        ("good", 4),
    ],
)
def test_a_tokenizer_reads_no_more_of_a_text_than_is_needed(tokenizer, text, characters_read):
    class Reading:
        """The same tokenizer, which remembers how much it was given."""

        given: ClassVar[list[int]] = []

        def __getattr__(self, name):
            return getattr(tokenizer, name)

        def __call__(self, texts, *arguments, **options):
            self.given.append(max(map(len, texts)))
            return tokenizer(texts, *arguments, **options)

    encoded = encode(Reading(), strings([text]), None, {"truncation": True}, limit=10)
    assert encoded.lengths.max() <= 10
    assert encoded.truncated.tolist() == [len(text) > 4]
    assert characters_read - 10 <= Reading.given[-1] <= characters_read


def test_a_text_of_just_the_limit_is_not_cut(tokenizer):
    length = len(tokenizer("good good good")["input_ids"])

    encoded = encode(tokenizer, strings(["good good good"]), None, {"truncation": True}, limit=length)

    assert not encoded.truncated.any()


def test_a_slow_tokenizer_tells_what_it_cut_too(tokenizer):
    class Slow:
        """The same tokenizer seen through what slow ones have: no ``encodings``, ``is_fast`` False."""

        is_fast = False
        model_input_names = tokenizer.model_input_names

        def __call__(self, *arguments, **options):
            return dict(tokenizer(*arguments, **options))

    sequences = strings(["good " * 30, "good", "good " * 30]), strings(["bad", None, None])

    slow = encode(Slow(), *sequences, {"truncation": True}, limit=12)
    fast = encode(tokenizer, *sequences, {"truncation": True}, limit=12)

    assert slow.truncated.tolist() == fast.truncated.tolist() == [True, False, True]
    assert lists_of(slow) == lists_of(fast)


def test_a_prompt_keeps_its_end(tokenizer):
    encoded = encode(tokenizer, strings(["the film was good", "good"]), None, {"add_special_tokens": False}, limit=None)

    cut = encoded.keep_last(np.array([2, encoded.lengths[1]]))

    first, second = encoded.columns["input_ids"].lists()
    assert cut.columns["input_ids"].lists() == [first[-2:], second]
    assert cut.lengths.tolist() == [2, len(second)]
    assert cut.truncated.tolist() == [True, False]


WINDOWS = {"truncation": "only_second", "max_length": 16, "stride": 3, "return_overflowing_tokens": True}


def test_a_long_text_becomes_several_sequences_next_to_each_other(tokenizer):
    questions, contexts = ["good?", "bad?", "good?"], ["it", "the film was good and the music better", "a dull plot"]

    encoded = encode(tokenizer, strings(questions), strings(contexts), WINDOWS, limit=None, facts=frozenset(TokenFact))

    alone = [tokenizer(question, context, **WINDOWS) for question, context in zip(questions, contexts, strict=True)]
    assert encoded.columns["input_ids"].lists() == [ids for each in alone for ids in each["input_ids"]]
    assert encoded.text.tolist() == [text for text, each in enumerate(alone) for _ in each["input_ids"]]
    assert max(np.bincount(encoded.text)) > 1
    assert not encoded.truncated.any()
    words = [-1 if word is None else word for each in alone for one in each.encodings for word in one.word_ids]
    assert encoded.facts[TokenFact.WORD].values.tolist() == words
    assert encoded.facts[TokenFact.CHARACTERS].lengths.tolist() == encoded.lengths.tolist()


def test_a_text_that_cannot_be_encoded_fails_alone(tokenizer):
    questions = ["good?", "the film was good and the music better than anything", None, "bad?"]
    contexts = ["the film was good and the music better"] * 3 + [None]

    encoded = encode(tokenizer, strings(questions).fill_null("a"), strings(contexts), WINDOWS, limit=None)

    assert list(encoded.failed) == [1]
    assert "too short" in encoded.failed[1]
    assert sorted(set(encoded.text.tolist())) == [0, 2, 3]


def test_a_tokenizer_that_cannot_work_at_all_blames_no_text(tokenizer):
    with pytest.raises(InferenceError, match="even the shortest text"):
        encode(
            tokenizer, strings(["good", "bad"]), None, {"truncation": True, "max_length": 4, "stride": 9}, limit=None
        )


@pytest.mark.parametrize(("says", "positions", "limit"), [(64, 32, 32), (10**30, 512, 512), (10**30, None, None)])
def test_the_lesser_limit_holds(tokenizer, says, positions, limit):
    class Says:
        model_max_length = says

    assert token_limit(Says(), positions) == limit


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.lists(st.lists(st.integers(1, 90), max_size=9), min_size=1, max_size=6), st.sampled_from(["left", "right"]))
def test_padding_loses_nothing_and_the_mask_says_where(tokenizer, sequences, side):
    import torch

    padding = {"input_ids": tokenizer.pad_token_id}
    inputs = padded({"input_ids": Ragged.of_lists(sequences)}, padding, torch.device("cpu"), side=side)

    rows = zip(inputs["input_ids"].tolist(), inputs["attention_mask"].tolist(), sequences, strict=True)
    for ids, mask, sequence in rows:
        assert [token for token, holds in zip(ids, mask, strict=True) if holds] == sequence
        assert all(token == tokenizer.pad_token_id for token, holds in zip(ids, mask, strict=True) if not holds)
        assert mask == sorted(mask, reverse=side == "right")
