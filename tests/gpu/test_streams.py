"""What was copied on a stream of its own is whole when it is read: many small batches, some packed, some padded."""

import pytest

from .tasks import assert_same, window

TEXTS = [f"{number} the film was good " + "and better " * (number % 17) for number in range(100)]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("task", "architecture"), [("fill-mask", "bert"), ("token-classification", "distilbert")])
def test_batches_that_were_arranged_ahead_are_whole(task, architecture, dtype, cuda, load):
    from airflow_provider_hfreg.inference.engine import Engine

    loaded = load(cuda, task, architecture, dtype=dtype)
    rows = window(task, loaded.tokenizer, TEXTS)
    in_turn, ahead = Engine(loaded, token_budget=256), Engine(loaded, token_budget=256)
    in_turn._stream = None
    assert ahead._stream is not None

    expected = in_turn.run(rows)

    for _ in range(2):
        assert_same(ahead.run(rows), expected, within=0.0 if dtype == "float32" else 1e-2)
