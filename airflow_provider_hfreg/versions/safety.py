"""
What may be stored: decided by a file's path and by its first bytes, before anything is uploaded.

Invariants:

- The list says what is allowed; what it does not name is refused. So a new kind of pickle is refused unknown.
- A file's content is looked at as well as its name: a pickle called ``config.json`` is refused.
- A file that training leaves behind, and that loading never reads, is left out and said, not refused: every ``Trainer``
  writes a pickled ``training_args.bin``, and nobody should have to clean up before logging.
- JSON is searched for access tokens whole, but for vocabularies, known by their names: long lists of words that nobody
  writes by hand. So is the header of a file of weights, whose ``__metadata__`` holds whatever the trainer put there.
  Other text is searched where it has up to 1 MiB.
- No message repeats a secret, nor the bytes around it (see :mod:`airflow_provider_hfreg.versions.secrets`).

It judges; it neither converts pickled weights nor reads more of weights than their header.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from airflow_provider_hfreg.errors import IntegrityError, UnsafeModelError
from airflow_provider_hfreg.pipelines.json_files import code_elsewhere
from airflow_provider_hfreg.pipelines.weights import read_whole_header
from airflow_provider_hfreg.versions.layout import EXPORTED_MANIFEST
from airflow_provider_hfreg.versions.secrets import check_no_secret

_STORED_SUFFIXES = frozenset(
    {".safetensors", ".json", ".jsonl", ".txt", ".jinja", ".md", ".yaml", ".yml", ".csv", ".tsv"}
)
_STORED_NAMES = frozenset({"LICENSE", "NOTICE", "README"})
# Tokenizers that are no text: sentencepiece's protobuf models, tiktoken's ranks, byte-pair codes. Allowed by what they
# are, under the names that tokenizers write.
_TOKENIZER_SUFFIXES = frozenset({".model", ".spm", ".spiece", ".bpe", ".codes", ".tiktoken", ".vocab"})

# Never read when a version is loaded from safetensors: leftovers of training, weights of other frameworks.
_LEFT_OUT = (
    re.compile(r"(^|/)\.[^/]*"),  # .git, .gitattributes, .cache of the hub's client
    re.compile(r"(^|/)__pycache__/"),
    re.compile(rf"^{re.escape(EXPORTED_MANIFEST)}$"),  # an exported version logged again has a manifest of its own
    re.compile(r"(^|/)(checkpoint-\d+|runs|logs|onnx|openvino|coreml)/"),
    re.compile(r"(^|/)train_script\.py$"),  # stands in many repositories of sentence-transformers
    re.compile(r"(^|/)(training_args\.bin|optimizer\.(pt|bin)|scheduler\.(pt|bin)|scaler\.pt|rng_state(_\d+)?\.pth)$"),
    re.compile(r"\.(msgpack|h5|ot|onnx|tflite|gguf|png|jpe?g|gif|svg|webp)$", re.IGNORECASE),
)
_PICKLED_WEIGHTS = re.compile(r"\.(bin|pt|pth|ckpt)$", re.IGNORECASE)
_PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz", ".dill"})

_HEAD_BYTES = 512
_LARGEST_TEXT_SEARCHED_BYTES = 1 << 20
_LARGEST_JSON_BYTES = 100_000_000  # about ten seconds of searching, and a gigabyte once it is parsed
_VOCABULARIES = frozenset({"tokenizer.json", "vocab.json", "merges.txt", "vocab.txt", "added_tokens.json"})


@dataclass(frozen=True)
class Selection:
    """Which files of a folder make the version, and which were left where they are."""

    stored: tuple[str, ...]
    left_out: tuple[str, ...]


def select_files(paths: Iterable[str], *, remote_code: bool, where: str) -> Selection:
    """
    Decide by name which files of a folder are stored.

    >>> select_files(["model.safetensors", "config.json", "training_args.bin"], remote_code=False, where="./out")
    Selection(stored=('config.json', 'model.safetensors'), left_out=('training_args.bin',))

    :param remote_code: somebody consented to storing the model's own Python files.
    :param where: the folder, for messages.
    :raises UnsafeModelError: a pickle, Python without consent, or a kind of file that is not on the list.
    """
    ordered = sorted(paths)
    has_safetensors = any(path.endswith(".safetensors") for path in ordered)
    left_out = {path for path in ordered if _is_left_out(path, has_safetensors=has_safetensors)}
    stored = tuple(path for path in ordered if path not in left_out)
    for path in stored:
        _check_name(path, remote_code=remote_code, where=where)
    return Selection(stored, tuple(sorted(left_out)))


def _is_left_out(path: str, *, has_safetensors: bool) -> bool:
    if any(pattern.search(path) for pattern in _LEFT_OUT):
        return True
    # The same weights a second time, as a pickle and its index: what most hub repositories hold.
    is_second_copy = _PICKLED_WEIGHTS.search(path) or path.endswith(".bin.index.json")
    return has_safetensors and bool(is_second_copy)


def _check_name(path: str, *, remote_code: bool, where: str) -> None:
    suffix = PurePosixPath(path).suffix.lower()
    if suffix in _STORED_SUFFIXES | _TOKENIZER_SUFFIXES or PurePosixPath(path).name in _STORED_NAMES:
        return
    if suffix in _PICKLE_SUFFIXES:
        raise UnsafeModelError(
            f"{where} holds {path}, which is a pickle or may be one: loading it runs code, so it is not stored. Save "
            "the model as safetensors (`model.save_pretrained(folder)` does so) and log that folder."
        )
    if suffix == ".py" and remote_code:
        return
    if suffix == ".py":
        raise UnsafeModelError(
            f"{where} holds Python code ({path}) that would run wherever the model is loaded. If you have read and "
            "trust it, log with trust_remote_code=True; loading will ask again. If the model does not need it, remove "
            "it."
        )
    raise UnsafeModelError(
        f"{where} holds {path}: a model's folder may hold safetensors, JSON, text and tokenizer files. "
        "Move it elsewhere."
    )


def check_content(path: str, local: Path, *, remote_code: bool) -> None:
    """
    Look into a file that its name let pass.

    :param path: inside the version's folder.
    :raises UnsafeModelError: its content is something else than its name says, or holds a secret or unconsented code.
    """
    size_bytes = local.stat().st_size
    with local.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    suffix = PurePosixPath(path).suffix.lower()
    if suffix == ".safetensors":
        _check_safetensors(path, local)
        return
    _check_no_pickle(path, head)
    if suffix not in _TOKENIZER_SUFFIXES:
        _check_text(path, local, size_bytes, remote_code=remote_code)


def _check_no_pickle(path: str, head: bytes) -> None:
    """A pickle begins with 0x80 and its protocol; torch's files are zip archives; joblib's may be compressed."""
    is_pickle = len(head) > 1 and head[0] == 0x80 and head[1] in range(2, 6)
    magics = (b"PK\x03\x04", b"\x93NUMPY", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
    if is_pickle or head.startswith(magics):
        raise UnsafeModelError(
            f"{path} is by its content a pickle or an archive, whatever its name says: it is not stored. Save the "
            "model again with save_pretrained, which writes safetensors and JSON."
        )


def _check_safetensors(path: str, local: Path) -> None:
    try:
        _, header = read_whole_header(local)
    except IntegrityError:
        raise UnsafeModelError(
            f"{path} is no safetensors file: it does not begin with its header. It may be cut short, or a pointer of "
            "Git LFS; fetch the file itself and log again."
        ) from None
    check_no_secret(header, path)


def _check_text(path: str, local: Path, size_bytes: int, *, remote_code: bool) -> None:
    is_json = PurePosixPath(path).suffix.lower() == ".json"
    is_vocabulary = PurePosixPath(path).name in _VOCABULARIES
    is_searched = not is_vocabulary and (is_json or size_bytes <= _LARGEST_TEXT_SEARCHED_BYTES)
    if not is_json and not is_searched:
        return
    if is_searched and size_bytes > _LARGEST_JSON_BYTES:
        raise UnsafeModelError(
            f"{path} has {size_bytes:,} bytes: JSON of more than {_LARGEST_JSON_BYTES:,} is not searched for access "
            "tokens, so it is not stored. Loading needs no such file; move it elsewhere."
        )
    try:
        text = local.read_text("utf-8")
        value: Any = json.loads(text) if is_json else text
    except ValueError:
        raise UnsafeModelError(
            f"{path} is not {'JSON' if is_json else 'text in UTF-8'}, as its name says it is; it is not stored."
        ) from None
    if is_searched:
        check_no_secret(value, path)
    if isinstance(value, dict) and value.get("auto_map") and not remote_code:
        raise UnsafeModelError(
            f"{path} names Python code to run at loading ('auto_map'). If you have read and trust it, log with "
            "trust_remote_code=True; if the installed transformers knows the architecture itself, remove 'auto_map'."
        )
    if is_json and (elsewhere := code_elsewhere(value)):
        raise UnsafeModelError(
            f"{path} names Python code of another repository, {elsewhere!r}, which is no part of the version. Copy "
            "that file beside it, and write its name without what stands before '--'."
        )
