"""Torch's kernel for sequences of all lengths, on the GPU that has it."""

from dataclasses import replace

import pytest

from .tasks import assert_same, window


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("architecture", ["albert", "bert", "distilbert", "electra", "roberta"])
def test_packed_texts_give_what_padded_ones_give(architecture, dtype, cuda, load):
    from airflow_provider_hfreg.inference.arrangement import Layout
    from airflow_provider_hfreg.inference.engine import Engine
    from airflow_provider_hfreg.inference.frameworks import torch, transformers
    from airflow_provider_hfreg.inference.packed import Way, has_kernel

    if transformers.__version__.startswith("4.") or not has_kernel(torch.device(cuda)):
        pytest.skip("this transformers packs nothing, or this GPU has no such kernel")
    given = {"pooling": "mean", "normalize": True}
    packed = load(cuda, "feature-extraction", architecture, dtype=dtype, **given)
    assert (packed.layout.packed, packed.layout.way) == (True, Way.KERNEL)
    padded = Engine(replace(packed, layout=Layout()))
    rows = window("feature-extraction", packed.tokenizer)

    result = Engine(packed).run(rows)

    assert result.padded_tokens == result.tokens
    assert_same(result, padded.run(rows), within={"bfloat16": 5e-2, "float16": 5e-3}[dtype])


def test_float32_is_padded_there(device, load):
    loaded = load(device, "text-classification", "bert")
    assert (loaded.layout.packed, loaded.layout.last is not None) == (False, True)
