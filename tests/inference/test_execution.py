import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_hfreg.errors import DeviceMemoryError, InferenceError, RunCancelledError
from airflow_provider_hfreg.inference.batching import cut_batches
from airflow_provider_hfreg.inference.execution import Executor


class Device:
    """A device of so many places, on which some sequences always fail."""

    def __init__(self, *, places=10**9, bad=frozenset(), broken=False):
        self.places, self.bad, self.broken = places, bad, broken
        self.done = []

    def forward(self, batch):
        if len(batch) > self.places:
            raise MemoryError("no room")
        if self.broken or self.bad & set(batch.tolist()):
            raise ValueError("cannot run this")
        self.done += batch.tolist()

    def prove(self):
        if self.broken:
            raise ValueError("cannot run anything")

    def run(self, count, *, budget, executor=None, cancelled=lambda: False):
        executor = executor or new_executor(budget)
        return executor.run(
            np.arange(count),
            cut=lambda positions, tokens: [
                positions[batch] for batch in cut_batches(np.ones(len(positions), np.int64), token_budget=tokens)
            ],
            forward=self.forward,
            prove=self.prove,
            cancelled=cancelled,
        )


def new_executor(budget):
    return Executor(
        budget,
        is_out_of_memory=lambda error: isinstance(error, MemoryError),
        is_fatal=lambda error: "lost" in str(error),
    )


@given(st.integers(0, 60), st.integers(1, 64), st.sets(st.integers(0, 59)), st.integers(1, 64))
def test_every_sequence_is_run_once_or_blamed_once(count, budget, bad, places):
    device = Device(bad=frozenset(bad), places=places)

    failed = device.run(count, budget=budget)

    assert sorted([*device.done, *failed]) == list(range(count))
    assert set(failed) == {position for position in bad if position < count}


def test_a_budget_that_had_to_shrink_stays_small():
    device, executor = Device(places=5), new_executor(40)

    device.run(40, budget=40, executor=executor)

    assert executor.token_budget == 5
    assert sorted(device.done) == list(range(40))


def test_a_batch_that_was_smaller_than_its_budget_is_cut_and_not_tried_again_as_it_is():
    device, executor, tried = Device(places=2), new_executor(65_536), []
    forward = device.forward
    device.forward = lambda batch: (tried.append(len(batch)), forward(batch))

    device.run(8, budget=65_536, executor=executor)

    assert tried == [8, 4, 2, 2, 4, 2, 2]
    assert executor.token_budget == 65_536 // 2**3  # halved once each time, whatever the batch was


def test_a_batch_that_no_budget_cuts_is_halved():
    """Where rows take turns, a batch holds several budgets' worth of them."""
    device, executor = Device(places=1), new_executor(4)

    executor.run(
        np.arange(10),
        cut=lambda positions, _: [positions[start : start + 4] for start in range(0, len(positions), 4)],
        forward=device.forward,
        prove=device.prove,
        cancelled=lambda: False,
    )

    assert sorted(device.done) == list(range(10))


def test_one_sequence_too_large_for_the_device_is_an_error_that_a_retry_may_cure():
    with pytest.raises(DeviceMemoryError, match="single sequence") as caught:
        Device(places=0).run(4, budget=4)

    assert caught.value.retryable


def test_a_model_that_cannot_run_at_all_does_not_blame_the_rows():
    with pytest.raises(InferenceError, match="No row is at fault"):
        Device(broken=True).run(100, budget=10)


def test_a_row_is_blamed_even_where_it_is_the_only_one():
    assert Device(bad=frozenset({0})).run(1, budget=10) == {0: "ValueError: cannot run this"}


def test_a_lost_device_stops_everything():
    device = Device()
    device.forward = lambda _: (_ for _ in ()).throw(RuntimeError("CUDA context lost"))

    with pytest.raises(InferenceError, match="answers nothing any more"):
        device.run(3, budget=1)


def test_it_stops_between_batches_when_asked():
    device = Device()

    with pytest.raises(RunCancelledError):
        device.run(10, budget=2, cancelled=lambda: len(device.done) >= 4)

    assert device.done == [0, 1, 2, 3]
