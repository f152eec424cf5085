"""What may be stored."""

import gzip
import json
import pickle
import struct
import time
import zipfile

import numpy as np
import pytest

from airflow_provider_hfreg.errors import UnsafeModelError
from airflow_provider_hfreg.versions.safety import check_content, select_files
from airflow_provider_hfreg.versions.secrets import check_no_secret, find_secret

# Put together here, so that no file of the repository holds what looks like a token.
HUB_TOKEN = "hf" + "_" + "aB3" * 12
AWS_KEY_ID = "AKIA" + "IOSFODNN7EXAMPLE"
GITHUB_TOKEN = "gh" + "p_" + "a1B2" * 9
JSON_WEB_TOKEN = "ey" + "JhbGciOiJIUzI1NiJ9.ey" + "JzdWIiOiIxMjM0In0." + "aB3-" * 9


def select(*paths, remote_code=False):
    return select_files(paths, remote_code=remote_code, where="./out")


def test_what_from_pretrained_reads_is_stored():
    paths = (
        "1_Pooling/config.json",
        "LICENSE",
        "README.md",
        "chat_template.jinja",
        "config.json",
        "merges.txt",
        "model-00001-of-00002.safetensors",
        "model.safetensors.index.json",
        "source.spm",
        "spiece.model",
        "tokenizer.json",
        "vocab.txt",
    )
    assert select(*paths).stored == tuple(sorted(paths))


def test_leftovers_of_training_and_second_copies_of_the_weights_are_left_out():
    left = (
        ".gitattributes",
        "checkpoint-500/model.safetensors",
        "flax_model.msgpack",
        "optimizer.pt",
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
        "rng_state.pth",
        "runs/Jan01/events",
        "scheduler.pt",
        "tf_model.h5",
        "train_script.py",
        "training_args.bin",
    )
    selection = select("model.safetensors", "config.json", *left)
    assert selection.stored == ("config.json", "model.safetensors")
    assert selection.left_out == tuple(sorted(left))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pkl", "head.joblib", "weights.npy", "m.ckpt"])
def test_a_pickle_is_refused_and_the_message_tells_how_to_save_it(name):
    with pytest.raises(UnsafeModelError, match=rf"\./out holds {name}.*save_pretrained"):
        select("config.json", name)


def test_a_pickle_beside_safetensors_that_is_no_second_copy_of_the_weights_is_refused():
    with pytest.raises(UnsafeModelError, match=r"label_encoder\.pkl"):
        select("model.safetensors", "label_encoder.pkl")


def test_python_code_needs_consent():
    with pytest.raises(UnsafeModelError, match="trust_remote_code=True"):
        select("modeling_own.py")
    assert select("modeling_own.py", remote_code=True).stored == ("modeling_own.py",)


@pytest.mark.parametrize("name", ["setup.sh", "lib.so", "archive.zip", "Makefile", "model.exe"])
def test_what_the_list_does_not_name_is_refused(name):
    with pytest.raises(UnsafeModelError, match="Move it elsewhere"):
        select(name)


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content)
    return path


def pickled(tmp_path, protocol):
    return write(tmp_path, "config.json", pickle.dumps({"a": 1}, protocol=protocol))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_with_an_innocent_name_is_refused(tmp_path, protocol):
    with pytest.raises(UnsafeModelError, match="by its content a pickle"):
        check_content("config.json", pickled(tmp_path, protocol), remote_code=False)


def test_a_pickle_of_the_oldest_protocol_is_no_json(tmp_path):
    with pytest.raises(UnsafeModelError, match="not JSON"):
        check_content("config.json", pickled(tmp_path, 0), remote_code=False)


def test_archives_and_compressed_pickles_with_a_tokenizers_name_are_refused(tmp_path):
    zipped, compressed, array = tmp_path / "a.model", tmp_path / "b.model", tmp_path / "c.model"
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("data.pkl", b"x")
    compressed.write_bytes(gzip.compress(pickle.dumps({"a": 1})))  # as joblib does
    with array.open("wb") as file:
        np.save(file, np.array([object()], dtype=object))
    for path in (zipped, compressed, array):
        with pytest.raises(UnsafeModelError, match="by its content"):
            check_content(path.name, path, remote_code=False)


def test_a_real_safetensors_file_passes_and_a_pointer_of_git_does_not(tmp_path):
    header = b'{"__metadata__":{}}'
    good = write(tmp_path, "model.safetensors", struct.pack("<Q", len(header)) + header)
    check_content(good.name, good, remote_code=False)
    pointer = write(tmp_path, "other.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(UnsafeModelError, match="Git LFS"):
        check_content(pointer.name, pointer, remote_code=False)


def test_auto_map_needs_consent(tmp_path):
    config = write(tmp_path, "config.json", json.dumps({"auto_map": {"AutoModel": "modeling.Own"}}).encode())
    with pytest.raises(UnsafeModelError, match=r"config.json names Python code.*trust_remote_code=True"):
        check_content(config.name, config, remote_code=False)
    check_content(config.name, config, remote_code=True)


@pytest.mark.parametrize(
    "named",
    [
        {"auto_map": {"AutoModel": "me/mine--modeling.Own"}},
        {"auto_map": {"AutoTokenizer": ["me/mine--tokens.Slow", None]}},
        {"auto_map": ["me/mine--tokens.Slow", None]},
        {"auto_map": {"AutoImageProcessor": {"pil": "me/mine--images.Own"}}},
        {"text_config": {"auto_map": {"AutoModel": "me/mine--text.Own"}}},
        {"custom_pipelines": {"own-task": {"impl": "me/mine--pipe.Own", "pt": ["AutoModel"]}}},
    ],
)
def test_code_that_would_come_from_elsewhere_is_refused_whatever_the_consent(tmp_path, named):
    config = write(tmp_path, "config.json", json.dumps(named).encode())
    with pytest.raises(UnsafeModelError, match=r"config.json names Python code of another repository, 'me/mine--"):
        check_content(config.name, config, remote_code=True)


@pytest.mark.parametrize(
    "secret", [HUB_TOKEN, AWS_KEY_ID, GITHUB_TOKEN, "s3://user:" + "pw123456@host/x", JSON_WEB_TOKEN]
)
def test_a_token_is_found_wherever_it_stands_and_never_repeated(secret):
    for value in (secret, {"note": f"use {secret} here"}, {"a": [{"b": secret}]}, {secret: "key"}):
        with pytest.raises(UnsafeModelError) as caught:
            check_no_secret(value, "tags")
        assert "tags" in str(caught.value)
        assert secret not in str(caught.value)


def test_the_message_names_the_field():
    with pytest.raises(UnsafeModelError, match=r"metrics\['runs'\]\[0\]\['api_key'\] holds a text that its key calls"):
        check_no_secret({"runs": [{"api_key": "0123456789abcdef"}]}, "metrics")


def test_a_token_in_a_configuration_is_found(tmp_path):
    config = write(tmp_path, "config.json", json.dumps({"use": {"auth_token": HUB_TOKEN}}).encode())
    with pytest.raises(UnsafeModelError, match=r"config.json\['use'\]\['auth_token'\]"):
        check_content(config.name, config, remote_code=False)


@pytest.mark.parametrize("name", ["config.json", "id2label.JSON", "model.safetensors.index.json"])
def test_a_token_in_json_of_any_size_is_found(tmp_path, name):
    labels = {str(number): f"label {number}" for number in range(100_000)}
    config = write(tmp_path, name, json.dumps({"labels": labels, "note": HUB_TOKEN}).encode())
    assert config.stat().st_size > 1 << 20
    with pytest.raises(UnsafeModelError, match=rf"{name}\['note'\] holds a Hugging Face token"):
        check_content(name, config, remote_code=False)


def test_vocabularies_are_not_searched(tmp_path):
    words = write(tmp_path, "tokenizer.json", json.dumps({"model": {"vocab": {HUB_TOKEN: 0}}}).encode())
    check_content(words.name, words, remote_code=False)


def test_json_that_is_too_large_to_be_searched_is_refused(tmp_path):
    path = tmp_path / "labels.json"
    with path.open("wb") as file:
        file.write(b"[")
        file.truncate(100_000_001)
    with pytest.raises(UnsafeModelError, match=r"labels\.json has 100,000,001 bytes: JSON of more than 100,000,000"):
        check_content(path.name, path, remote_code=False)


@pytest.mark.parametrize(
    ("header", "place"),
    [
        ({"__metadata__": {"format": "pt", "note": HUB_TOKEN}}, r"\['__metadata__'\]\['note'\]"),
        ({"__metadata__": {"api_key": "0123456789abcdef"}}, r"\['__metadata__'\]\['api_key'\]"),
        ({HUB_TOKEN: {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}, ""),
    ],
)
def test_a_token_in_the_header_of_weights_is_found_and_never_repeated(tmp_path, header, place):
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    weights = write(tmp_path, "model.safetensors", struct.pack("<Q", len(text)) + text)
    with pytest.raises(UnsafeModelError, match=rf"model\.safetensors{place} holds") as caught:
        check_content(weights.name, weights, remote_code=False)
    assert HUB_TOKEN not in str(caught.value)


@pytest.mark.parametrize("header", [b"{", b"{}}", b'{"a": \xff}', b'{"a"'])
def test_weights_whose_header_is_no_json_are_refused(tmp_path, header):
    weights = write(tmp_path, "model.safetensors", struct.pack("<Q", len(header)) + header)
    with pytest.raises(UnsafeModelError, match=r"model\.safetensors is no safetensors file"):
        check_content(weights.name, weights, remote_code=False)


@pytest.mark.parametrize("piece", ["a-", "aws_secret", "eyJ-", "hf_", "-----BEGIN ", "a://b:"])
def test_a_text_that_nearly_holds_tokens_takes_no_longer_than_others(piece):
    """In time that grows with the square these took minutes each: who writes a file could stop who logs it."""
    began = time.process_time()
    assert find_secret(piece * (600_000 // len(piece)), "notes.json") is None
    assert time.process_time() - began < 10


@pytest.mark.parametrize(
    "value",
    [
        {"eos_token": "<|endoftext|>", "pad_token": "[PAD]", "token": "word"},
        {"commit": "3f" * 20, "digest": "sha256:" + "ab" * 32},
        {"tokenizer_class": "PreTrainedTokenizerFast", "architectures": ["BertForSequenceClassification"]},
        {"accuracy": 0.91, "notes": None, "flags": [True, 3]},
        {"url": "https://huggingface.co/ProsusAI/finbert", "mail": "ana@example.org"},
        {"tokens": "a list of many words without any secret"},
    ],
)
def test_what_configurations_and_metrics_really_hold_is_no_secret(value):
    assert find_secret(value, "config.json") is None
