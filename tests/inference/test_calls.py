"""Windows through a method of a pipeline object: which rows share a call, who is blamed, what is random."""

import random

import numpy as np
import pyarrow as pa
import pytest
import torch

from airflow_provider_hfreg.errors import DeviceMemoryError, ModelLoadError, RunCancelledError
from airflow_provider_hfreg.inference.calls import CallEngine
from airflow_provider_hfreg.signatures import DataType, FeatureSpec, ModelSignature, ParamSpec

NUMBER = FeatureSpec("number", DataType.INT64)
TWICE = FeatureSpec("twice", DataType.DOUBLE)


class Doubler:
    """A pipeline of plain Python that fails for 13 and remembers how it was called."""

    task = "doubling"
    device = torch.device("cpu")

    def __init__(self, places=10**9):
        self.calls = []
        self.places = places

    def __call__(self, numbers, **arguments):
        self.calls.append((numbers, arguments))
        if len(numbers) > self.places:
            raise MemoryError("no room")
        if 13 in numbers:
            raise ValueError("unlucky")
        return [number * 2 for number in numbers]

    def draw(self, numbers):
        return [float(torch.rand(1)) for _ in numbers]

    def draw_with_numpy(self, numbers):
        return [float(np.random.random()) for _ in numbers]  # noqa: NPY002  what is to be seeded

    def draw_with_python(self, numbers):
        return [random.random() for _ in numbers]

    def needs_gradients(self, numbers):
        return torch.ones(len(numbers), requires_grad=True) * torch.tensor(numbers)


def engine(pipe, method="__call__", params=()):
    return CallEngine(pipe, method, ModelSignature([NUMBER], [TWICE], params))


def window(*numbers):
    return pa.record_batch({"number": pa.array(numbers, pa.int64())})


def test_each_row_is_a_call_of_its_own_with_what_was_given():
    pipe = Doubler()
    result = engine(pipe, params=[ParamSpec("top_k", DataType.INT64)]).run(window(1, 2), {"top_k": 5})
    assert pipe.calls == [([1], {"top_k": 5}), ([2], {"top_k": 5})]
    assert (result.row.tolist(), result.outputs.column("twice").to_pylist()) == ([0, 1], [2.0, 4.0])


def test_a_default_of_the_signature_is_passed_and_none_is_not():
    pipe = Doubler()
    params = [ParamSpec("top_k", DataType.INT64), ParamSpec("language", DataType.STRING, "de")]
    engine(pipe, params=params).run(window(1))
    assert pipe.calls == [([1], {"language": "de"})]


def test_the_row_at_fault_is_found_and_the_others_of_its_batch_go_on():
    pipe = Doubler()
    batches = [ParamSpec("batch_size", DataType.INT64, 4)]
    result = engine(pipe, params=batches).run(window(1, 2, 13, 4, 5))
    assert result.row.tolist() == [0, 1, 3, 4]
    assert [(error.row, error.code, error.message) for error in result.errors] == [
        (2, "model_error", "ValueError: unlucky")
    ]
    assert [len(numbers) for numbers, _ in pipe.calls] == [4, 2, 2, 1, 1, 1]
    assert all(arguments == {"batch_size": 4} for _, arguments in pipe.calls)


def test_out_of_memory_halves_the_calls():
    pipe = Doubler(places=2)
    result = engine(pipe, params=[ParamSpec("batch_size", DataType.INT64, 8)]).run(window(*range(8)))
    assert result.errors == ()
    assert [len(numbers) for numbers, _ in pipe.calls] == [8, 4, 2, 2, 2, 2]
    with pytest.raises(DeviceMemoryError, match="single"):
        engine(Doubler(places=0)).run(window(1))


def test_a_method_that_gives_too_few_results_is_told():
    pipe = Doubler()
    pipe.first = lambda numbers: []
    (error,) = engine(pipe, "first").run(window(1)).errors
    assert "list of 1 inputs and gave a list of 0" in error.message


def state_of_numpy():
    return np.random.get_state()[1].tolist()  # noqa: NPY002  what is to be restored


@pytest.mark.parametrize(
    ("method", "state"),
    [
        ("draw", lambda: torch.get_rng_state().tolist()),
        ("draw_with_numpy", state_of_numpy),
        ("draw_with_python", random.getstate),
    ],
)
def test_random_numbers_depend_on_the_seed_and_the_row_alone(method, state):
    before = state()
    drawing = engine(Doubler(), method)
    whole = drawing.run(window(1, 2, 3), seed=7, first_row=10).outputs.column("twice").to_pylist()
    single = drawing.run(window(3), seed=7, first_row=np.array([12])).outputs.column("twice").to_pylist()
    other = drawing.run(window(3), seed=8, first_row=12).outputs.column("twice").to_pylist()
    assert whole[2:] == single != other
    assert len(set(whole)) == 3
    assert state() == before


def test_a_tensor_is_a_list_of_results_and_no_gradient_is_kept():
    assert engine(Doubler(), "needs_gradients").run(window(2)).outputs.column("twice").to_pylist() == [2.0]


def test_it_stops_between_calls():
    pipe = Doubler()
    with pytest.raises(RunCancelledError):
        engine(pipe).run(window(1, 2), cancelled=lambda: bool(pipe.calls))
    assert len(pipe.calls) == 1


def test_no_row_gives_empty_columns():
    result = engine(Doubler()).run(window())
    assert (result.outputs.num_rows, result.outputs.schema.names) == (0, ["twice"])


def test_a_method_that_is_gone_is_told_when_the_model_is_loaded():
    with pytest.raises(ModelLoadError, match=r"The Doubler .* for doubling has no method 'embed'"):
        engine(Doubler(), "embed")
