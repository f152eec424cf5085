"""
The networks that the loop of :mod:`.decode_loop` drives: one that goes on from prompts, one that answers texts.

Both let rows join and leave at any step. What the rows have read and written stands in layers whose places and columns
come and go (:mod:`.growing_cache`); all rows end at the same column, and one that is shorter, or joined later, begins
later. Prompts and texts are read some at a time, so that a long batch stays in the processor's caches.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from airflow_provider_hfreg.inference.frameworks import torch, transformers
from airflow_provider_hfreg.inference.growing_cache import GrowingLayer, Room, cache_of, plain_layers
from airflow_provider_hfreg.inference.transfer import Lengths, index_of


class Network(Protocol):
    """
    A network with the rows that it is at; logits are float32 [rows, vocabulary], of each row's next token.

    ``padded_tokens``: of the prompts, as far as they were read.
    """

    padded_tokens: int

    def admit(self, rows: Sequence[int]) -> torch.Tensor:
        """Read the prompts of these rows of the batch and return their logits; they stand behind those before."""

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Read one more token of each row, [rows, 1], and return the logits."""

    def keep(self, order: Sequence[int]) -> None:
        """Go on with the rows that were at these places."""


class Decoder:
    """A network that goes on from prompts, padded on their left."""

    def __init__(
        self,
        model: Any,
        input_ids: torch.Tensor,
        *,
        places: int,
        new_tokens: int,
        shared: int,
        at_once: int,
        filling: float,
        check: Callable[[], None],
        past_key_values: Any,
        attention_mask: torch.Tensor | None = None,
        **others: Any,
    ) -> None:
        self._model, self._at_once, self._check = model, at_once, check
        self._prompts = input_ids
        self.padded_tokens = 0
        rows, width = input_ids.shape
        mask = input_ids.new_ones(rows, width) if attention_mask is None else attention_mask
        self._prompt_lengths = Lengths.counted(mask)
        self._room = Room(past_key_values, places, width, new_tokens, filling=filling)
        self._cache = cache_of(self._room.layers)
        self._lengths = self._prompt_lengths.at(slice(0))  # of the rows that are there: prompt and what follows
        self._counts = "position_ids" in inspect.signature(model.forward).parameters
        self._more = _known(others, {"position_ids"})
        self._beginning = _beginning(input_ids, self._prompt_lengths, at_least=shared)  # tokens that all share
        self._read_once: list[tuple[torch.Tensor, torch.Tensor]] = []  # their keys and values, by layer

    def admit(self, rows: Sequence[int]) -> torch.Tensor:
        """Read these rows' prompts; see :class:`Network`."""
        if self._beginning and not self._read_once:
            self._read_beginning()
        groups = by_tokens((self._prompt_lengths.here[rows] - self._beginning).tolist(), self._at_once)
        return torch.cat([self._read(rows[group]) for group in groups])

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Read one more token of each row; see :class:`Network`."""
        self._room.advance(slice(0, len(tokens)), held=self._lengths.longest)
        self._lengths = self._lengths.plus(1)
        return self._forward(tokens, self._lengths)

    def keep(self, order: Sequence[int]) -> None:
        """Go on with some rows; see :class:`Network`."""
        self._room.open(slice(0, len(self._lengths)), held=self._lengths.longest, new=0)
        _move(self._room.layers, order, self._prompts.device)
        self._lengths = self._lengths.at(order)

    def _read_beginning(self) -> None:
        first = self._prompts.shape[1] - int(self._prompt_lengths.here[0])
        tokens = self._prompts[:1, first : first + self._beginning]
        place = len(self._lengths)
        self._room.open(slice(place, place + 1), held=0, new=self._beginning)
        self._forward(tokens, Lengths.of([self._beginning], tokens.device))
        self._read_once = [(layer.keys[0].clone(), layer.values[0].clone()) for layer in self._room.layers]

    def _read(self, rows: Sequence[int]) -> torch.Tensor:
        """
        Read prompts, all but their beginning.

        A prompt whose rest is shorter than the longest one's reads the end of the beginning again, so that all read
        the same number of columns.
        """
        self._check()
        lengths = self._prompt_lengths.at(span_of(rows))
        self.padded_tokens += lengths.longest * len(rows)
        known = self._beginning
        new = lengths.longest - known
        joining = slice(len(self._lengths), len(self._lengths) + len(rows))
        self._lengths = self._lengths.and_those_of(lengths)
        self._room.clear(joining)
        between = self._room.open(joining, held=known, new=new)
        if known:
            # A row that is shorter by so many columns has its beginning end so many columns earlier.
            places = torch.arange(known, device=self._prompts.device) - known + (lengths.there - new)[:, None]
            for layer, states in zip(self._room.layers, self._read_once, strict=True):
                layer.put(joining, between, states, places)
        return self._forward(self._prompts[span_of(rows), -new:], lengths)

    def _forward(self, tokens: torch.Tensor, lengths: Lengths) -> torch.Tensor:
        """
        Run the last columns of rows.

        :param tokens: [rows, columns].
        :param lengths: of the rows, these columns among them.
        """
        new = tokens.shape[1]
        more = dict(self._more)
        if self._counts:
            columns = torch.arange(new, device=tokens.device)
            more["position_ids"] = (lengths.there[:, None] - new + columns).clamp(min=0)
        return _last(
            self._model(
                input_ids=tokens,
                attention_mask=_left_mask(lengths),
                past_key_values=self._cache,
                return_dict=True,
                **more,
            )
        )


class EncoderDecoder:
    """A network that answers texts, which are padded behind their ends; what it writes is padded on its left."""

    def __init__(
        self,
        model: Any,
        input_ids: torch.Tensor,
        *,
        places: int,
        new_tokens: int,
        shared: int,  # noqa: ARG002  an encoder looks at both sides of a token, so no beginning is read apart
        at_once: int,
        filling: float,
        check: Callable[[], None],
        past_key_values: Any,
        encoder_outputs: Any,
        attention_mask: torch.Tensor,
        **others: Any,
    ) -> None:
        self._model, self._at_once, self._check = model, at_once, check
        self._starts, self._unread, self._mask = input_ids, encoder_outputs[0][..., 0], attention_mask
        self.padded_tokens = 0
        self._unread_lengths = Lengths.counted(attention_mask)
        own = past_key_values.self_attention_cache
        self._room = Room(own, places, input_ids.shape[1], new_tokens, filling=filling)
        text_layers = plain_layers(past_key_values.cross_attention_cache)
        self._texts = [GrowingLayer(places, attention_mask.shape[1], filling) for _ in text_layers]
        self._cache = transformers.EncoderDecoderCache(cache_of(self._room.layers), cache_of(self._texts))
        # Of the rows that are there: tokens of the text, and those that follow.
        self._lengths = self._written = self._unread_lengths.at(slice(0))
        waits = places < len(input_ids)
        self._positions = _Positions(getattr(model.get_decoder(), "embed_positions", None) if waits else None)
        self._more = _known(others, set())

    def admit(self, rows: Sequence[int]) -> torch.Tensor:
        """Read these rows' prompts; see :class:`Network`."""
        groups = by_tokens(self._unread_lengths.here[rows].tolist(), self._at_once)
        logits = [self._read(rows[group]) for group in groups]
        self._turn_to_all()
        return torch.cat(logits)

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Read one more token of each row; see :class:`Network`."""
        self._room.advance(slice(0, len(tokens)), held=self._written.longest)
        self._written = self._written.plus(1)
        states = self._nothing.expand(len(tokens), self._lengths.longest, -1)
        return self._forward(tokens, states, self._written, self._lengths)

    def keep(self, order: Sequence[int]) -> None:
        """Go on with some rows; see :class:`Network`."""
        self._room.open(slice(0, len(self._lengths)), held=self._written.longest, new=0)
        _move((*self._room.layers, *self._texts), order, self._starts.device)
        self._lengths, self._written = self._lengths.at(order), self._written.at(order)
        self._turn_to_all()

    def _read(self, rows: Sequence[int]) -> torch.Tensor:
        """Read texts: the encoder makes states of them, the first step keys and values of those."""
        self._check()
        span, place = span_of(rows), len(self._lengths)
        lengths = self._unread_lengths.at(span)
        self.padded_tokens += lengths.longest * len(rows)
        read = self._unread[span, : lengths.longest], self._mask[span, : lengths.longest]
        states = self._model.get_encoder()(input_ids=read[0], attention_mask=read[1])[0]
        starts = self._starts[span]
        written = Lengths.of([starts.shape[1]] * len(rows), starts.device)
        self._lengths, self._written = self._lengths.and_those_of(lengths), self._written.and_those_of(written)
        joining = slice(place, place + len(rows))
        self._room.clear(joining)
        self._room.open(joining, held=0, new=starts.shape[1])
        for layer in self._texts:
            layer.clear(joining)
            layer.use(joining, 0, 0)
        self._cache.is_updated = dict.fromkeys(range(len(self._texts)), False)
        self._nothing = states.new_zeros(1, 1, states.shape[2])
        return self._forward(starts, states, written, lengths)

    def _turn_to_all(self) -> None:
        for layer in self._texts:
            layer.use(slice(0, len(self._lengths)), 0, self._lengths.longest)

    def _forward(self, tokens: torch.Tensor, states: torch.Tensor, written: Lengths, texts: Lengths) -> torch.Tensor:
        """
        Run the last columns of rows.

        :param tokens: [rows, columns].
        :param states: of the texts, or of their shape once their keys and values are there.
        :param written: tokens of the rows, these columns among them.
        """
        mask = (torch.arange(texts.longest, device=tokens.device) < texts.there[:, None]).to(torch.int64)
        with self._positions.of(written, tokens.shape[1]):
            outputs = self._model(
                decoder_input_ids=tokens,
                decoder_attention_mask=_left_mask(written),
                encoder_outputs=transformers.modeling_outputs.BaseModelOutput(last_hidden_state=states),
                attention_mask=mask,
                past_key_values=self._cache,
                return_dict=True,
                **self._more,
            )
        return _last(outputs)


class _Positions:
    """
    A decoder's vectors of positions, for rows that began at different columns.

    A network counts positions from the column at which its longest row began. What its table gives for each is kept,
    and rows that began later are given what the others got when they were as long.

    :param table: the module that gives them: [positions, width], alike for all rows; None where the network has none.
    """

    def __init__(self, table: Any) -> None:
        self._table = table
        self._seen: torch.Tensor | None = None

    @contextlib.contextmanager
    def of(self, written: Lengths, new: int) -> Iterator[None]:
        """
        Let a forward of the last ``new`` columns of rows find each row's own positions.

        :raises TypeError: the table gives no vectors alike for all rows.
        """
        if self._table is None:
            yield
            return

        def found(_module: Any, _arguments: Any, vectors: torch.Tensor) -> torch.Tensor:
            flat = vectors.reshape(-1, vectors.shape[-1])
            if len(flat) != new:
                raise TypeError("the positions of a row depend on its tokens")
            before = flat[:0] if self._seen is None else self._seen
            known = written.longest - new  # no row was ever longer than one that is, or has been, there
            self._seen = torch.cat([before, flat[len(before) - known :]]) if written.longest > len(before) else before
            if written.shortest == written.longest:
                return vectors
            return self._seen[written.there - 1][:, None]

        hook = self._table.register_forward_hook(found)
        try:
            yield
        finally:
            hook.remove()


def by_tokens(lengths: Sequence[int], budget: int) -> list[slice]:
    """
    Cut a batch, as it lies, into parts of at most so many tokens with their padding, or of one row.

    >>> by_tokens([4, 3, 3, 9], 8)
    [slice(0, 2, None), slice(2, 3, None), slice(3, 4, None)]
    """
    parts = []
    start = longest = 0
    for place, length in enumerate(lengths):
        longest = max(longest, length)
        if place > start and longest * (place - start + 1) > budget:
            parts.append(slice(start, place))
            start, longest = place, length
    return [*parts, slice(start, len(lengths))]


def _left_mask(lengths: Lengths) -> torch.Tensor | None:
    """Return the mask of rows that all end at one column; None where all are as long: attention is faster without."""
    if lengths.shortest == lengths.longest:
        return None
    columns = torch.arange(lengths.longest, device=lengths.there.device)
    return (columns >= lengths.longest - lengths.there[:, None]).to(torch.int64)


def span_of(rows: Sequence[int]) -> slice:
    """Return a slice of rows that stand side by side, as those do that join together: no index need be copied."""
    return slice(rows[0], rows[-1] + 1)


def _beginning(prompts: torch.Tensor, lengths: Lengths, *, at_least: int) -> int:
    """
    Count the tokens that all prompts begin with, none where they are few; of each prompt at least one is left over.

    >>> _beginning(torch.tensor([[5, 6, 7, 8], [0, 5, 6, 9]]), Lengths.of([4, 3], torch.device("cpu")), at_least=2)
    2
    """
    shortest = lengths.shortest
    starts = (prompts.shape[1] - lengths.there)[:, None] + torch.arange(shortest, device=prompts.device)
    tokens = prompts.gather(1, starts)
    shared = int((tokens == tokens[0]).all(dim=0).int().cumprod(dim=0).sum())
    return min(shared, shortest - 1) if len(prompts) > 1 and min(shared, shortest - 1) >= at_least else 0


def _move(layers: Iterable[GrowingLayer], order: Sequence[int], device: torch.device) -> None:
    moved = [(place, before) for place, before in enumerate(order) if place != before]
    if moved:
        holes, sources = (index_of(rows, device) for rows in zip(*moved, strict=True))
        for layer in layers:
            layer.move(holes, sources)


def _known(others: dict[str, Any], unread: set[str]) -> dict[str, Any]:
    """
    Return what else ``generate`` hands to each forward.

    :raises TypeError: it holds something for each row that this loop does not know how to take apart.
    """
    known: dict[str, Any] = {name: others[name] for name in ("use_cache", "logits_to_keep") if name in others}
    unknown = {name for name, value in others.items() if value is not None} - set(known) - unread
    if unknown:
        raise TypeError(f"the network is handed {', '.join(sorted(unknown))}, too")
    return known


def _last(outputs: Any) -> torch.Tensor:
    # A copy: the logits of a whole prompt would else stay in memory for as long as those of its last token.
    logits: torch.Tensor = outputs.logits[:, -1].to(copy=True, dtype=torch.float32)
    return logits
