"""Prepacked layers: the same numbers, put back whole, and never in the place of what is shared."""

import pytest


@pytest.fixture
def network(tmp_path):
    from airflow_provider_hfreg.inference.frameworks import transformers
    from airflow_provider_hfreg.testing.encoder_models import masked_language_model

    return transformers.AutoModelForMaskedLM.from_pretrained(masked_language_model(tmp_path / "bert")).eval()


def logits(network):
    from airflow_provider_hfreg.inference.frameworks import torch

    with torch.inference_mode():
        return network(torch.arange(12).reshape(2, 6)).logits


def test_numbers_are_the_same_and_all_is_put_back(network):
    from airflow_provider_hfreg.inference.frameworks import torch
    from airflow_provider_hfreg.inference.prepacked import PrepackedLinear, prepack

    modules, before = list(network.modules()), logits(network)

    back = prepack(network)

    replaced = [module for module in network.modules() if isinstance(module, PrepackedLinear)]
    assert len(replaced) == 2 * 6 + 1  # of two layers, and the head's own
    assert (logits(network) - before).abs().max() <= 1e-5

    back()

    assert list(network.modules()) == modules
    assert torch.equal(logits(network), before)


def test_a_weight_shared_with_the_embeddings_stays(network):
    from airflow_provider_hfreg.inference.prepacked import linear_layers

    assert network.cls.predictions.decoder.weight is network.bert.embeddings.word_embeddings.weight
    assert "cls.predictions.decoder" not in linear_layers(network)


def test_layers_that_one_module_is_many_times_are_replaced_everywhere(tmp_path):
    from airflow_provider_hfreg.inference.frameworks import torch
    from airflow_provider_hfreg.inference.prepacked import prepack

    layer = torch.nn.Linear(4, 4)
    network = torch.nn.Sequential(layer, torch.nn.ReLU(), layer)
    states = torch.ones(3, 4)
    with torch.inference_mode():
        before = network(states)
        prepack(network)
        assert network[0] is network[2] is not layer
        assert (network(states) - before).abs().max() <= 1e-6


@pytest.mark.parametrize("shape", [(0, 4), (5, 4), (2, 3, 4), (0, 1, 4)])
@pytest.mark.parametrize("bias", [True, False])
def test_any_shape_goes_through(shape, bias):
    from airflow_provider_hfreg.inference.frameworks import torch
    from airflow_provider_hfreg.inference.prepacked import PrepackedLinear

    layer = torch.nn.Linear(4, 6, bias=bias)
    states = torch.ones(shape)
    with torch.inference_mode():
        found, expected = PrepackedLinear(layer)(states), layer(states)
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, atol=1e-6)


def test_what_cannot_be_prepacked_is_not_worth_it():
    from airflow_provider_hfreg.inference.frameworks import torch
    from airflow_provider_hfreg.inference.prepacked import is_worth_it, linear_layers

    network = torch.nn.Sequential(torch.nn.Linear(4, 4)).to(torch.bfloat16)
    assert linear_layers(network) == {}
    assert is_worth_it(network) is False
