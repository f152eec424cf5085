"""
What the weights of a folder are, from the headers of its safetensors files alone.

A safetensors file begins with the length of its header (8 bytes, little-endian) and the header, JSON: tensor → dtype,
shape, place. Reading that needs neither torch nor the weights, so a folder of any size is described in a moment, and a
sketch of it that holds nothing but headers will do. Weights in other formats are refused: they are pickles.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from airflow_provider_hfreg.errors import IntegrityError, UnsafeModelError, UnsupportedPipelineError

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_LENGTH_BYTES = 8
LARGEST_HEADER_BYTES = 100_000_000
"""The format's own bound."""

# safetensors' names of what torch names so; of the others only the count matters.
_FLOATS = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
}


@dataclass(frozen=True)
class Weights:
    """
    All weights of a model.

    :param dtype: of most elements among the floats, as torch names it; None where none is a float.
    :param parameter_count: elements of all tensors.
    :param size_bytes: of the files.
    """

    dtype: str | None
    parameter_count: int
    size_bytes: int


def describe_weights(folder: Path) -> Weights:
    """
    Return what the headers tell.

    :raises UnsafeModelError: the weights are pickles only.
    :raises UnsupportedPipelineError: there are none, an adapter's only, or a file that the index names is missing.
    :raises IntegrityError: a file is no whole safetensors file.
    """
    elements: Counter[str] = Counter()
    paths = _weight_paths(folder)
    for path in paths:
        for tensor in read_header(path).values():
            elements[tensor["dtype"]] += prod(tensor["shape"])
    floats = [(count, dtype) for dtype, count in elements.items() if dtype in _FLOATS]
    return Weights(
        dtype=_FLOATS[max(floats)[1]] if floats else None,
        parameter_count=sum(elements.values()),
        size_bytes=sum(path.stat().st_size for path in paths),
    )


def read_header(path: Path) -> dict[str, Any]:
    """
    Return the header of a safetensors file: tensor → ``dtype``, ``shape``, ``data_offsets``.

    :raises IntegrityError: it is none, or was cut short.
    """
    length, header = read_whole_header(path)
    try:
        tensors = {name: tensor for name, tensor in header.items() if name != "__metadata__"}
        end = max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0)
    except (KeyError, TypeError, IndexError):
        raise _no_header(path) from None
    size_bytes = path.stat().st_size
    if size_bytes != _LENGTH_BYTES + length + end:
        raise IntegrityError(
            f"{path} has {size_bytes:,} bytes, and its header tells of {_LENGTH_BYTES + length + end:,}: it was cut "
            "short or added to. Copy it again."
        )
    return tensors


def read_whole_header(path: Path) -> tuple[int, dict[str, Any]]:
    """
    Return the header of a safetensors file as it stands, ``__metadata__`` too, and its length in bytes.

    :raises IntegrityError: it is none.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            header = json.loads(file.read(length) if length <= LARGEST_HEADER_BYTES else b"")
    except ValueError:
        raise _no_header(path) from None
    if not isinstance(header, dict):
        raise _no_header(path)
    return length, header


def _no_header(path: Path) -> IntegrityError:
    return IntegrityError(
        f"{path} is no safetensors file: its header cannot be read. It may be a pointer of Git LFS (fetch the file "
        "with `git lfs pull`) or damaged; copy it again."
    )


def _weight_paths(folder: Path) -> list[Path]:
    """Return the files that transformers would load, one or those of the index."""
    index = folder / _INDEX
    if not index.is_file():
        single = folder / _SINGLE
        if single.is_file():
            return [single]
        raise _no_weights(folder)
    try:
        paths = [folder / name for name in sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))]
    except (ValueError, KeyError, AttributeError, TypeError):
        raise IntegrityError(f"{index} is no index of weights: it must be JSON with a weight_map.") from None
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise UnsupportedPipelineError(
            f"{folder} lacks {len(missing)} of the {len(paths)} files of weights that {_INDEX} names, {missing[0]} "
            "first. Finish the download or the copy, then log again."
        )
    return paths


def _no_weights(folder: Path) -> Exception:
    pickles = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in folder.glob(pattern))
    pickles = [name for name in pickles if name != "training_args.bin"]
    if (folder / "adapter_config.json").is_file():
        return UnsupportedPipelineError(
            f"{folder} holds an adapter and not the model it adapts. Merge them (`model.merge_and_unload()` of peft), "
            "save the result with save_pretrained, and log that folder."
        )
    if pickles:
        return UnsafeModelError(
            f"The weights in {folder} are pickles ({pickles[0]}), which run code when they are loaded, so they are not "
            "stored. Convert them once: load the model with from_pretrained, save it with save_pretrained, which "
            "writes safetensors, and log that folder."
        )
    return UnsupportedPipelineError(
        f"{folder} holds no weights: there is neither {_SINGLE} nor {_INDEX}. What is logged must run without the hub: "
        "save the model there with save_pretrained, or log it from the hub with log_hub_model."
    )
