import itertools

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_hfreg.inference.batching import cut_batches, distinct_sequences

lengths_of_sequences = st.lists(st.integers(0, 600), max_size=80).map(lambda lengths: np.array(lengths, np.int64))
maybe_text = st.none() | st.text(max_size=3)


@given(lengths_of_sequences, st.integers(1, 2000), st.integers(0, 50), st.sampled_from(["", "equal_lengths", "packed"]))
def test_every_sequence_stands_in_exactly_one_batch(lengths, budget, new_tokens, way):
    batches = cut_batches(lengths, token_budget=budget, new_tokens=new_tokens, **({way: True} if way else {}))

    assert sorted(position for batch in batches for position in batch.tolist()) == list(range(len(lengths)))


@given(lengths_of_sequences, st.integers(1, 2000), st.integers(0, 50))
def test_a_batch_of_several_keeps_the_budget(lengths, budget, new_tokens):
    for batch in cut_batches(lengths, token_budget=budget, new_tokens=new_tokens):
        assert len(batch) == 1 or (lengths[batch].max() + new_tokens) * len(batch) <= budget


@given(lengths_of_sequences, st.integers(1, 2000))
def test_a_packed_batch_holds_as_many_tokens_as_fit_and_no_more(lengths, budget):
    batches = cut_batches(lengths, token_budget=budget, packed=True)

    for batch, following in itertools.zip_longest(batches, batches[1:], fillvalue=None):
        assert len(batch) == 1 or lengths[batch].sum() <= budget
        assert following is None or lengths[batch].sum() + lengths[following[0]] > budget


@given(lengths_of_sequences, st.integers(1, 2000))
def test_equal_lengths_means_no_padding_at_all(lengths, budget):
    for batch in cut_batches(lengths, token_budget=budget, equal_lengths=True):
        assert len(set(lengths[batch].tolist())) == 1


@given(lengths_of_sequences, st.integers(1, 5000), st.integers(0, 100))
def test_a_sequence_that_would_be_padded_by_more_begins_a_batch(lengths, budget, most):
    batches = cut_batches(lengths, token_budget=budget, most_padding=most)

    assert sorted(position for batch in batches for position in batch.tolist()) == list(range(len(lengths)))
    for batch, following in itertools.zip_longest(batches, batches[1:], fillvalue=None):
        longest = lengths[batch].max()
        assert longest - lengths[batch].min() <= most
        if following is not None:  # it is too short, or there is no room for it
            assert longest - lengths[following[0]] > most or max(longest, 1) * (len(batch) + 1) > budget


@given(lengths_of_sequences)
def test_the_longest_run_first(lengths):
    longest = [int(lengths[batch].max()) for batch in cut_batches(lengths, token_budget=64)]

    assert longest == sorted(longest, reverse=True)


@given(st.lists(st.tuples(st.text(max_size=2), maybe_text), max_size=60))
def test_sequences_are_run_once_if_and_only_if_text_and_pair_are_equal(sequences):
    text = pa.array([text for text, _ in sequences], pa.string())
    pair = pa.array([pair for _, pair in sequences], pa.string())

    first, which = distinct_sequences(text, pair)

    assert [sequences[place] for place in first] == list(dict.fromkeys(sequences))
    assert [sequences[first[place]] for place in which] == sequences
