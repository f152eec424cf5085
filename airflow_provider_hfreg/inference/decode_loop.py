"""
Generation step by step in which a row that has ended leaves the batch, and another one takes its place.

``generate`` takes such a loop through its public ``custom_generate``, and does everything else itself: it merges the
settings, makes the processors of logits and the criteria of stopping. So a row gets the tokens that ``generate`` would
have given it; what changes is who else is there. With the rows go their keys and values, and the padding that only they
needed: to the left of prompts, behind the texts that an encoder read. Where more rows were given than there are places,
they wait until some have left. What the networks do of it, :mod:`.loop_networks` says.

The loop drives the network itself and needs the plain cache (:mod:`.growing_cache`), so it is used where it was seen
to give the same numbers when the network was loaded (:mod:`.loop_proof`), with settings under which a row's tokens
depend on nothing but itself (:class:`~.generation_settings.GenerationSettings` tells).

Once a step it waits for the device, to see who has ended. All else that it decides on is known in main memory.

A processor or criterion that holds something per row has ``turn_to(rows)``: which rows of the batch are there now.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from airflow_provider_hfreg.inference.frameworks import torch, transformers
from airflow_provider_hfreg.inference.loop_networks import Decoder, EncoderDecoder, Network, span_of
from airflow_provider_hfreg.inference.transfer import index_of

# Tokens: what fits a processor's caches, as with encoders, and what fills an accelerator (a judgement, not measured).
_AT_ONCE, _AT_ONCE_ELSEWHERE = 2_048, 16_384
_SHARED = 16  # tokens of a beginning that are worth being read apart
_FREE = 8  # one in so many places must be free before prompts are read for them


class DecodeLoop:
    """
    One call of ``generate``; see the module.

    :param places: rows that may be there at a time; None for all. Where rows wait, no processor may count on how many
        tokens others have.
    :param shared: tokens that all prompts must begin with for them to be read once.
    :param at_once: tokens of prompts to read at a time, padding and all.
    :param filling: keys and values of padding, which a mask hides.
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
        filling: float = 0.0,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._places, self._shared, self._at_once, self._filling, self._check = places, shared, at_once, filling, check
        self.lengths: list[int] = []
        self.padded_tokens = 0

    def arguments(self, network: Any, inputs: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """Return what ``generate`` is given beside the inputs: the loop, and what keeps it from running an encoder."""
        if not network.config.is_encoder_decoder:
            return {"custom_generate": self}
        # The texts themselves, in place of what an encoder makes of them: each is read when it gets a place.
        unread = transformers.modeling_outputs.BaseModelOutput(last_hidden_state=inputs["input_ids"][..., None])
        return {"custom_generate": self, "encoder_outputs": unread}

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
        places = min(self._places or len(input_ids), len(input_ids))
        new_tokens = stopping_criteria.max_length - width
        kind = EncoderDecoder if model.config.is_encoder_decoder else Decoder
        network: Network = kind(
            model,
            input_ids,
            places=places,
            new_tokens=new_tokens,
            shared=self._shared,
            at_once=self._at_once,
            filling=self._filling,
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
        self.lengths, self.padded_tokens = [len(text) for text in table.texts], network.padded_tokens
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
        prompts = self._prompts[span_of(new)]
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


def at_once_on(device: torch.device) -> int:
    """Return how many tokens of prompts to read at a time on a device."""
    return _AT_ONCE if device.type == "cpu" else _AT_ONCE_ELSEWHERE


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
