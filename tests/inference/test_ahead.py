"""The next batch is arranged while the device computes one, and nothing of it is left where it does not run."""

import contextlib
import gc
import weakref

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_hfreg.errors import RunCancelledError
from airflow_provider_hfreg.inference.frameworks import torch


class Events(list):
    """What happened, in its order; a stand-in for the stream that copies, and for whoever watches a network."""

    def __init__(self):
        super().__init__()
        self.arranged, self.handed = [], []
        self.beside = False

    @contextlib.contextmanager
    def entered(self):
        self.beside = True
        try:
            yield
        finally:
            self.beside = False

    def hand_over(self, arranged):
        self.handed.append(arranged)
        self.append(f"hand over {size(arranged)}")

    def arranging(self, arranged):
        self.arranged.append(weakref.ref(arranged.inputs["input_ids"]))
        self.append(f"arrange {size(arranged)}{' beside' if self.beside else ''}")


def size(arranged):
    return len(arranged.lengths)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    from airflow_provider_hfreg.inference.fitting import fitted
    from airflow_provider_hfreg.inference.loading import load_pipeline
    from airflow_provider_hfreg.pipelines.folder import describe_folder
    from airflow_provider_hfreg.testing.encoder_models import sequence_classifier

    folder = sequence_classifier(tmp_path_factory.mktemp("classifier"))
    return fitted(load_pipeline(folder, describe_folder(folder, "text-classification"), device="cpu"))


@pytest.fixture
def events(monkeypatch):
    """Let engines look ahead as on a GPU, and tell what they do."""
    from airflow_provider_hfreg.inference import engine
    from airflow_provider_hfreg.inference.single_pass import SinglePass

    happened = Events()
    monkeypatch.setattr(engine, "side_stream", lambda _device: happened)
    arrange, read = SinglePass.arrange, SinglePass.run

    def arranging(forwarder, batch):
        arranged = arrange(forwarder, batch)
        happened.arranging(arranged)
        return arranged

    def running(forwarder, batch):
        outputs = read(forwarder, batch)
        happened.append(f"read {len(batch.streams)}")
        return outputs

    monkeypatch.setattr(SinglePass, "arrange", arranging)
    monkeypatch.setattr(SinglePass, "run", running)
    return happened


@pytest.fixture
def launching(loaded, events):
    """Tell of each forward, and let ``launching.fails`` raise in its place."""
    network, watch = loaded.network, Events()
    watch.fails = lambda tokens: None

    def launch(_module, _args, given):
        events.append("launch")
        watch.fails(given["input_ids"].numel())

    hook = network.register_forward_pre_hook(launch, with_kwargs=True)
    yield watch
    hook.remove()


def window(texts):
    return pa.record_batch({"text": pa.array(texts, pa.string()), "text_pair": pa.nulls(len(texts), pa.string())})


def texts_of(count, words=4):
    return [f"{number} " + "good " * words for number in range(count)]


def by_twos(loaded):
    """Return an engine whose batches hold two of those texts."""
    from airflow_provider_hfreg.inference.engine import Engine

    longest = max(len(ids) for ids in loaded.tokenizer(texts_of(8))["input_ids"])
    return Engine(loaded, token_budget=2 * longest)


def test_the_next_batch_is_arranged_between_the_launch_of_one_and_its_reading(loaded, events, launching):
    result = by_twos(loaded).run(window(texts_of(6)))

    assert len(result.row) == 6
    assert events == [
        "arrange 2",
        "launch",
        "arrange 2 beside",
        "read 2",
        "hand over 2",
        "launch",
        "arrange 2 beside",
        "read 2",
        "hand over 2",
        "launch",
        "read 2",
    ]


def test_on_the_processor_nothing_is_arranged_ahead():
    from airflow_provider_hfreg.inference.ahead import side_stream

    assert side_stream(torch.device("cpu")) is None


def test_a_gpus_stream_waits_for_the_copy_and_keeps_every_tensor_of_it(loaded):
    """CUDA's streams are stood in for: which of them is told what."""
    from unittest import mock

    from airflow_provider_hfreg.inference.ahead import side_stream
    from airflow_provider_hfreg.inference.arrangement import Arranged
    from airflow_provider_hfreg.inference.packed import CUT, Cut

    copies, computes, recorded = mock.Mock(), mock.Mock(), []
    ids, places, starts = torch.ones(1, 3), torch.arange(3), torch.arange(2)
    arranged = Arranged({"input_ids": ids, CUT: Cut((), starts, 3)}, torch.tensor([3]).numpy(), places)
    with (
        mock.patch.object(torch.cuda, "Stream", return_value=copies),
        mock.patch.object(torch.cuda, "stream") as entering,
        mock.patch.object(torch.cuda, "current_stream", return_value=computes),
        mock.patch.object(torch.Tensor, "record_stream", lambda *told: recorded.append(told)),
    ):
        stream = side_stream(torch.device("cuda"))
        with stream.entered():
            entering.assert_called_once_with(copies)
        stream.hand_over(arranged)

    computes.wait_stream.assert_called_once_with(copies)
    assert {id(tensor) for tensor, _ in recorded} == {id(ids), id(places), id(starts)}
    assert {by for _, by in recorded} == {computes}


def test_a_gpu_is_copied_to_from_pinned_memory_without_waiting(monkeypatch):
    import numpy as np

    from airflow_provider_hfreg.inference.transfer import to_device

    told = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: told.append("pinned") or tensor)
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *where, **how: told.append((where, how)) or tensor)
    to_device(np.arange(3), torch.device("cuda:1"))
    to_device(np.arange(3), torch.device("cpu"))
    assert told == ["pinned", ((torch.device("cuda:1"),), {"non_blocking": True}), ((torch.device("cpu"),), {})]


@given(data=st.data())
def test_what_is_arranged_ahead_gives_what_is_arranged_in_its_turn(data, loaded_and_streams):
    from airflow_provider_hfreg.inference.engine import Engine

    loaded, looks_ahead = loaded_and_streams
    some = data.draw(st.lists(st.text(max_size=30), min_size=1, max_size=20))
    budget = data.draw(st.integers(1, 120))
    plain = Engine(loaded, token_budget=budget).run(window(some))
    with looks_ahead():
        result = Engine(loaded, token_budget=budget).run(window(some))
    assert result.outputs.equals(plain.outputs)
    assert (result.errors, result.tokens, result.padded_tokens) == (plain.errors, plain.tokens, plain.padded_tokens)


@pytest.fixture(scope="module")
def loaded_and_streams(loaded):
    from unittest import mock

    def looks_ahead():
        return mock.patch("airflow_provider_hfreg.inference.engine.side_stream", side_effect=lambda _device: Events())

    return loaded, looks_ahead


def test_out_of_memory_cuts_what_is_left_anew_and_lets_go_of_what_was_ahead(loaded, events, launching):
    engine, failed = by_twos(loaded), []

    def fails(tokens):
        if len(failed) < 1 and events.count("launch") == 2:
            failed.append(tokens)
            raise torch.OutOfMemoryError("no room")

    launching.fails = fails
    result = engine.run(window(texts_of(8)))

    assert (len(result.row), result.errors, len(failed)) == (8, (), 1)
    assert [event for event in events if event.startswith("read")] == ["read 2", *["read 1"] * 6]
    assert_nothing_is_held(events)


def test_a_failure_after_the_launch_is_its_own_batchs_and_what_was_ahead_runs_in_its_turn(loaded, events, monkeypatch):
    """As CUDA tells of most failures: not at the launch, but when somebody reads."""
    from airflow_provider_hfreg.inference import single_pass

    read, reads = single_pass.to_numpy, []

    def fails(tensor):
        reads.append(len(tensor))
        if len(reads) in (1, 2):  # the first batch, and the first half of it
            raise ValueError("cannot read this")
        return read(tensor)

    monkeypatch.setattr(single_pass, "to_numpy", fails)
    engine = by_twos(loaded)
    engine._executor.proven = True

    result = engine.run(window(texts_of(6)))

    assert (len(result.row), len(result.errors)) == (5, 1)
    assert reads == [2, 1, 1, 2, 2]
    assert_nothing_is_held(events)


def test_who_cancels_leaves_nothing_that_was_arranged(loaded, events, launching):
    with pytest.raises(RunCancelledError) as caught:
        by_twos(loaded).run(window(texts_of(8)), cancelled=lambda: events.count("launch") >= 2)

    assert events[-2:] == ["arrange 2 beside", "read 2"]
    assert_nothing_is_held(events)
    assert caught.tb  # whoever keeps the error keeps its frames


def test_a_batch_that_cannot_be_arranged_fails_in_its_turn_and_the_present_one_runs_on(loaded, events, monkeypatch):
    from airflow_provider_hfreg.inference.single_pass import SinglePass

    arrange = SinglePass.arrange

    def fails(forwarder, batch):
        if batch.columns["input_ids"].lengths.max() < 6:
            events.append(f"cannot{' beside' if events.beside else ''}")
            raise ValueError("not this one")
        return arrange(forwarder, batch)

    monkeypatch.setattr(SinglePass, "arrange", fails)
    result = by_twos(loaded).run(window([*texts_of(2), "a"]))

    assert ["read 2" in events, [error.row for error in result.errors]] == [True, [2]]
    assert [event for event in events if event.startswith("cannot")] == ["cannot beside", "cannot"]


def assert_nothing_is_held(events):
    events.handed.clear()
    gc.collect()
    assert [each() for each in events.arranged] == [None] * len(events.arranged)
