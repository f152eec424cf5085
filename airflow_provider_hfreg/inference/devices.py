"""Which device a model is for, what is free on it, what does not fit, and which of its failures mean what."""

from __future__ import annotations

import psutil

from airflow_provider_hfreg.errors import DeviceLostError, InvalidOptionError, ModelTooLargeError
from airflow_provider_hfreg.inference.container import cgroup_free_bytes
from airflow_provider_hfreg.inference.execution import device_lost
from airflow_provider_hfreg.inference.frameworks import torch
from airflow_provider_hfreg.pipelines.precisions import ELEMENT_BYTES
from airflow_provider_hfreg.pipelines.spec import PipelineSpec

# Allocators that raise a plain RuntimeError: of the CPU, oneDNN, CUDA's runtime and libraries, and Apple's.
_OUT_OF_MEMORY = (
    "DefaultCPUAllocator: can't allocate",
    "could not create a memory object",
    "bad_alloc",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "MPS backend out of memory",
)


def choose_device(device: str | None = None) -> str:
    """
    Return ``device``, or the accelerator where there is one, or ``cpu``.

    :raises InvalidOptionError: torch knows no such device, or it is not on this machine.
    """
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise InvalidOptionError(
            f"There is no device {device!r} here: {reason} Write 'cpu', 'cuda' or 'cuda:1', or None for the best one."
        ) from None
    return chosen


def required_bytes(spec: PipelineSpec) -> int:
    """
    Return the memory that the weights take once loaded.

    >>> required_bytes(PipelineSpec(task="text-classification", parameter_count=10, dtype="bfloat16"))
    20
    """
    size = ELEMENT_BYTES.get(spec.dtype or "")
    return spec.weights_size_bytes if size is None else spec.parameter_count * size


def check_memory(required: int, free: int, *, device: str = "cpu") -> None:
    """
    Refuse weights that do not fit, before any of them is read.

    :param required: bytes of the weights; what activations need comes on top and is the batches' matter.
    :param free: bytes free on ``device``.
    :raises ModelTooLargeError: with both numbers.
    """
    if required > free:
        raise ModelTooLargeError(
            f"The model's weights need {format_bytes(required)} and only {format_bytes(free)} are free on {device} "
            "(within the container's limit). Nothing was loaded. Give the task more memory, or log the model in a "
            "smaller dtype such as bfloat16."
        )


def free_memory_bytes(device: str = "cpu") -> int:
    """Return the bytes that may still be allocated on ``device``."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    return min([int(psutil.virtual_memory().available), *cgroup_free_bytes()])


def format_bytes(size: int) -> str:
    """
    Return a size for people.

    >>> format_bytes(512), format_bytes(3_221_225_472)
    ('512 bytes', '3.00 GiB')
    """
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= scale:
            return f"{size / scale:,.2f} {unit}"
    return f"{size} bytes"


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether a device ran out of memory."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(sign in str(error) for sign in _OUT_OF_MEMORY)


def is_fatal(error: Exception) -> bool:
    """Tell whether the device answers nothing any more."""
    # After a failed assertion on the device its context is lost: every later row would look bad.
    return "CUDA error" in str(error) or "device-side assert" in str(error)


def check_device(error: Exception) -> None:
    """
    Tell a failure after which nothing else can be tried.

    :raises DeviceLostError: ``error`` is one.
    """
    if isinstance(error, DeviceLostError):
        raise error
    if is_fatal(error):
        raise device_lost(error) from error
