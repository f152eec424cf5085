"""Weights described from their headers alone."""

import json
import os
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_hfreg.errors import IntegrityError, UnsafeModelError, UnsupportedPipelineError
from airflow_provider_hfreg.pipelines.weights import describe_weights, read_header

SIZES = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8, "BOOL": 1}


def write(path, *tensors, cut=0):
    """Write a safetensors file of holes."""
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for index, (dtype, shape) in enumerate(tensors):
        begin, end = end, end + SIZES[dtype] * int(np.prod(shape))
        header[f"tensor{index}"] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    os.truncate(path, path.stat().st_size + end - cut)


shapes = st.lists(st.integers(0, 5), max_size=3)


@given(st.lists(st.tuples(st.sampled_from(list(SIZES)), shapes), max_size=5))
def test_every_element_is_counted(tmp_path_factory, tensors):
    folder = tmp_path_factory.mktemp("weights")
    write(folder / "model.safetensors", *tensors)
    weights = describe_weights(folder)
    assert weights.parameter_count == sum(int(np.prod(shape)) for _, shape in tensors)
    assert weights.size_bytes == (folder / "model.safetensors").stat().st_size


def test_the_headers_are_those_of_safetensors_own_writer(tmp_path):
    from safetensors.numpy import save_file

    save_file({"a": np.ones((2, 3), np.float16), "b": np.ones(4, np.int64)}, tmp_path / "model.safetensors")
    assert set(read_header(tmp_path / "model.safetensors")) == {"a", "b"}
    weights = describe_weights(tmp_path)
    assert (weights.dtype, weights.parameter_count) == ("float16", 10)


def test_the_dtype_is_that_of_most_floats(tmp_path):
    write(tmp_path / "model.safetensors", ("F32", [3]), ("BF16", [10]), ("I64", [100]))
    assert describe_weights(tmp_path).dtype == "bfloat16"


def test_all_files_of_an_index_count_and_no_other(tmp_path):
    for number in (1, 2):
        write(tmp_path / f"model-0000{number}-of-00002.safetensors", ("F32", [5]))
    write(tmp_path / "stray.safetensors", ("F32", [500]))
    names = {f"tensor{number}": f"model-0000{number}-of-00002.safetensors" for number in (1, 2)}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    assert describe_weights(tmp_path).parameter_count == 10
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UnsupportedPipelineError, match=r"lacks 1 of the 2 files .* model-00002-of-00002.safetensors"):
        describe_weights(tmp_path)


def test_pickles_alone_are_refused_with_the_way_out(tmp_path):
    (tmp_path / "training_args.bin").write_bytes(b"")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UnsafeModelError, match=r"pickles \(pytorch_model.bin\).*save_pretrained"):
        describe_weights(tmp_path)


def test_an_adapter_is_no_model(tmp_path):
    write(tmp_path / "adapter_model.safetensors", ("F32", [1]))
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UnsupportedPipelineError, match="merge_and_unload"):
        describe_weights(tmp_path)


def test_no_weights_are_refused_with_the_way_out(tmp_path):
    with pytest.raises(UnsupportedPipelineError, match="log_hub_model"):
        describe_weights(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 13) + b'{"a": {"b":1}',
        struct.pack("<Q", 2**60) + b"{}",
    ],
)
def test_what_is_no_safetensors_file_is_told(tmp_path, content):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(IntegrityError, match="no safetensors file"):
        describe_weights(tmp_path)


def test_a_file_cut_short_is_told(tmp_path):
    write(tmp_path / "model.safetensors", ("F32", [5]), cut=1)
    with pytest.raises(IntegrityError, match="cut short"):
        describe_weights(tmp_path)


def test_a_broken_index_is_told(tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(IntegrityError, match="weight_map"):
        describe_weights(tmp_path)
