"""
Linear layers whose weights oneDNN has put into the order that this processor multiplies fastest.

torch multiplies float32 matrices with the library it was built with, which on some processors reaches under half of
what they can (measured: 106 of 240 GFLOP/s on an AMD Zen 5; nothing to win on Intel's). The op is the one that torch's
own compiler puts into its code. Whether it is there and faster *here* is measured on the network's own shapes, which
takes some milliseconds; numbers differ in the last bit.

A prepacked layer cannot be trained, saved or moved to another device: only the engine's own copy of a network is
prepacked, never one that a user holds. What reads a layer's ``weight`` instead of calling the layer gets NaN and not a
stale number; the comparison (:mod:`.fitting`) meets it and puts the layers back.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from airflow_provider_hfreg.inference.frameworks import torch

_TOKENS = 256  # of the measurement, and of the batches that the weights are ordered for
_REPEATS = 3
_SHAPES = 3  # the most frequent ones say enough
_WORTH = 0.97  # of torch's own time: what gains less is not worth the seconds of ordering the weights


class PrepackedLinear(torch.nn.Module):
    """A linear layer; see the module."""

    def __init__(self, layer: torch.nn.Linear, tokens: int = _TOKENS) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        weight = layer.weight.detach()
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight, tokens)  # noqa: SLF001  the op has no other name
        self.bias = None if layer.bias is None else layer.bias.detach()
        self.weight = weight.new_full((), torch.nan).expand(weight.shape)  # of its shape, and no memory

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Multiply; as ``torch.nn.Linear``."""
        if not states.numel():
            return states.new_empty(*states.shape[:-1], self.out_features)
        multiplied: torch.Tensor = torch.ops.mkldnn._linear_pointwise(  # noqa: SLF001  as above
            states, self._packed, self.bias, "none", [], ""
        )
        return multiplied


def prepack(network: torch.nn.Module) -> Callable[[], None]:
    """
    Replace the network's linear layers, all or none of them.

    :return: puts them back.
    """
    layers = linear_layers(network)

    def back() -> None:
        for path, layer in layers.items():
            _put(network, path, layer)

    made: dict[int, PrepackedLinear] = {}
    try:
        for path, layer in layers.items():
            _put(network, path, made.setdefault(id(layer), PrepackedLinear(layer)))
    except BaseException:
        back()
        raise
    return back


def is_worth_it(network: torch.nn.Module) -> bool:
    """Tell whether prepacked layers are faster than the network's own, here and now, and give the same."""
    layers = {(layer.in_features, layer.out_features): layer for layer in linear_layers(network).values()}
    shapes = Counter((layer.in_features, layer.out_features) for layer in linear_layers(network).values())
    heaviest = sorted(shapes, key=lambda shape: -shapes[shape] * shape[0] * shape[1])[:_SHAPES]
    own_s = prepacked_s = 0.0
    with torch.inference_mode():
        for shape in heaviest:
            try:
                own, packed = _times(layers[shape])
            except (RuntimeError, AttributeError):  # a build or a processor without the op
                return False
            own_s, prepacked_s = own_s + own * shapes[shape], prepacked_s + packed * shapes[shape]
    return prepacked_s < own_s * _WORTH


def linear_layers(network: torch.nn.Module) -> Mapping[str, torch.nn.Linear]:
    """
    Return the layers that may be replaced, by path: plain ones in float32 on the CPU whose weight is nobody else's.

    A head often shares its weight with the embeddings: replaced, it would be a second copy of a network's largest
    matrix. A class derived from ``Linear`` does something else, or it would not be one.
    """
    owners = Counter(id(weight) for _, weight in network.named_parameters(remove_duplicate=False))
    seen = Counter(id(layer) for _, layer in network.named_modules(remove_duplicate=False))
    return {
        path: module
        for path, module in network.named_modules(remove_duplicate=False)
        if type(module) is torch.nn.Linear and path and owners[id(module.weight)] == seen[id(module)] and _fits(module)
    }


def _fits(layer: torch.nn.Linear) -> bool:
    plain = not layer._forward_hooks and not layer._forward_pre_hooks  # noqa: SLF001  torch has no other way to ask
    return plain and layer.weight.dtype == torch.float32 and layer.weight.device.type == "cpu"


def _times(layer: torch.nn.Linear) -> tuple[float, float]:
    """Return the seconds of one call of the layer and of its prepacked twin: the best of a few, in turn."""
    twin = PrepackedLinear(layer)
    states = torch.randn(1, _TOKENS, layer.in_features, generator=torch.Generator().manual_seed(0))
    ways: tuple[Any, ...] = (layer, twin)
    best = [float("inf"), float("inf")]
    for way in ways:
        way(states)  # the first call sets things up
    for _ in range(_REPEATS):
        for place, way in enumerate(ways):
            began_s = time.perf_counter()
            way(states)
            best[place] = min(best[place], time.perf_counter() - began_s)
    return best[0], best[1]


def _put(network: torch.nn.Module, path: str, module: torch.nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(network.get_submodule(parent), name, module)
