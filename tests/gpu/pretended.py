"""
A device that is none: its tensors lie in main memory, and it refuses what a real accelerator refuses.

While a :class:`PretendedDevice` is entered, torch knows a device :data:`NAME`: a network and its inputs can be moved
there, and whatever then meets a tensor that was left in main memory raises, as CUDA raises. Numbers are the
processor's. It counts how often somebody waited for the device: for a value, for a whole tensor, for a
result whose size only the device knows.

What it does not show: speed, streams, pinned memory, another order of sums, and kernels that are missing.
"""

from __future__ import annotations

import contextlib
import functools
import types
from collections.abc import Mapping, Sequence
from typing import Any, Self
from unittest import mock

from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from airflow_provider_hfreg.inference.frameworks import torch

NAME = "privateuseone"
"""Torch's own name for a device that comes from outside."""

_ATEN: Any = torch.ops.aten
_COPY, _MOVE = _ATEN.copy_.default, _ATEN._to_copy.default
_SIZED_BY_VALUES = (_ATEN.nonzero.default, _ATEN.masked_select.default, _ATEN.repeat_interleave.Tensor)
_READS = (_ATEN._local_scalar_dense.default, *_SIZED_BY_VALUES)
_BY_INDEX = (_ATEN.index.Tensor, _ATEN.index_put_.default)
_FROM_VALUES = (torch.tensor, torch.as_tensor, torch.asarray)
_INDEXED = (torch.Tensor.__getitem__, torch.Tensor.__setitem__)


class PretendedDevice(TorchDispatchMode):
    """
    Enter it around everything that touches the device, in the thread that does.

    :ivar waits: how often that thread has waited for the device.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits = 0
        self._entered = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Make the device known."""
        _register()
        # A wrapped tensor cannot be a view of one that was made in this mode; without it only speed differs.
        self._entered.enter_context(mock.patch.object(torch, "inference_mode", torch.no_grad))
        self._entered.enter_context(_Values(self))
        super().__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        """Forget it."""
        super().__exit__(*error)
        self._entered.close()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run one op in main memory, for tensors of either place."""
        given = dict(kwargs or {})
        tensors = [each for each in tree_leaves((args, given)) if isinstance(each, torch.Tensor)]
        there = {id(each.inner): each for each in tensors if isinstance(each, _There)}
        device = given.get("device")
        stays = bool(there) if device is None else device.type == NAME
        if there and func not in {_COPY, _MOVE}:
            _refuse_mixed(func, tensors)
        self.waits += bool(there) and _waits(func, args, stays=stays)
        if device is not None:
            given["device"] = torch.device("cpu")
        result = func(*tree_map(_inner, args), **tree_map(_inner, given))
        if func is _COPY:
            return args[0]

        def wrapped(value: Any) -> Any:
            if id(value) in there:
                return there[id(value)]  # what was changed in place comes back as the tensor that it was
            return _There(value) if isinstance(value, torch.Tensor) else value

        return tree_map(wrapped, result) if stays else result


class _There(torch.Tensor):
    """A tensor of the device; ``inner`` is the one in main memory that holds its numbers."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Self:
        made: Any = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device(NAME),
        )
        made.inner = inner
        there: Self = made
        return there

    @classmethod
    def __torch_dispatch__(cls, func: Any, *_: Any) -> Any:
        """Refuse: nobody is there any more."""
        raise RuntimeError(f"{func} met a tensor of {NAME} after the pretended device was left.")


class _Values(TorchFunctionMode):
    """Plain values to tensors and back by way of main memory: torch itself does both behind the back of a mode."""

    def __init__(self, device: PretendedDevice) -> None:
        super().__init__()
        self._device = device

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func is torch.Tensor.new_tensor:
            like, *values = args
            return torch.tensor(*values, **{"device": like.device, "dtype": like.dtype, **given})
        if func in _INDEXED and isinstance(args[0], _There):
            tensor, index, *values = args
            return func(tensor, self._there(index), *values)
        if func is torch.Tensor.tolist and isinstance(args[0], _There):
            return args[0].cpu().tolist()
        if func in _FROM_VALUES and given.get("device") is not None and torch.device(given["device"]).type == NAME:
            here = tree_map(lambda value: value.cpu() if isinstance(value, _There) else value, args)
            return func(*here, **{**given, "device": "cpu"}).to(NAME)
        return func(*args, **given)

    def _there(self, index: Any) -> Any:
        """Move places that are given as a list; what computes them waits until they are there."""
        if isinstance(index, tuple):
            return tuple(map(self._there, index))
        if not isinstance(index, list):
            return index
        self._device.waits += 1
        return torch.tensor(index).to(NAME)


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, _There) else value


def _refuse_mixed(func: Any, tensors: Sequence[torch.Tensor]) -> None:
    """
    Refuse tensors of two places in one op, numbers aside.

    :raises RuntimeError: these are such.
    """
    if any(each.dim() for each in tensors if not isinstance(each, _There)):
        raise RuntimeError(f"Expected all tensors to be on the same device, but {func} got {NAME} and cpu.")


def _waits(func: Any, args: Sequence[Any], *, stays: bool) -> bool:
    """Tell whether an op on tensors of the device has to wait for it."""
    by_mask = func in _BY_INDEX and any(each is not None and each.dtype == torch.bool for each in args[1])
    leaves = (func is _MOVE and not stays) or (func is _COPY and not isinstance(args[0], _There))
    return func in _READS or by_mask or leaves


@functools.cache
def _register() -> None:
    """Tell torch the little that it asks of a device by itself."""
    from torch.utils import backend_registration

    guard = backend_registration._DummyDeviceGuard()
    torch._C._acc.register_python_privateuseone_device_guard(guard)
    module: Any = types.ModuleType(f"torch.{NAME}")
    module._is_in_bad_fork = lambda: False
    module.manual_seed_all = lambda _seed: None
    module.get_amp_supported_dtype = list
    torch._register_device_module(NAME, module)
