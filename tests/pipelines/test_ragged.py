"""Sequences of different lengths in one flat array, against plain lists."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_hfreg.pipelines.ragged import Ragged

lists_of_numbers = st.lists(st.lists(st.integers(-9, 9), max_size=4), max_size=6)


def as_lists(ragged):
    return [values.tolist() for values in np.split(ragged.values, ragged.offsets[1:-1])] if len(ragged) else []


@given(lists_of_numbers)
def test_lists_come_back(lists):
    ragged = Ragged.of_lists(lists)
    assert as_lists(ragged) == lists
    assert ragged.lengths.tolist() == [len(values) for values in lists]
    assert ragged.sequence.tolist() == [index for index, values in enumerate(lists) for _ in values]
    assert ragged.place.tolist() == [place for values in lists for place in range(len(values))]


@given(st.data(), lists_of_numbers)
def test_sequences_are_taken_in_any_order_and_number(data, lists):
    chosen = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=8)) if lists else []
    taken = Ragged.of_lists(lists).take(np.array(chosen, np.int64))
    assert as_lists(taken) == [lists[place] for place in chosen]


@given(lists_of_numbers)
def test_only_some_values_are_kept_and_every_sequence_stays(lists):
    ragged = Ragged.of_lists(lists)
    kept = ragged.where(ragged.values > 0)
    assert as_lists(kept) == [[value for value in values if value > 0] for values in lists]


@given(st.lists(lists_of_numbers, min_size=1, max_size=3))
def test_parts_are_joined_in_their_order(parts):
    joined = Ragged.joined(map(Ragged.of_lists, parts))
    assert as_lists(joined) == [values for lists in parts for values in lists]
