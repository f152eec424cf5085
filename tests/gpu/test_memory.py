"""Memory that runs out, that is free, and that is copied to, on a device that has its own."""

import contextlib

import numpy as np
import pytest

from .tasks import assert_same, window

TEXTS = [f"{number} the film was good and the music better" for number in range(2000)]


@contextlib.contextmanager
def refusing(network, tokens):
    """Let a network say that memory has run out, of more padded tokens than so many."""
    from airflow_provider_hfreg.inference.frameworks import torch

    def refuse(_module, _args, given):
        if given["input_ids"].numel() > tokens:
            raise torch.OutOfMemoryError(f"{given['input_ids'].numel()} tokens do not fit")

    hook = network.register_forward_pre_hook(refuse, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


@pytest.fixture
def scarce(device):
    """Bound what a forward may take, in padded tokens: on CUDA by the device's memory, else by the network's word."""
    from airflow_provider_hfreg.inference.frameworks import torch

    @contextlib.contextmanager
    def bound(network, tokens, width=64):
        if device == "cuda":
            torch.cuda.empty_cache()
            total = torch.cuda.mem_get_info()[1]
            # A network of two layers holds some ten tensors of this width while it runs.
            torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 10 * tokens * width * 4) / total)
            try:
                yield
            finally:
                torch.cuda.set_per_process_memory_fraction(1.0)
            return
        with refusing(network, tokens):
            yield

    return bound


@pytest.mark.parametrize(("task", "architecture"), [("text-classification", "bert"), ("text-classification", "mpnet")])
def test_a_batch_for_which_memory_is_too_small_is_halved_until_it_fits(task, architecture, device, load, scarce):
    from airflow_provider_hfreg.inference.engine import Engine

    loaded = load(device, task, architecture)
    rows = window(task, loaded.tokenizer, TEXTS)
    few, many = Engine(loaded, token_budget=1024), Engine(loaded, token_budget=2**17)
    expected = few.run(rows)

    with scarce(loaded.network, 4096):
        result = many.run(rows)

    assert many.token_budget < 2**17
    assert_same(result, expected)
    assert_same(many.run(rows), expected)  # at once, by the smaller budget


def test_a_single_text_for_which_memory_is_too_small_is_told(device, load):
    from airflow_provider_hfreg.errors import DeviceMemoryError
    from airflow_provider_hfreg.inference.engine import Engine

    loaded = load(device, "text-classification")
    rows = window("text-classification", loaded.tokenizer, [TEXTS[0] * 20])
    with refusing(loaded.network, 0), pytest.raises(DeviceMemoryError, match="single sequence"):
        Engine(loaded).run(rows)


@pytest.mark.gpu
def test_the_free_memory_of_a_device_is_its_own(cuda):
    from airflow_provider_hfreg.inference.devices import free_memory_bytes
    from airflow_provider_hfreg.inference.frameworks import torch

    before = free_memory_bytes(cuda)
    held = torch.ones(2**26, device=cuda)  # 256 MiB
    assert 0 < free_memory_bytes(f"{cuda}:0") <= before - held.nbytes // 2
    assert before <= torch.cuda.mem_get_info()[1]


@pytest.mark.parametrize("values", [np.arange(6), np.ones((2, 3), np.float64), np.zeros((0, 4), np.int32)])
def test_what_is_copied_to_a_device_is_what_it_was(values, device):
    from airflow_provider_hfreg.inference.frameworks import torch
    from airflow_provider_hfreg.inference.transfer import to_device

    there = to_device(values, torch.device(device))

    assert there.device.type == torch.device(device).type
    assert there.cpu().numpy().dtype == values.dtype
    assert there.cpu().numpy().tolist() == values.tolist()
