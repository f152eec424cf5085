"""
Generation step by step in which a row that has ended leaves the batch, and another one takes its place.

``generate`` takes such a loop through its public ``custom_generate``, and does everything else itself: it merges the
settings, runs the encoder, makes the processors of logits and the criteria of stopping. So a row gets the tokens that
``generate`` would have given it; what changes is who else is there. With the rows go their keys and values, and the
padding that only they needed: to the left of prompts, behind the texts that an encoder read.

Prompts are read some at a time, so that a long batch stays in the processor's caches, and a beginning that all of them
share is read once. Where more rows were given than there are places, they wait until some have left.

The loop drives the network itself and needs the plain cache (:mod:`.growing_cache`), so it is used where it was seen
to give the same numbers when the network was loaded (:mod:`.loop_proof`), with settings under which a row's tokens
depend on nothing but itself (:class:`~.generation_settings.GenerationSettings` tells).

Once a step it waits for the device, to see who has ended. All else that it decides on is known in main memory.

A processor or criterion that holds something per row has ``turn_to(rows)``: which rows of the batch are there now.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from airflow_provider_hfreg.inference.frameworks import torch, transformers
from airflow_provider_hfreg.inference.growing_cache import GrowingLayer, Room, cache_of, plain_layers
from airflow_provider_hfreg.inference.transfer import Lengths, index_of

# Tokens: what fits a processor's caches, as with encoders, and what fills an accelerator (a judgement, not measured).
_AT_ONCE, _AT_ONCE_ELSEWHERE = 2_048, 16_384
_SHARED = 16  # tokens of a beginning that are worth being read apart
_FREE = 8  # one in so many places must be free before prompts are read for them


class DecodeLoop:
    """
    One call of ``generate``; see the module.

    :param places: rows that may be there at a time, where the network goes on from prompts; None for all. Where rows
        wait, no processor may count on how many tokens others have.
    :param shared: tokens that all prompts must begin with for them to be read once.
    :param at_once: tokens of prompts to read at a time, padding and all.
    :param check: called before each such part; may raise.
    :ivar lengths: after the call, how many new tokens each row has, its end token included.
    :ivar padded_tokens: of all prompts, with the padding among which they were read.
    """

    def __init__(
        self,
        places: int | None = None,
        *,
        shared: int = _SHARED,
        at_once: int = _AT_ONCE,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._places, self._shared, self._at_once, self._check = places, shared, at_once, check
        self.lengths: list[int] = []
        self.padded_tokens = 0

    def arguments(self, network: Any, inputs: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """Return what ``generate`` is given beside the inputs: the loop, and texts that an encoder has read."""
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        lengths = mask.sum(dim=1).tolist()
        parts = by_tokens(lengths, self._at_once)
        self.padded_tokens = sum(max(lengths[part]) * len(lengths[part]) for part in parts)
        if not network.config.is_encoder_decoder:
            return {"custom_generate": self}
        encoder = network.get_encoder()
        read = []
        for part in parts:
            self._check()
            longest = max(lengths[part])
            states = encoder(input_ids=ids[part, :longest], attention_mask=mask[part, :longest])[0]
            read.append(torch.nn.functional.pad(states, (0, 0, 0, ids.shape[1] - longest)))
        states = transformers.modeling_outputs.BaseModelOutput(last_hidden_state=torch.cat(read))
        return {"custom_generate": self, "encoder_outputs": states}

    def __call__(
        self,
        model: Any,
        input_ids: torch.Tensor,
        logits_processor: Any,
        stopping_criteria: Any,
        generation_config: Any,
        **inputs: Any,
    ) -> torch.Tensor:
        """Return prompts and new tokens, padded, as ``generate`` does."""
        width = input_ids.shape[1]
        places = len(input_ids)
        new_tokens = stopping_criteria.max_length - width
        if model.config.is_encoder_decoder:
            network: _Network = _EncoderDecoder(
                model, input_ids, new_tokens=new_tokens, at_once=self._at_once, check=self._check, **inputs
            )
        else:
            places = min(self._places or places, places)
            network = _Decoder(
                model,
                input_ids,
                places=places,
                new_tokens=new_tokens,
                shared=self._shared,
                at_once=self._at_once,
                check=self._check,
                **inputs,
            )
        # Rows that waited have fewer tokens than the tensor has columns: each row's own are counted instead.
        criteria = transformers.StoppingCriteriaList(
            each for each in stopping_criteria if not isinstance(each, transformers.MaxLengthCriteria)
        )
        table = _Table(input_ids, new_tokens)
        told = [each for each in (*logits_processor, *criteria) if hasattr(each, "turn_to")]
        while table.rows or table.waiting:
            scores = [network.step(table.ids[:, -1:])] if table.rows else []
            free = places - len(table.rows)
            if table.waiting and free >= max(1, places // _FREE):
                scores.append(network.admit(table.admit(free)))
            for each in told:
                each.turn_to(table.rows)
            table.write(logits_processor(table.ids, torch.cat(scores)).argmax(dim=-1))
            order = table.leave(criteria(table.ids, None))
            if order is not None:
                network.keep(order)
        self.lengths = [len(text) for text in table.texts]
        new = torch.nn.utils.rnn.pad_sequence(
            table.texts, batch_first=True, padding_value=generation_config.pad_token_id or 0
        )
        return torch.cat([input_ids, new], dim=1)


class _Table:
    """
    Who waits, who is there with which tokens, and what those that have left wrote.

    :ivar rows: of the batch, in the order of their places.
    :ivar ids: all tokens of those, with one end: [rows, columns].
    :ivar texts: new tokens of each row of the batch, once it has left.
    """

    def __init__(self, input_ids: torch.Tensor, new_tokens: int) -> None:
        self._prompts = input_ids
        self._new_tokens = new_tokens
        self.waiting = list(range(len(input_ids)))
        self.rows: list[int] = []
        self.ids = input_ids[:0]
        self._written: list[int] = []
        self.texts = [input_ids[0, :0]] * len(input_ids)

    def admit(self, count: int) -> list[int]:
        """Let the next rows in, and return them."""
        new, self.waiting = self.waiting[:count], self.waiting[count:]
        prompts = self._prompts[_span(new)]
        padding = prompts.new_zeros(len(new), self.ids.shape[1] - prompts.shape[1])
        self.ids = torch.cat([self.ids, torch.cat([padding, prompts], dim=1)])
        self._written += [0] * len(new)
        self.rows += new
        return new

    def write(self, tokens: torch.Tensor) -> None:
        """Take in the next token of each row."""
        self.ids = torch.cat([self.ids, tokens[:, None]], dim=1)
        self._written = [count + 1 for count in self._written]

    def leave(self, ended: torch.Tensor) -> list[int] | None:
        """Take out the rows that have ended; return which place each other one had, None where nobody left."""
        over = [
            is_over or count >= self._new_tokens for is_over, count in zip(ended.tolist(), self._written, strict=True)
        ]
        if not any(over):
            return None
        for place, row in enumerate(self.rows):
            if over[place]:
                self.texts[row] = self.ids[place, -self._written[place] :].clone()  # and not the table of all
        order = order_without(over)
        self.rows = [self.rows[place] for place in order]
        self.ids = self.ids[index_of(order, self.ids.device)]
        self._written = [self._written[place] for place in order]
        return order


class _Network(Protocol):
    """A network with the rows that it is at; logits are float32 [rows, vocabulary], of each row's next token."""

    def admit(self, rows: Sequence[int]) -> torch.Tensor:
        """Read the prompts of these rows of the batch and return their logits; they stand behind those before."""

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Read one more token of each row, [rows, 1], and return the logits."""

    def keep(self, order: Sequence[int]) -> None:
        """Go on with the rows that were at these places."""


class _Decoder:
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
        check: Callable[[], None],
        past_key_values: Any,
        attention_mask: torch.Tensor | None = None,
        **others: Any,
    ) -> None:
        self._model, self._at_once, self._check = model, at_once, check
        self._prompts = input_ids
        rows, width = input_ids.shape
        mask = input_ids.new_ones(rows, width) if attention_mask is None else attention_mask
        self._prompt_lengths = Lengths.counted(mask)
        self._room = Room(past_key_values, places, width, new_tokens)
        self._cache = cache_of(self._room.layers)
        self._lengths = self._prompt_lengths.at(slice(0))  # of the rows that are there: prompt and what follows
        self._counts = "position_ids" in inspect.signature(model.forward).parameters
        self._more = _known(others, {"position_ids"})
        self._beginning = _beginning(input_ids, self._prompt_lengths, at_least=shared)  # tokens that all share
        self._read_once: list[tuple[torch.Tensor, torch.Tensor]] = []  # their keys and values, by layer

    def admit(self, rows: Sequence[int]) -> torch.Tensor:
        if self._beginning and not self._read_once:
            self._read_beginning()
        groups = by_tokens((self._prompt_lengths.here[rows] - self._beginning).tolist(), self._at_once)
        return torch.cat([self._read(rows[group]) for group in groups])

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        self._room.advance(slice(0, len(tokens)), held=self._lengths.longest)
        self._lengths = self._lengths.plus(1)
        return self._forward(tokens, self._lengths)

    def keep(self, order: Sequence[int]) -> None:
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
        lengths = self._prompt_lengths.at(_span(rows))
        known = self._beginning
        new = lengths.longest - known
        there = slice(len(self._lengths), len(self._lengths) + len(rows))
        self._lengths = self._lengths.and_those_of(lengths)
        self._room.clear(there)
        between = self._room.open(there, held=known, new=new)
        if known:
            # A row that is shorter by so many columns has its beginning end so many columns earlier.
            places = torch.arange(known, device=self._prompts.device) - known + (lengths.there - new)[:, None]
            for layer, states in zip(self._room.layers, self._read_once, strict=True):
                layer.put(there, between, states, places)
        return self._forward(self._prompts[_span(rows), -new:], lengths)

    def _forward(self, tokens: torch.Tensor, lengths: Lengths) -> torch.Tensor:
        """
        Run the last columns of rows.

        :param tokens: [rows, columns].
        :param lengths: of the rows, these columns among them.
        """
        new = tokens.shape[1]
        columns, of_each = lengths.longest, lengths.there[:, None]
        # Without any padding a mask says nothing, and attention is faster without one.
        mask = None
        if lengths.shortest < columns:
            mask = (torch.arange(columns, device=tokens.device) >= columns - of_each).to(torch.int64)
        more = dict(self._more)
        if self._counts:
            more["position_ids"] = (of_each - new + torch.arange(new, device=tokens.device)).clamp(min=0)
        return _last(
            self._model(input_ids=tokens, attention_mask=mask, past_key_values=self._cache, return_dict=True, **more)
        )


class _EncoderDecoder:
    """A network that answers texts, padded behind their ends; all rows are there from the first step on."""

    def __init__(
        self,
        model: Any,
        input_ids: torch.Tensor,
        *,
        new_tokens: int,
        at_once: int,
        check: Callable[[], None],
        past_key_values: Any,
        encoder_outputs: Any,
        attention_mask: torch.Tensor,
        **others: Any,
    ) -> None:
        self._model, self._at_once, self._check = model, at_once, check
        self._starts = input_ids
        self._states = encoder_outputs[0]
        self._lengths = Lengths.counted(attention_mask)  # of the texts
        rows, width = attention_mask.shape
        self._room = Room(past_key_values.self_attention_cache, rows, input_ids.shape[1], new_tokens)
        self._texts = [GrowingLayer(rows, width) for _ in plain_layers(past_key_values.cross_attention_cache)]
        for layer in self._texts:
            layer.use(slice(0, rows), 0, 0)
        self._cache = transformers.EncoderDecoderCache(cache_of(self._room.layers), cache_of(self._texts))
        self._written = input_ids.shape[1]
        self._more = _known(others, set())

    def admit(self, rows: Sequence[int]) -> torch.Tensor:
        """All of them: the first step makes keys and values of the texts, part by part as those were read."""
        logits = []
        for part in by_tokens(self._lengths.here.tolist(), self._at_once):
            self._check()
            self._room.open(part, held=0, new=self._written)
            for layer in self._texts:
                layer.use(part, 0, 0)
            self._cache.is_updated = dict.fromkeys(range(len(self._texts)), False)
            logits.append(self._forward(self._starts[part], part))
        self._read_texts_of(len(rows))
        return torch.cat(logits)

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        rows = slice(0, len(tokens))
        self._room.advance(rows, held=self._written)
        self._written += 1
        return self._forward(tokens, rows)

    def keep(self, order: Sequence[int]) -> None:
        self._room.open(slice(0, len(self._lengths)), held=self._written, new=0)
        _move((*self._room.layers, *self._texts), order, self._states.device)
        self._lengths, self._states = self._lengths.at(order), self._states[index_of(order, self._states.device)]
        self._read_texts_of(len(order))

    def _read_texts_of(self, rows: int) -> None:
        for layer in self._texts:
            layer.use(slice(0, rows), 0, self._lengths.longest)

    def _forward(self, tokens: torch.Tensor, rows: slice) -> torch.Tensor:
        lengths = self._lengths.at(rows)
        longest = lengths.longest
        mask = (torch.arange(longest, device=tokens.device) < lengths.there[:, None]).to(torch.int64)
        states = self._states[rows, :longest]
        return _last(
            self._model(
                decoder_input_ids=tokens,
                encoder_outputs=transformers.modeling_outputs.BaseModelOutput(last_hidden_state=states),
                attention_mask=mask,
                past_key_values=self._cache,
                return_dict=True,
                **self._more,
            )
        )


def at_once_on(device: torch.device) -> int:
    """Return how many tokens of prompts to read at a time on a device."""
    return _AT_ONCE if device.type == "cpu" else _AT_ONCE_ELSEWHERE


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


def order_without(ended: Sequence[bool]) -> list[int]:
    """
    Return which place each row that stays had: most keep theirs, the last ones fill those that are free.

    >>> order_without([False, True, False, True, False])
    [0, 4, 2]
    """
    staying = [place for place, is_over in enumerate(ended) if not is_over]
    count = len(staying)
    last = reversed([place for place in staying if place >= count])
    return [next(last) if ended[place] else place for place in range(count)]


def _span(rows: Sequence[int]) -> slice:
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
