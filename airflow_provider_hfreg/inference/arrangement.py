"""
How the sequences of a batch lie in the tensors of one pass, and what is read of it: the same whichever way they lie.

``padded``: a row per sequence, filled up to the longest. ``packed``: one row, the sequences end to end without a token
of padding, each attending to itself alone (:mod:`.packed`). Everything that is read of a network's outputs is addressed
by the *flat place* of a token, its number among all places of the batch: so a task reads both ways alike.

Of the last layer most tasks read few tokens: a classifier the first of each sequence, a masked language model the
masks. Attention needs all of them up to there, and nothing behind it does: :func:`only` leaves the others out of the
rest of the layer, which is an eighth of the work of a network of six layers.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from airflow_provider_hfreg.inference.frameworks import torch
from airflow_provider_hfreg.inference.packed import CUT, Way, end_to_end
from airflow_provider_hfreg.inference.padding import padded
from airflow_provider_hfreg.inference.transfer import to_device
from airflow_provider_hfreg.pipelines.ragged import Ragged


@dataclass(frozen=True)
class Layout:
    """
    What a network was found to run rightly, see :mod:`.fitting`; by default what every network does.

    :param packed: sequences end to end.
    :param way: how those attend.
    :param last: a module, by its path in the network, from which on nothing mixes tokens: it is handed only those that
        are read. None where no such is known.
    :param whole: ``last`` is the whole encoder: all tokens go in, and those that are read come out.
    """

    packed: bool = False
    way: Way = Way.RUNS
    last: str | None = None
    whole: bool = False


@dataclass(frozen=True)
class Arranged:
    """
    A batch as the network gets it.

    :param inputs: its tensors.
    :param lengths: int64 [sequences].
    :param places: int64 [tokens]: the flat place of each token, sequence by sequence; None where that is its number.
    :param launched: to be called once the device has been given all of the pass.
    """

    inputs: Mapping[str, Any]
    lengths: npt.NDArray[np.int64]
    places: torch.Tensor | None
    launched: Callable[[], None] = lambda: None

    @property
    def tensors(self) -> Iterator[torch.Tensor]:
        """All tensors that were copied for it."""
        cut = self.inputs.get(CUT)
        found = (*self.inputs.values(), self.places, None if cut is None else cut.starts)
        return (each for each in found if isinstance(each, torch.Tensor))

    @property
    def ids(self) -> torch.Tensor:
        """The ids of all tokens, sequence by sequence."""
        return self.per_token(self.inputs["input_ids"])

    def per_token(self, values: torch.Tensor) -> torch.Tensor:
        """
        Return the values of the tokens, sequence by sequence, without those of the padding.

        :param values: [rows, longest, …], as the network gives them.
        """
        flat = values.flatten(0, 1)
        return flat if self.places is None else flat[self.places]

    def places_of(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the flat places of some tokens, given by their numbers."""
        return tokens if self.places is None else self.places[tokens]

    def tokens_at(self, edge: str) -> torch.Tensor:
        """
        Return the number of each sequence's ``first`` or ``last`` token.

        >>> Arranged({"input_ids": torch.zeros(1, 3)}, np.array([2, 1]), None).tokens_at("last").tolist()
        [1, 2]
        """
        ends = np.cumsum(self.lengths)
        numbers = ends - self.lengths if edge == "first" else ends - 1
        return to_device(numbers, self.inputs["input_ids"].device)

    def ragged(self, values: torch.Tensor) -> Ragged:
        """Return, as float32 in main memory, what the network gives per token, sequence by sequence."""
        return Ragged.of(self.lengths, to_numpy(self.per_token(values)))


def accepted_by(network: torch.nn.Module) -> frozenset[str]:
    """
    Return the names of a network's arguments.

    A class of somebody's own may hand on what it does not name (``**kwargs``): those of the class that it extends, too.

    >>> class Own(torch.nn.Identity):
    ...     def forward(self, *args, **kwargs): ...
    >>> sorted(accepted_by(Own()))
    ['args', 'input', 'kwargs']
    """
    accepted: set[str] = set()
    for kind in type(network).__mro__:
        if (forward := vars(kind).get("forward")) is not None:
            parameters = inspect.signature(forward).parameters
            accepted |= parameters.keys() - {"self"}
            if all(parameter.kind is not inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
                break
    return frozenset(accepted)


def arranged(columns: Mapping[str, Ragged], loaded: Any, accepts: frozenset[str]) -> Arranged:
    """
    Arrange a batch as the network's layout says.

    :param columns: the inputs of each sequence, unpadded.
    :param loaded: a :class:`~airflow_provider_hfreg.inference.loading.LoadedPipeline`.
    :param accepts: names of the network's arguments; what else the tokenizer gives is left out.
    """
    lengths = columns["input_ids"].lengths
    accepted = {name: ragged for name, ragged in columns.items() if name in accepts}
    if loaded.layout.packed:
        return Arranged(end_to_end(accepted, loaded.network, loaded.layout.way), lengths, None)
    # Positions are counted from the left, and a classifier on a decoder finds the last token by the mask.
    inputs = padded(accepted, loaded.padding, loaded.device, side="right")
    # Not asked of the mask: how many tokens there are, a GPU would have to be waited for.
    places = np.flatnonzero(np.arange(lengths.max(initial=0)) < lengths[:, None])
    if "attention_mask" not in accepts:
        del inputs["attention_mask"]
    return Arranged(inputs, lengths, to_device(places, loaded.device))


@contextlib.contextmanager
def only(network: torch.nn.Module, layout: Layout, places: torch.Tensor) -> Iterator[None]:
    """
    Let the network go on from ``layout.last`` with the tokens at these flat places alone, each as a sequence of one.

    What it gives behind this is [places, 1, …].
    """

    def chosen(states: torch.Tensor) -> torch.Tensor:
        return states.flatten(0, 1)[places][:, None]

    def enters(_module: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(map(chosen, arguments))

    def leaves(_module: Any, _arguments: Any, outputs: Any) -> Any:
        return type(outputs)(last_hidden_state=chosen(outputs.last_hidden_state))

    module = network.get_submodule(layout.last or "")
    hook = module.register_forward_hook(leaves) if layout.whole else module.register_forward_pre_hook(enters)
    try:
        yield
    finally:
        hook.remove()


def to_numpy(tensor: torch.Tensor) -> npt.NDArray[np.float32]:
    """Return a tensor's numbers as float32 in main memory."""
    array: npt.NDArray[np.float32] = tensor.float().cpu().numpy()
    return array
