"""A room of keys and values holds what transformers' own cache would, whoever leaves and joins."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

PLACES, HEADS, WIDTH, LAYERS = 5, 2, 3, 2


def a_plain_cache():
    from airflow_provider_hfreg.inference.frameworks import transformers

    cache = transformers.DynamicCache()
    cache.layers = [transformers.cache_utils.DynamicLayer() for _ in range(LAYERS)]
    return cache


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_rows_join_step_and_leave_as_if_each_had_a_cache_of_its_own(data):
    from airflow_provider_hfreg.inference.decode_loop import order_without
    from airflow_provider_hfreg.inference.frameworks import torch
    from airflow_provider_hfreg.inference.growing_cache import Room, cache_of

    longest = data.draw(st.integers(1, 9))
    room = Room(a_plain_cache(), PLACES, longest)
    cache = cache_of(room.layers)
    draw = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    rows = []  # of each that is there, all of its columns [heads, columns, width]

    def write(of_rows, new):
        """Put new columns of some rows through all layers; return what the last one shows of them."""
        for number in range(LAYERS):
            states = torch.randn(len(of_rows), HEADS, new, WIDTH, generator=draw)
            shown = cache.update(states, -states, number)
        return states, shown

    for _ in range(data.draw(st.integers(1, 40))):
        free = PLACES - len(rows)
        joining = data.draw(st.integers(0 if rows else 1, free)) if free else 0
        if joining:
            new = data.draw(st.integers(1, longest))
            room.open(slice(len(rows), len(rows) + joining), held=0, new=new)
            states, shown = write(range(joining), new)
            assert torch.equal(shown[0], states)
            rows += list(states)
        held = max(row.shape[1] for row in rows)
        for _ in range(data.draw(st.sampled_from([1, 1, 5]))):
            room.advance(slice(0, len(rows)), held=held)
            states, (keys, values) = write(rows, 1)
            rows = [torch.cat([row, new], dim=1) for row, new in zip(rows, states, strict=True)]
            held += 1
            assert keys.shape[2] == held
            for place, row in enumerate(rows):
                assert torch.equal(keys[place, :, held - row.shape[1] :], row)
                assert torch.equal(values[place, :, held - row.shape[1] :], -row)
        ended = data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
        order = order_without(ended)
        room.open(slice(0, len(rows)), held=held, new=0)
        holes = [place for place, before in enumerate(order) if place != before]
        for layer in room.layers if holes else ():
            layer.move(torch.tensor(holes), torch.tensor([order[hole] for hole in holes]))
        rows = [rows[place] for place in order]


def test_a_long_row_may_join_whenever_though_only_short_ones_were_there():
    from airflow_provider_hfreg.inference.frameworks import torch
    from airflow_provider_hfreg.inference.growing_cache import Room, cache_of

    room = Room(a_plain_cache(), PLACES, 30)
    cache = cache_of(room.layers)

    def write(new):
        states = torch.randn(1, HEADS, new, WIDTH)
        return states, [cache.update(states, states, number)[0] for number in range(LAYERS)]

    for _ in range(40):
        room.open(slice(0, 1), held=0, new=1)
        write(1)
        for held in range(1, 5):
            room.advance(slice(0, 1), held=held)
            write(1)
        room.open(slice(1, 2), held=0, new=30)
        states, shown = write(30)
        assert all(torch.equal(of_layer, states) for of_layer in shown)


@given(st.lists(st.booleans(), max_size=12))
def test_the_rows_that_stay_are_those_that_have_not_ended(ended):
    from airflow_provider_hfreg.inference.decode_loop import order_without

    order = order_without(ended)

    assert sorted(order) == [place for place, is_over in enumerate(ended) if not is_over]
    assert all(before == place or ended[place] for place, before in enumerate(order))


@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=12), budget=st.integers(1, 90))
def test_parts_hold_every_row_once_and_no_more_than_the_budget(lengths, budget):
    from airflow_provider_hfreg.inference.loop_networks import by_tokens

    parts = [lengths[part] for part in by_tokens(lengths, budget)]

    assert list(itertools.chain(*parts)) == lengths
    assert all(len(part) == 1 or max(part) * len(part) <= budget for part in parts)


def test_a_cache_that_is_not_the_plain_one_is_refused():
    from airflow_provider_hfreg.inference.frameworks import torch, transformers
    from airflow_provider_hfreg.inference.growing_cache import plain_layers

    filled = a_plain_cache()
    filled.update(torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1, 1), 0)
    windowed = a_plain_cache()
    windowed.layers[1] = transformers.cache_utils.DynamicSlidingWindowLayer(sliding_window=4)
    for cache in (None, filled, windowed, transformers.DynamicCache()):
        with pytest.raises(TypeError, match="not the plain cache"):
            plain_layers(cache)
    assert len(plain_layers(a_plain_cache())) == LAYERS
