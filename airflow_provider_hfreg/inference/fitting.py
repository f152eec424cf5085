"""
What makes a loaded network fast, each thing only where it was seen to give the same numbers here.

- Linear layers are prepacked where the network is on this processor and that is faster (:mod:`.prepacked`).
- Sequences are packed end to end (:mod:`.packed`), and tokens that nobody reads are left out of the last layer
  (:mod:`.arrangement`), for the architectures of two explicit lists.
- Where a network generates, rows that have ended leave their batch, and others take their places
  (:mod:`.decode_loop`).

One thing makes it slower: a network that was seen to read padding, or that could not be compared, runs texts of one
length together.

The lists say what can work, a comparison says what does: a handful of sequences through the fitted network against the
same ones, each alone and unpadded, through the network as it came. Whatever differs, or raises, is taken back with a
line in the log, and the network runs as any other does: padded. The lists alone would be a promise about releases of
transformers that nobody has seen; the comparison alone would trust a few short texts to show a sliding window.

Fitting changes the network's modules and its attention, so only the engine's own network is fitted; one that a user
gets to hold never is.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from airflow_provider_hfreg.inference.arrangement import Layout
from airflow_provider_hfreg.inference.batch import Batch
from airflow_provider_hfreg.inference.devices import check_device
from airflow_provider_hfreg.inference.forward import forwarder_for
from airflow_provider_hfreg.inference.frameworks import torch, transformers
from airflow_provider_hfreg.inference.loading import LoadedPipeline
from airflow_provider_hfreg.inference.loop_proof import (
    first_steps,
    known_tokens,
    scores_alone,
    scores_padded,
    scores_together,
)
from airflow_provider_hfreg.inference.packed import PACKED, Way, find_way, has_kernel, register
from airflow_provider_hfreg.inference.prepacked import is_worth_it, prepack
from airflow_provider_hfreg.inference.tables import encode_tables
from airflow_provider_hfreg.inference.tokenization import encode
from airflow_provider_hfreg.pipelines.base import Forward

_Numbers = Mapping[str, npt.NDArray[np.float64]]

log = logging.getLogger(__name__)

_PACKS = frozenset({"albert", "bert", "camembert", "distilbert", "electra", "roberta", "xlm-roberta"})
"""Model types whose attention asks transformers' interface, has no bias of its own, and hands on the lengths."""

_LAST: Mapping[str, str] = {
    **dict.fromkeys(
        ("bert", "camembert", "electra", "roberta", "xlm-roberta"), "encoder.layer.{last}.attention.output"
    ),
    "distilbert": "transformer.layer.{last}.sa_layer_norm",
    "mpnet": "encoder.layer.{last}.attention.LayerNorm",
}
"""Model types, and the module behind the last attention; their classifiers read the first token alone."""

_WHOLE: Mapping[str, str] = {"albert": "encoder"}  # its layers are one, so none of them is the last

_TRIALS: Mapping[Forward, Sequence[Mapping[str, Any]]] = {
    Forward.SEQUENCE_LOGITS: ({},),
    Forward.TOKEN_LOGITS: ({},),
    Forward.SPAN_LOGITS: ({},),
    Forward.MASK_LOGITS: ({"top_k": 10**9},),
    Forward.TABLE: ({},),
    Forward.EMBEDDING: ({"pooling": "mean", "normalize": False}, {"pooling": "cls", "normalize": False}),
}
"""The ways of a single pass, and the parameters under which they are compared."""

_WORDS = (17, 6, 6, 1, 0)  # of the texts of a comparison: two of about one length, and as few tokens as there can be
_TABLE = '{"a": ["b", "c"], "d": ["e", "f"]}'
_PREPACKED = "with prepacked linear layers"
_TOLERANCE = 1e-5  # of the largest number; coarser dtypes have theirs, some units in the last place
_UNITS = 8
_PADDING = 1e-3  # of the largest number: rounding among padding makes less, a position counted from padding far more
_ROUNDING = 1e-4  # of the largest number, at most: a token in a wrong place changes the scores by far more


def fitted(loaded: LoadedPipeline, *, prepacks: Callable[[Any], bool] = is_worth_it) -> LoadedPipeline:
    """
    Return a loaded model as fast as it was seen to be right; its network is changed and must be nobody else's.

    On an accelerator, too, but for its linear layers. A network that a short text turns to another attention for good
    (BigBird's) is left as it is. Whatever ends this before its end, an interrupt too, leaves the network as it came.

    :param prepacks: tells whether prepacked layers are faster for a network, here.
    :raises DeviceLostError: the device answers nothing any more.
    """
    if _has_switch(loaded.network):
        return loaded
    fit = _fitted_generator if loaded.task.forward is Forward.GENERATE else _fitted_encoder
    with contextlib.ExitStack() as undo:
        try:
            found = fit(loaded, prepacks, undo)
        except Exception as error:  # noqa: BLE001  as in a comparison: it runs as it came
            failed = error
        else:
            undo.pop_all()
            return found
    return _uncompared(loaded, failed)


def _fitted_encoder(
    loaded: LoadedPipeline, prepacks: Callable[[Any], bool], undo: contextlib.ExitStack
) -> LoadedPipeline:
    trials = _TRIALS[loaded.task.forward]
    try:
        together = _batch(loaded)
        alone = [_one(together, place) for place in range(len(together.streams))]
        expected = _outputs(loaded, trials, alone)
    except Exception as error:  # noqa: BLE001  it may need what no comparison gives it; a run will tell
        return _uncompared(loaded, error)

    def arranged(layout: Layout, how: str | None) -> LoadedPipeline | None:
        candidate = replace(loaded, layout=layout)
        with contextlib.ExitStack() as back:
            if layout.packed:
                _attend_packed(loaded.network, back)
            if _agrees(loaded, expected, lambda: _outputs(candidate, trials, [together]), how):
                undo.push(back.pop_all())
                return candidate
        return None

    layouts = list(_candidates(loaded))
    if loaded.device.type == "cpu" and prepacks(loaded.network):
        back = undo.callback(prepack(loaded.network))
        # Mostly all of it is right, which one pass tells; what is not is looked for then, one thing after the other.
        found = arranged(layouts[0], None) if layouts else None
        if found is not None:
            return found
        if not _agrees(loaded, expected, lambda: _outputs(loaded, trials, alone), _PREPACKED):
            back()
    for layout in layouts:
        found = arranged(
            layout, "with sequences end to end" if layout.packed else "with what is read of its last layer"
        )
        if found is not None:
            return found
    return _with_padding(loaded, expected, lambda: _outputs(loaded, trials, [together]))


def _fitted_generator(
    loaded: LoadedPipeline, prepacks: Callable[[Any], bool], undo: contextlib.ExitStack
) -> LoadedPipeline:
    try:
        expected = scores_alone(loaded)
        among_padding = scores_padded(loaded)
        rounding = _difference(expected, among_padding)
    except Exception as error:  # noqa: BLE001  it may need what no comparison gives it; a run will tell
        return _uncompared(loaded, error)
    loaded = _with_padding(loaded, first_steps(expected), lambda: first_steps(among_padding))
    if loaded.device.type == "cpu" and prepacks(loaded.network):
        back = undo.callback(prepack(loaded.network))
        if not _agrees(loaded, expected, lambda: scores_alone(loaded), _PREPACKED):
            back()
    # What runs otherwise are padded batches: how far rounding carries those is no fault, as long as it is rounding.
    rounding = min(2 * rounding, _ROUNDING) if rounding >= 0 else 0.0
    if _depends_on_longest(loaded.network):
        return loaded

    def agrees(how: str | None, *, waiting: bool) -> bool:
        return _agrees(loaded, expected, lambda: scores_together(loaded, waiting=waiting), how, rounding)

    # Mostly all of it is right; where rows cannot begin after others, they may still leave.
    waits = agrees(None, waiting=True)
    return replace(
        loaded, rows_wait=waits, rows_leave=waits or agrees("with rows that leave their batch", waiting=False)
    )


def _uncompared(loaded: LoadedPipeline, error: Exception) -> LoadedPipeline:
    check_device(error)
    name = type(loaded.network).__name__
    log.warning("%s cannot be compared and is run as it is, texts of one length together: %s", name, error)
    return replace(loaded, reads_padding=True)


def _with_padding(loaded: LoadedPipeline, expected: _Numbers, run: Callable[[], _Numbers]) -> LoadedPipeline:
    """
    Return the model, told whether padding changes its numbers.

    :param run: gives the same numbers among padding.
    """
    try:
        carried = _difference(expected, run())
    except Exception as error:  # noqa: BLE001  as above
        return _uncompared(loaded, error)
    if carried <= max(_PADDING, _limit(loaded)):  # which NaN is not
        return loaded
    log.warning("%s reads padding: texts run with others of their length alone", type(loaded.network).__name__)
    return replace(loaded, reads_padding=True)


def _has_switch(network: Any) -> bool:
    """Tell whether a short text turns the network to another attention for good (BigBird's): it is not tried then."""
    return any(getattr(module, "attention_type", None) == "block_sparse" for module in network.modules())


def _depends_on_longest(network: Any) -> bool:
    """Tell whether positions mean something else where a longer text is there: what was read before is not as after."""
    kinds = [getattr(module, "rope_type", None) for module in network.modules()]
    flat = [kind for each in kinds for kind in (each.values() if isinstance(each, Mapping) else [each])]
    return any(isinstance(kind, str) and ("dynamic" in kind or kind == "longrope") for kind in flat)


def _attend_packed(network: Any, back: contextlib.ExitStack) -> None:
    """Switch the network to the attention of the packed layout, and let ``back`` undo it."""
    register()
    own = network.config._attn_implementation  # noqa: SLF001  there is no public name to read it by
    back.callback(network.set_attn_implementation, own)
    network.set_attn_implementation(PACKED)


def _candidates(loaded: LoadedPipeline) -> Iterator[Layout]:
    """Yield the layouts of the lists, the fastest first; the plain one needs no proof."""
    network, kind = loaded.network, loaded.network.config.model_type
    if not type(network).__module__.startswith("transformers.") or getattr(network.config, "is_decoder", False):
        return  # a class of one's own may call itself a BERT, and a decoder reads from left to right
    last = _last_module(network, kind)
    if last is None:
        return
    if kind in _PACKS and _may_switch_attention(loaded) and (way := _way(loaded)) is not None:
        yield Layout(packed=True, way=way, last=last, whole=kind in _WHOLE)
    if kind in _LAST:
        yield Layout(last=last)


def _way(loaded: LoadedPipeline) -> Way | None:
    """Return how packed sequences would attend on the model's device, None where padded ones are the better choice."""
    network, device = loaded.network, loaded.device
    head_size = network.config.hidden_size // network.config.num_attention_heads
    return find_way(device.type, network.dtype, head_size, has_kernel=has_kernel(device))


def _last_module(network: Any, kind: str) -> str | None:
    pattern = _WHOLE.get(kind) or _LAST.get(kind)
    if pattern is None:
        return None
    within = "" if network.base_model is network else f"{network.base_model_prefix}."
    return within + pattern.format(last=network.config.num_hidden_layers - 1)


def _may_switch_attention(loaded: LoadedPipeline) -> bool:
    """Tell whether nobody chose another attention than the packed one computes, and the family has the interface."""
    computes_alike = loaded.network.config._attn_implementation == "sdpa"  # noqa: SLF001  as above
    return computes_alike and not transformers.__version__.startswith("4.")


def _outputs(loaded: LoadedPipeline, trials: Sequence[Mapping[str, Any]], batches: Sequence[Batch]) -> _Numbers:
    """Return all floating-point numbers that the batches give, by name, in the order of the sequences."""
    found: dict[str, list[npt.NDArray[Any]]] = {}
    for number, settings in enumerate(trials):
        forwarder = forwarder_for(loaded, replace(loaded.context, parameters=settings), seed=0)
        for outputs in map(forwarder.run, batches):
            arrays = {**outputs.values, **{name: ragged.values for name, ragged in outputs.ragged.items()}}
            for name, values in arrays.items():
                if np.issubdtype(values.dtype, np.floating):
                    found.setdefault(f"{number} {name}", []).append(values.ravel())
    return {name: np.concatenate(parts).astype(np.float64) for name, parts in found.items()}


def _agrees(
    loaded: LoadedPipeline, expected: _Numbers, run: Callable[[], _Numbers], how: str | None, rounding: float = 0.0
) -> bool:
    """
    Tell whether a way to run gives the numbers that each sequence gave alone, before; say so in the log if not.

    :param how: for the log; None: it is not said.
    :param rounding: difference that is known to mean nothing.
    """
    name = type(loaded.network).__name__
    limit = max(rounding, _limit(loaded))
    try:
        difference = _difference(expected, run())
    except Exception as error:  # noqa: BLE001  whatever a network raises at this, it cannot be run so
        check_device(error)
        if how is not None:
            log.warning("%s cannot be run %s and is run without: %s: %s", name, how, type(error).__name__, error)
        return False
    if difference <= limit:
        return True
    if how is not None:
        log.warning("%s differs by %.1e (of %.0e allowed) %s and is run without", name, difference, limit, how)
    return False


def _limit(loaded: LoadedPipeline) -> float:
    """Return the difference that rounding alone may make."""
    return float(max(_TOLERANCE, _UNITS * torch.finfo(loaded.network.dtype).eps))


def _difference(expected: _Numbers, found: _Numbers) -> float:
    """
    Return the largest difference, as a share of the largest number beside it.

    >>> _difference({"logits": np.array([1.0, -4.0])}, {"logits": np.array([1.0, -3.0])})
    0.25

    :raises ValueError: there are other numbers, or as many of them.
    """
    shares = [
        np.abs(values - found[name]).max(initial=0.0) / max(np.abs(values).max(initial=0.0), 1e-30)
        for name, values in expected.items()
    ]
    return float(np.max(shares, initial=0.0))  # NaN where there is one, as max() is not


def _batch(loaded: LoadedPipeline) -> Batch:
    """Return texts of the tokenizer's own words, encoded as a task's are: masks in all, a second text in the first."""
    tokenizer = loaded.tokenizer
    drawn = np.random.default_rng(0).integers(known_tokens(loaded), size=sum(_WORDS)).tolist()
    words = [word or "" for word in tokenizer.convert_ids_to_tokens(drawn)]  # an id may have no token
    mask = [] if tokenizer.mask_token is None else [tokenizer.mask_token]
    texts = pa.array([" ".join([*mask, *words[:count], *words[-count:]]) for count in _WORDS], pa.string())
    if loaded.task.forward is Forward.TABLE:
        texts = pa.array(["the cell", "b"])
        encoded = encode_tables(tokenizer, texts, pa.array([_TABLE] * len(texts)), {"truncation": "drop_rows_to_fit"})
    else:
        second = pa.array([" ".join(words[: _WORDS[0]]), *[None] * (len(texts) - 1)], pa.string())
        encoded = encode(tokenizer, texts, second, {"truncation": True}, limit=loaded.token_limit)
    some = np.flatnonzero(encoded.lengths)  # a text without a token fails, whatever runs beside it
    return Batch({name: ragged.take(some) for name, ragged in encoded.columns.items()}, [(0, 0)] * len(some))


def _one(batch: Batch, place: int) -> Batch:
    one = np.array([place])
    return Batch({name: ragged.take(one) for name, ragged in batch.columns.items()}, [batch.streams[place]])
