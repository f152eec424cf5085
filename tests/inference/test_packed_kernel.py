"""
What torch's kernel for sequences of all lengths is handed, and where it is chosen.

It runs on CUDA alone: here its op gets another body, written for clearness, behind torch's own function, which still
reads the arguments. The kernel itself is tried in ``tests/gpu``.
"""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_hfreg.inference.frameworks import torch, transformers
from airflow_provider_hfreg.inference.packed import CUT, Way, attend, cut_of, find_kernel, find_way, has_kernel

needs_the_interface = pytest.mark.skipif(
    transformers.__version__.startswith("4."), reason="transformers 4 lets no encoder be packed"
)


@functools.cache
def with_a_body():
    """Let torch's op run on the processor, sequence by sequence; whatever it must not be handed is refused."""
    find_kernel()  # which defines the op

    @torch.library.register_kernel("torch_attn::_varlen_attn", "cpu")
    def body(q, k, v, cu_q, cu_k, max_q, max_k, is_causal=False, scale=None, window=None, gqa=False, *more, **others):
        for states in (q, k, v):
            assert (states.dim(), states.stride(-1), len(states)) == (3, 1, int(cu_q[-1]))
        for starts in (cu_q, cu_k):
            assert (starts.dtype, starts.device, starts.is_contiguous()) == (torch.int32, q.device, True)
        lengths = cu_q.diff()
        assert torch.equal(cu_q, cu_k)
        assert (int(cu_q[0]), int(lengths.min()) > 0, max_q, max_k) == (0, True, int(lengths.max()), int(lengths.max()))
        assert (is_causal, gqa, list(window or (-1, -1))) == (False, False, [-1, -1])
        assert all(each is None for each in (*more, *others.values()))
        attended = torch.empty_like(q)
        for start, end in zip(cu_q[:-1].tolist(), cu_q[1:].tolist(), strict=True):
            one, other, third = (states[start:end].transpose(0, 1).float() for states in (q, k, v))
            weights = (one @ other.transpose(1, 2) * (q.shape[-1] ** -0.5 if scale is None else scale)).softmax(dim=-1)
            attended[start:end] = (weights @ third).transpose(0, 1).to(q.dtype)
        return attended, q.new_zeros(q.shape[1], len(q)), torch.zeros(2, dtype=torch.uint64)


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=7),
    scaling=st.none() | st.floats(0.1, 2.0),
    seed=st.integers(0, 99),
)
def test_the_kernel_gives_what_run_by_run_attention_gives(lengths, scaling, seed):
    with_a_body()
    draw = torch.Generator().manual_seed(seed)
    heads = torch.randn(3, 1, sum(lengths), 2, 8, generator=draw).transpose(2, 3)  # as a network hands them on
    cut = {way: cut_of(np.array(lengths), way, torch.device("cpu")) for way in Way}

    (found, _), (expected, _) = (
        attend(None, *heads, None, scaling=scaling, **{CUT: cut[way]}) for way in (Way.KERNEL, Way.RUNS)
    )

    assert found.shape == expected.shape == (1, sum(lengths), 2, 8)
    assert (found - expected).abs().max() <= 1e-5


@needs_the_interface
@pytest.mark.parametrize("task", ["fill-mask", "feature-extraction", "text-classification", "token-classification"])
@pytest.mark.parametrize("architecture", ["albert", "bert", "distilbert", "electra", "roberta"])
def test_every_packed_network_runs_through_the_kernel(task, architecture, tmp_path, monkeypatch):
    """As fitting does it on a GPU: the same candidates, compared in the same way."""
    from airflow_provider_hfreg.inference import fitting
    from airflow_provider_hfreg.inference.engine import Engine
    from airflow_provider_hfreg.inference.loading import load_pipeline
    from airflow_provider_hfreg.pipelines.folder import describe_folder
    from tests.gpu.tasks import MAKERS, assert_same, window

    with_a_body()
    folder = MAKERS[task](tmp_path, architecture=architecture)
    spec = describe_folder(folder, task)
    alone = Engine(load_pipeline(folder, spec, device="cpu"), token_budget=1)
    monkeypatch.setattr(fitting, "_way", lambda _loaded: Way.KERNEL)
    loaded = fitting.fitted(load_pipeline(folder, spec, device="cpu"), prepacks=lambda _: False)

    assert (loaded.layout.packed, loaded.layout.way) == (True, Way.KERNEL)
    rows = window(task, loaded.tokenizer)
    assert_same(Engine(loaded).run(rows), alone.run(rows))


@needs_the_interface
def test_a_kernel_that_fails_or_differs_leaves_the_network_padded_and_the_log_says_so(tmp_path, monkeypatch, caplog):
    from airflow_provider_hfreg.inference import fitting, packed
    from airflow_provider_hfreg.inference.loading import load_pipeline
    from airflow_provider_hfreg.pipelines.folder import describe_folder
    from airflow_provider_hfreg.testing.encoder_models import sequence_classifier

    folder = sequence_classifier(tmp_path)
    spec = describe_folder(folder, "text-classification")
    monkeypatch.setattr(fitting, "_way", lambda _loaded: Way.KERNEL)

    def fails(*_, **__):
        raise RuntimeError("no such kernel")

    for kernel, said in ((fails, "no such kernel"), (lambda q, *_, **__: q, "differs by"), (None, "has no attention")):
        caplog.clear()
        monkeypatch.setattr(packed, "find_kernel", lambda kernel=kernel: kernel)
        loaded = fitting.fitted(load_pipeline(folder, spec, device="cpu"), prepacks=lambda _: False)
        assert not loaded.layout.packed
        assert loaded.network.config._attn_implementation == "sdpa"
        assert said in caplog.text


@pytest.mark.parametrize(
    ("device", "dtype", "head_size", "there", "way"),
    [
        ("cpu", torch.float32, 64, True, Way.RUNS),
        ("cpu", torch.bfloat16, 12, False, Way.RUNS),
        ("cuda", torch.bfloat16, 64, True, Way.KERNEL),
        ("cuda", torch.float16, 256, True, Way.KERNEL),
        ("cuda", torch.float16, 64, False, None),
        ("cuda", torch.float16, 12, True, None),
        ("cuda", torch.float16, 264, True, None),
        ("cuda", torch.float32, 64, True, None),
        ("mps", torch.float16, 64, True, None),
    ],
)
def test_which_way_is_tried_where(device, dtype, head_size, there, way):
    assert find_way(device, dtype, head_size, has_kernel=there) is way


def test_there_is_no_kernel_for_the_processor():
    assert not has_kernel(torch.device("cpu"))
    assert find_kernel() is not None  # of the torch that is tested; else nothing above tries it
