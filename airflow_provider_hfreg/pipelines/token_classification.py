"""
``token-classification``, also called ``ner``: the labels of a text's tokens, or of the entities that they make.

A row gives ``outputs``, the JSON list of its labelled tokens (``entity``, ``score``, ``index``, ``word``, ``start``,
``end``) or, with an ``aggregation_strategy``, of its entities (``entity_group``, ``score``, ``word``, ``start``,
``end``), in the order of the text; ``[]`` where nothing is found. Labels in ``ignore_labels`` (``O`` unless given) are
left out. ``start`` and ``end`` count characters of the text; tokenizers written in Python do not know them: null.

A text longer than the model reads is cut at its end, as the pipeline does; with ``stride`` it is read in overlapping
sequences instead, and nothing is lost. Strings are made only for what is given back, not for every token.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airflow_provider_hfreg.errors import UnknownParameterError, UnsupportedPipelineError
from airflow_provider_hfreg.pipelines.arguments import plain_arguments
from airflow_provider_hfreg.pipelines.base import (
    Forward,
    IntArray,
    Outputs,
    PipelineTask,
    Results,
    Sequences,
    TaskContext,
    TokenFact,
)
from airflow_provider_hfreg.pipelines.entities import (
    BoolArray,
    Spans,
    grouped,
    tokens_as_spans,
    without_overlaps,
    words_as_spans,
)
from airflow_provider_hfreg.pipelines.generation import with_defaults
from airflow_provider_hfreg.pipelines.objects import object_lists
from airflow_provider_hfreg.pipelines.ragged import Ragged
from airflow_provider_hfreg.pipelines.scores import Scores, label_names, not_a_number, softmax
from airflow_provider_hfreg.signatures.features import DataType, FeatureSpec, ParamSpec
from airflow_provider_hfreg.signatures.signature import ModelSignature

_INPUTS = (FeatureSpec("inputs", DataType.STRING),)
_OUTPUTS = (FeatureSpec("outputs", DataType.STRING),)
_PLACE = [("start", pa.int64()), ("end", pa.int64())]
_TOKENS = pa.list_(
    pa.struct([("entity", pa.string()), ("score", pa.float64()), ("index", pa.int64()), ("word", pa.string()), *_PLACE])
)
_ENTITIES = pa.list_(
    pa.struct([("entity_group", pa.string()), ("score", pa.float64()), ("word", pa.string()), *_PLACE])
)
_PARAMS = (
    ParamSpec("aggregation_strategy", DataType.STRING),
    ParamSpec("ignore_labels", DataType.STRING, shape=(-1,)),
    ParamSpec("stride", DataType.INT64),
)
_BY_WORDS = ("first", "average", "max")
_STRATEGIES = ("none", "simple", *_BY_WORDS)


class TokenClassification(PipelineTask):
    """See the module."""

    name: ClassVar[str] = "token-classification"
    aliases: ClassVar[tuple[str, ...]] = ("ner",)
    auto_class: ClassVar[str] = "AutoModelForTokenClassification"
    heads: ClassVar[tuple[str, ...]] = ("ForTokenClassification",)
    forward: ClassVar[Forward] = Forward.TOKEN_LOGITS
    arguments: ClassVar[frozenset[str]] = frozenset({spec.name for spec in _PARAMS})

    def signature(self, parameters: Mapping[str, Any]) -> ModelSignature:
        """Return the signature, which is the same for every strategy."""
        _strategy(parameters)
        return ModelSignature(_INPUTS, _OUTPUTS, with_defaults(_PARAMS, parameters))

    def structs(
        self,
        parameters: Mapping[str, Any],
        generation: Mapping[str, Any],  # noqa: ARG002  other tasks generate
    ) -> Mapping[str, pa.DataType]:
        """Return the type of the tokens or of the entities."""
        return {"outputs": _objects(_strategy(parameters))}

    def parameters_of(
        self, preprocess: Mapping[str, Any], forward: Mapping[str, Any], postprocess: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the factory's arguments; the pipeline keeps ``stride`` among those of the tokenizer."""
        given = {**preprocess, **forward, **postprocess}
        for name in ("is_split_into_words", "offset_mapping"):
            if given.pop(name, None):
                raise UnsupportedPipelineError(
                    f"The {self.name} pipeline was built with {name}, which takes lists of words or offsets, and the "
                    "column `inputs` holds texts. Build it without."
                )
        given.pop("delimiter", None)  # of words
        stride = given.pop("tokenizer_params", {}).get("stride")
        return plain_arguments(given if stride is None else {**given, "stride": stride})

    def preprocess(self, rows: pa.RecordBatch, context: TaskContext) -> Sequences:
        """Return one text per row."""
        by_words = _strategy(context.parameters) in _BY_WORDS
        return Sequences(
            row=np.arange(rows.num_rows, dtype=np.int64),
            text=rows.column("inputs"),
            encoding={"truncation": True, **_overflow(context, needs_fast=by_words)},
            facts=frozenset({TokenFact.SPECIAL, TokenFact.CHARACTERS}),
        )

    def postprocess(self, outputs: Outputs, rows: pa.RecordBatch, context: TaskContext) -> Results:
        """Return each row's labelled tokens or entities; a row whose scores are no numbers is an error."""
        tokens = _tokens(outputs, rows, context)
        bad = np.unique(tokens.row[np.isnan(tokens.scores).any(axis=-1)])
        strategy, labels = (
            _strategy(context.parameters),
            [str(name) for name in label_names(context.config, tokens.scores.shape[1])],
        )
        names = labels if strategy == "none" else [label.split("-", 1)[-1] for label in labels]
        ignored = _ignored(context.parameters)
        found = _spans(tokens, strategy, labels)
        shown = ~np.isin(tokens.row[found.first], bad) & np.array([name not in ignored for name in names])[found.label]
        found = _merged(found.take(shown), tokens, outputs.row)
        row = np.setdiff1d(outputs.row, bad)
        counts = np.bincount(np.searchsorted(row, tokens.row[found.first]), minlength=len(row))
        offsets = np.concatenate([np.zeros(1, np.int32), np.cumsum(counts, dtype=np.int32)])
        values = _values(found, tokens, names, strategy)
        lists = object_lists(_objects(strategy), values, offsets, context.output_format)
        return Results(row, {"outputs": lists}, not_a_number(bad.tolist()))


def _strategy(parameters: Mapping[str, Any]) -> str:
    """
    Return the strategy in lower case.

    :raises UnknownParameterError: there is no such one, or it cannot be had with ``stride``.
    """
    given = parameters.get("aggregation_strategy")
    strategy = "none" if given is None else str(given).lower()
    if strategy not in _STRATEGIES:
        raise UnknownParameterError(f"aggregation_strategy is {given!r}; it must be one of {', '.join(_STRATEGIES)}.")
    if given is not None and strategy == "none" and parameters.get("stride") is not None:
        raise UnknownParameterError(
            "stride joins what overlapping parts of a text gave, and aggregation_strategy 'none' gives single tokens. "
            f"Set another one ({', '.join(_STRATEGIES[1:])}) or leave stride out."
        )
    return strategy


def _overflow(context: TaskContext, *, needs_fast: bool) -> dict[str, Any]:
    """Return what makes a long text several sequences, where that is asked for."""
    stride = context.parameters.get("stride")
    fast = bool(getattr(context.tokenizer, "is_fast", False))
    if not fast and (needs_fast or stride is not None):
        raise UnknownParameterError(
            "This model's tokenizer is written in Python and tells no places of words in the text: stride and the "
            f"aggregation strategies {', '.join(_BY_WORDS)} need a fast tokenizer. Set aggregation_strategy 'simple'."
        )
    if stride is None:
        return {}
    if not 0 <= stride < context.tokenizer.model_max_length:
        raise UnknownParameterError(
            f"stride is {stride}; it must be less than the {context.tokenizer.model_max_length} tokens that the "
            "tokenizer gives to a sequence, and not below 0."
        )
    return {"stride": stride, "return_overflowing_tokens": True}


def _ignored(parameters: Mapping[str, Any]) -> frozenset[str]:
    given = parameters.get("ignore_labels")
    return frozenset(["O"] if given is None else [given] if isinstance(given, str) else given)


@dataclass(frozen=True)
class _Tokens:
    """
    The tokens of a window that are not special.

    :param row: int64 [tokens], ascending; ``starts_sequence``: the token is the first of its sequence.
    :param index: int64 [tokens]: its place in its sequence, special tokens counted.
    :param characters: int64 [tokens, 2] in the row's text; None where the tokenizer does not know.
    """

    row: IntArray
    starts_sequence: BoolArray
    index: IntArray
    ids: IntArray
    scores: Scores
    characters: IntArray | None
    texts: pa.StringArray
    tokenizer: Any

    def texts_of(self, tokens: IntArray) -> list[str]:
        """Return some tokens as the pipeline spells them: an unknown one as it stands in the text."""
        distinct, places = np.unique(self.ids[tokens], return_inverse=True)
        names = np.array(self.tokenizer.convert_ids_to_tokens(distinct.tolist()), object)
        spelt: list[str] = names[places].tolist()
        if self.characters is None or self.tokenizer.unk_token_id is None:
            return spelt
        for place in np.flatnonzero(self.ids[tokens] == self.tokenizer.unk_token_id).tolist():
            start, end = self.characters[tokens[place]].tolist()
            spelt[place] = self.texts[int(self.row[tokens[place]])].as_py()[start:end]
        return spelt

    def starts_word(self) -> BoolArray:
        """
        Tell the tokens that begin a word: by their spelling where continuations are marked, else by the spaces around.

        :raises TypeError: the tokenizer knows no characters.
        """
        if self.characters is None:
            raise TypeError("words are told by the places of their characters")
        start, end = self.characters[:, 0], self.characters[:, 1]
        backend = getattr(self.tokenizer, "_tokenizer", None)
        if backend is not None and getattr(backend.model, "continuing_subword_prefix", None):
            distinct, places = np.unique(self.ids, return_inverse=True)
            spelt = self.tokenizer.convert_ids_to_tokens(distinct.tolist())
            continues = np.array([len(token) for token in spelt], np.int64)[places] != end - start
        else:
            continues = (start > 0) & ~self._beside_space(start)
        known = self.ids != self.tokenizer.unk_token_id
        begins: BoolArray = ~(continues & known) | self.starts_sequence
        return begins

    def _beside_space(self, start: IntArray) -> BoolArray:
        """Tell whether a space is at a token's first character or before it."""
        lengths = pc.utf8_length(self.texts).to_numpy(zero_copy_only=False).astype(np.int64)
        joined = "".join(f"{text}\n" for text in self.texts.to_pylist())
        is_space = np.frombuffer(joined.encode("utf-32-le"), np.uint32) == ord(" ")
        place = (np.cumsum(lengths + 1) - lengths - 1)[self.row] + start
        beside: BoolArray = is_space[place] | is_space[np.maximum(place - 1, 0)]
        return beside


def _tokens(outputs: Outputs, rows: pa.RecordBatch, context: TaskContext) -> _Tokens:
    shown = ~outputs.facts[TokenFact.SPECIAL].values
    logits = outputs.ragged["logits"]
    kept = logits.where(shown)
    characters = outputs.facts.get(TokenFact.CHARACTERS)
    return _Tokens(
        row=outputs.row[kept.sequence],
        starts_sequence=kept.place == 0,
        index=logits.place[shown],
        ids=outputs.input_ids.values[shown],
        scores=softmax(kept.values),
        characters=None if characters is None else characters.values[shown],
        texts=rows.column("inputs"),
        tokenizer=context.tokenizer,
    )


def _spans(tokens: _Tokens, strategy: str, labels: list[str]) -> Spans:
    if strategy == "none":
        return tokens_as_spans(tokens.scores)
    if strategy == "simple":
        return grouped(tokens_as_spans(tokens.scores), tokens.starts_sequence, labels)
    words = words_as_spans(tokens.scores, tokens.starts_word(), strategy)
    return grouped(words, tokens.starts_sequence[words.first], labels)


def _merged(found: Spans, tokens: _Tokens, row_of_sequence: IntArray) -> Spans:
    """Drop overlapping entities of rows that were read in several sequences; theirs stand in the order of the text."""
    rows, sequences = np.unique(row_of_sequence, return_counts=True)
    row = tokens.row[found.first]
    several = np.isin(row, rows[sequences > 1])
    if tokens.characters is None or not several.any():
        return found
    stay = [np.flatnonzero(~several)]
    order = np.flatnonzero(several)[np.argsort(row[several], kind="stable")]
    for entities in np.split(order, np.flatnonzero(np.diff(row[order])) + 1):
        start, end = tokens.characters[found.first[entities], 0], tokens.characters[found.last[entities], 1]
        stay.append(entities[without_overlaps(start, end, found.score[entities])])
    kept = np.concatenate(stay)
    return found.take(kept[np.argsort(row[kept], kind="stable")])


def _objects(strategy: str) -> pa.ListType:
    return _TOKENS if strategy == "none" else _ENTITIES


def _values(found: Spans, tokens: _Tokens, names: list[str], strategy: str) -> dict[str, pa.Array]:
    """Return what is known of each token or entity."""
    label = pa.DictionaryArray.from_arrays(pa.array(found.label, pa.int64()), pa.array(names, pa.string()))
    return {
        "entity" if strategy == "none" else "entity_group": label,
        "score": pa.array(found.score.astype(np.float64)),
        "index": pa.array(tokens.index[found.first]),
        "word": pa.array(_words(found, tokens, strategy), pa.string()),
        "start": _characters(tokens.characters, found.first, 0),
        "end": _characters(tokens.characters, found.last, 1),
    }


def _characters(characters: IntArray | None, token: IntArray, edge: int) -> pa.Array:
    return pa.nulls(len(token), pa.int64()) if characters is None else pa.array(characters[token, edge])


def _words(found: Spans, tokens: _Tokens, strategy: str) -> list[str]:
    """Return the text of each entity: its tokens joined by the tokenizer, first to words where these were judged."""
    covered = Ragged.of(found.last - found.first + 1, np.empty(0))
    token = np.repeat(found.first, covered.lengths) + covered.place
    spelt = tokens.texts_of(token)
    if strategy == "none":
        return spelt
    joined = tokens.tokenizer.convert_tokens_to_string
    edges = covered.offsets.tolist()
    if strategy == "simple":
        return [joined(spelt[start:end]) for start, end in itertools.pairwise(edges)]
    begins = np.flatnonzero(tokens.starts_word()[token])
    words = [joined(spelt[start:end]) for start, end in itertools.pairwise([*begins.tolist(), len(spelt)])]
    word_edges = np.searchsorted(begins, covered.offsets).tolist()
    return [joined(words[start:end]) for start, end in itertools.pairwise(word_edges)]
