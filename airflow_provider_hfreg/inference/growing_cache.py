"""
Keys and values of the rows that are generating, in one room: rows and columns come and go without copying all of it.

Transformers' own cache makes a new tensor of everything it holds at each step, and again whenever a row is taken out.
Here a step is written into spare columns, a row that leaves is overwritten by the last one, rows that join take the
places behind, and padding that nobody needs is left out by a narrower view. All rows end at the same column; a shorter
one begins later.

Any network that uses the plain cache (``DynamicCache``, or two of them in an ``EncoderDecoderCache``) gets these layers
in their stead; one that asks for windows or a cache of its own does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_provider_hfreg.inference.frameworks import torch, transformers

_SPARE = 64  # columns: every so many steps all of them are copied once


class GrowingLayer(transformers.cache_utils.DynamicLayer):  # type: ignore[misc]  # transformers is untyped
    """
    One layer; ``keys`` and ``values`` are views of the part in use, [rows, heads, columns, width].

    :param places: rows that there is room for.
    :param columns: as many.
    :param filling: what stands where nothing was written; masks hide it.
    """

    def __init__(self, places: int, columns: int, filling: float = 0.0) -> None:
        super().__init__()
        self._places, self._columns, self._filling = places, columns, filling
        self._room: list[torch.Tensor] = []
        self._rows, self._first, self._end = slice(0, places), 0, 0

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        *args: Any,  # noqa: ARG002  the families hand on different things
        **kwargs: Any,  # noqa: ARG002  as above
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Take in new columns of the rows in use and return all of theirs."""
        if not self._room:
            # Numbers: whatever a mask hides is still multiplied by nought, and nought times a stray NaN is NaN.
            self._room = [
                states.new_full((self._places, states.shape[1], self._columns, states.shape[3]), self._filling)
                for states in (key_states, value_states)
            ]
            self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
        new = key_states.shape[2]
        self.use(self._rows, self._first, self._end + new)
        self.keys[:, :, -new:] = key_states
        self.values[:, :, -new:] = value_states
        return self.keys, self.values

    def use(self, rows: slice, first: int, end: int) -> None:
        """Turn to these rows, and the columns from ``first`` to before ``end``."""
        self._rows, self._first, self._end = rows, first, end
        if self._room:
            self.keys, self.values = (room[rows, :, first:end] for room in self._room)

    def clear(self, rows: slice) -> None:
        """Forget what rows held that have left: of whoever takes their places it is the padding."""
        for room in self._room:
            room[rows] = self._filling

    def move(self, holes: torch.Tensor, sources: torch.Tensor) -> None:
        """Put the rows ``sources``, of those in use, where the rows ``holes`` were."""
        for states in (self.keys, self.values):
            states[holes] = states[sources]

    def put(self, rows: slice, end: int, states: Sequence[torch.Tensor], places: torch.Tensor) -> None:
        """
        Write columns of some keys and values, [heads, columns, width], before a column of rows, of all rows at once.

        :param places: int64 [rows, columns]: which of them; negative for none.
        """
        nothing = (places < 0)[:, None, :, None]
        for room, known in zip(self._room, states, strict=True):
            new = known[:, places.clamp(min=0)].transpose(0, 1)
            room[rows, :, end - new.shape[2] : end] = new.masked_fill(nothing, self._filling)

    def rebuild(self, columns: int, end: int) -> None:
        """Make room for so many columns; those in use end at ``end`` there."""
        first = end - (self._end - self._first)
        for place, states in enumerate((self.keys, self.values)):
            before = self._room[place]
            self._room[place] = before.new_full((*before.shape[:2], columns, before.shape[3]), self._filling)
            self._room[place][self._rows, :, first:end] = states
        self.use(self._rows, first, end)


class Room:
    """
    The layers of a network that write, and the column at which all rows end.

    :param cache: the plain one whose layers these stand in for.
    :param places: rows that there is room for.
    :param width: columns of the longest row that may join.
    :param new: columns that a row may add.
    :param filling: of places and columns that hold nothing.
    """

    def __init__(self, cache: Any, places: int, width: int, new: int = _SPARE, *, filling: float = 0.0) -> None:
        self._spare = max(1, min(_SPARE, new))
        self.layers = [GrowingLayer(places, width + self._spare, filling) for _ in plain_layers(cache)]
        self._width, self._end, self._columns = width, width, width + self._spare

    def clear(self, rows: slice) -> None:
        """Make places ready for rows that join."""
        for layer in self.layers:
            layer.clear(rows)

    def open(self, rows: slice, *, held: int, new: int) -> int:
        """
        Let the next forward of these rows write the last ``new`` columns, and read the ``held`` ones before them.

        :return: the column between the two.
        """
        between = self._end - new
        for layer in self.layers:
            layer.use(rows, between - held, between)
        return between

    def advance(self, rows: slice, *, held: int) -> None:
        """Let all rows end one column later, and the next forward of these write that column and read those before."""
        if self._end == self._columns:
            self.open(rows, held=held, new=0)
            self._end = max(held, self._width)
            self._columns = self._end + self._spare
            for layer in self.layers:
                layer.rebuild(self._columns, self._end)
        self._end += 1
        self.open(rows, held=held, new=1)


def plain_layers(cache: Any) -> Sequence[Any]:
    """
    Return the layers of a plain cache that holds nothing yet.

    :raises TypeError: it is no such cache.
    """
    plain = transformers.cache_utils.DynamicLayer
    if (
        type(cache) is not transformers.DynamicCache
        or cache.offloading
        or not cache.layers
        or any(type(layer) is not plain or layer.is_initialized for layer in cache.layers)
    ):
        raise TypeError(f"the network generates with {cache!r}, which is not the plain cache")
    layers: Sequence[Any] = cache.layers
    return layers


def cache_of(layers: Sequence[GrowingLayer]) -> Any:
    """Return the object that a network takes for its cache."""
    cache = transformers.DynamicCache()
    cache.layers, cache.layer_class_to_replicate = list(layers), None
    return cache
