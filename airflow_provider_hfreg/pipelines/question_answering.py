"""
``question-answering``: the part of a context that answers a question.

With ``top_k`` unset or 1 a row gives ``score``, ``start``, ``end`` (characters of the context) and ``answer``; with a
larger one ``outputs``, the JSON list of its best answers, also where there is only one. A score is the sum over the
places that read alike, so it may pass 1, as it does in the pipeline.

A context longer than a sequence (``max_seq_len``, 384 tokens unless given, or what the model reads) is read in
overlapping parts of ``doc_stride`` common tokens, and nothing is lost. With ``handle_impossible_answer`` an empty
answer is one of the answers. An empty question or context is that row's error, and so is a question that leaves no room
for a context.

transformers 5 has no such pipeline; results are those of 4.57 under either. Its ``max_question_len`` has
no effect there with a fast tokenizer, its ``padding`` none on answers that have a score; neither has one here.
"""

from __future__ import annotations

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
from airflow_provider_hfreg.pipelines.generation import with_defaults
from airflow_provider_hfreg.pipelines.objects import object_lists
from airflow_provider_hfreg.pipelines.scores import not_a_number
from airflow_provider_hfreg.pipelines.spans import BestSpans, SpanLogits, best_spans
from airflow_provider_hfreg.signatures.arrow import arrow_schema
from airflow_provider_hfreg.signatures.features import DataType, FeatureSpec, ParamSpec
from airflow_provider_hfreg.signatures.rows import RowError
from airflow_provider_hfreg.signatures.signature import ModelSignature

_INPUTS = (FeatureSpec("question", DataType.STRING), FeatureSpec("context", DataType.STRING))
_BEST = (
    FeatureSpec("score", DataType.DOUBLE),
    FeatureSpec("start", DataType.INT64),
    FeatureSpec("end", DataType.INT64),
    FeatureSpec("answer", DataType.STRING),
)
_LIST = (FeatureSpec("outputs", DataType.STRING),)
_OBJECTS = pa.list_(pa.struct(list(arrow_schema(_BEST))))
_TOP_K = ParamSpec("top_k", DataType.INT64)
_PARAMS = (
    ParamSpec("doc_stride", DataType.INT64),
    ParamSpec("max_answer_len", DataType.INT64),
    ParamSpec("max_seq_len", DataType.INT64),
    ParamSpec("max_question_len", DataType.INT64),
    ParamSpec("handle_impossible_answer", DataType.BOOL),
    ParamSpec("align_to_words", DataType.BOOL),
)
_DEFAULTS: Mapping[str, Any] = {
    "top_k": 1,
    "max_answer_len": 15,
    "handle_impossible_answer": False,
    "align_to_words": True,
}
_LONGEST_SEQUENCE, _LONGEST_STRIDE = 384, 128


class QuestionAnswering(PipelineTask):
    """See the module."""

    name: ClassVar[str] = "question-answering"
    auto_class: ClassVar[str] = "AutoModelForQuestionAnswering"
    heads: ClassVar[tuple[str, ...]] = ("ForQuestionAnswering", "ForQuestionAnsweringSimple")
    forward: ClassVar[Forward] = Forward.SPAN_LOGITS
    arguments: ClassVar[frozenset[str]] = frozenset({spec.name for spec in (_TOP_K, *_PARAMS)} | {"padding"})
    last_family: ClassVar[str | None] = "4.57"

    def signature(self, parameters: Mapping[str, Any]) -> ModelSignature:
        """Return the signature of the single or the list condition; only the latter has a ``top_k`` to set at a run."""
        for name in ("top_k", "max_answer_len"):
            if _setting(parameters, name) < 1:
                raise UnknownParameterError(f"{name} is {parameters[name]}; it must be 1 or more.")
        if _setting(parameters, "top_k") == 1:
            return ModelSignature(_INPUTS, _BEST, with_defaults(_PARAMS, parameters))
        return ModelSignature(_INPUTS, _LIST, with_defaults((_TOP_K, *_PARAMS), parameters))

    def structs(
        self,
        parameters: Mapping[str, Any],
        generation: Mapping[str, Any],  # noqa: ARG002  other tasks generate
    ) -> Mapping[str, pa.DataType]:
        """Return the type of the lists, which only their condition has."""
        return {} if _setting(parameters, "top_k") == 1 else {"outputs": _OBJECTS}

    def parameters_of(
        self, preprocess: Mapping[str, Any], forward: Mapping[str, Any], postprocess: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the factory's arguments."""
        return plain_arguments({**preprocess, **forward, **postprocess})

    def preprocess(self, rows: pa.RecordBatch, context: TaskContext) -> Sequences:
        """Return a question with its context per row; one that is empty is an error."""
        empty = {name: pc.equal(rows.column(name), "") for name in ("context", "question")}
        errors = {
            row: RowError(row, "empty_value", "expected a text, found an empty one", name)
            for name, is_empty in empty.items()
            for row in np.flatnonzero(is_empty.to_numpy(zero_copy_only=False)).tolist()
        }
        row = np.setdiff1d(np.arange(rows.num_rows, dtype=np.int64), list(errors)).astype(np.int64)
        question, its_context = (rows.column(name).take(pa.array(row)) for name in ("question", "context"))
        question_first = _question_first(context.tokenizer)
        return Sequences(
            row=row,
            text=question if question_first else its_context,
            text_pair=its_context if question_first else question,
            encoding={"truncation": "only_second" if question_first else "only_first", **_windows(context)},
            facts=frozenset({TokenFact.CHARACTERS, TokenFact.WORD, TokenFact.TEXT}),
            errors=tuple(errors[failed] for failed in sorted(errors)),
        )

    def postprocess(self, outputs: Outputs, rows: pa.RecordBatch, context: TaskContext) -> Results:
        """Return each row's answers; a row whose scores are no numbers is an error."""
        parameters = context.parameters
        top_k = _setting(parameters, "top_k")
        aligned = _setting(parameters, "align_to_words")
        tokens = _tokens(outputs, context)
        bad = np.unique(outputs.row[tokens.logits.start.sequence[tokens.is_nan]])
        # Words may make several spans one, so more of them are looked at than are asked for.
        count = 2 * top_k + 10 if aligned else top_k
        spans, none = best_spans(tokens.logits, count=count, longest=_setting(parameters, "max_answer_len"))
        start, end = tokens.characters(spans, by_words=aligned)
        found = _merged(outputs.row[spans.sequence], start, end, spans.score, rows.column("context").to_pylist())
        if _setting(parameters, "handle_impossible_answer"):
            found = found.with_none(outputs.row, none)
        row = np.setdiff1d(outputs.row, bad)
        found = found.best(top_k).of_rows(row)
        errors = not_a_number(bad.tolist())
        if top_k > 1:
            return Results(row, {"outputs": _lists(found, row, context)}, errors)
        return Results(found.row, found.columns(), (*errors, *_without(found, row)))


def _setting(parameters: Mapping[str, Any], name: str) -> Any:
    given = parameters.get(name)
    return _DEFAULTS[name] if given is None else given


def _question_first(tokenizer: Any) -> bool:
    return bool(tokenizer.padding_side == "right")


def _windows(context: TaskContext) -> dict[str, Any]:
    """
    Return how a long context is cut into sequences.

    :raises UnknownParameterError: ``doc_stride`` leaves nothing to go on by.
    """
    if not getattr(context.tokenizer, "is_fast", False):
        raise UnsupportedPipelineError(
            "question-answering needs a fast tokenizer, which tells where in the text its tokens stand, and this "
            "model's is written in Python. Save the model with its fast tokenizer and log it again."
        )
    parameters = context.parameters
    limits = [limit for limit in (context.tokenizer.model_max_length, context.positions) if limit is not None]
    longest = parameters.get("max_seq_len") or min(*limits, _LONGEST_SEQUENCE)
    stride = parameters.get("doc_stride")
    stride = min(longest // 2, _LONGEST_STRIDE) if stride is None else stride
    room = longest - context.tokenizer.num_special_tokens_to_add(pair=True)
    if not 0 <= stride < room:
        raise UnknownParameterError(
            f"doc_stride is {stride}, and a sequence (max_seq_len {longest}) has room for {room} tokens of question "
            "and context: each part of a long context must go on beyond the last one. Make doc_stride smaller."
        )
    return {"max_length": longest, "stride": stride, "return_overflowing_tokens": True}


@dataclass(frozen=True)
class _Tokens:
    """
    The tokens of a window's sequences.

    :param places: int64 [tokens, 2]: their characters.
    :param word: int64 [tokens]: number of the word in its text, -1 for none.
    :param in_context: bool [tokens].
    :param is_nan: bool [tokens]: a logit is no number.
    """

    logits: SpanLogits
    places: IntArray
    word: IntArray
    in_context: Any
    is_nan: Any

    def characters(self, spans: BestSpans, *, by_words: bool) -> tuple[IntArray, IntArray]:
        """
        Return the first character of each span and the one after its last.

        :param by_words: of the whole words at both ends, where the tokenizer knows both.
        """
        begins = self.logits.start.offsets[spans.sequence]
        first, last = begins + spans.first, begins + spans.last
        if by_words:
            word_first, _, starts_known = self._word_tokens(spans.sequence, first)
            _, word_last, ends_known = self._word_tokens(spans.sequence, last)
            known = starts_known & ends_known
            first, last = np.where(known, word_first, first), np.where(known, word_last, last)
        return self.places[first, 0], self.places[last, 1]

    def _word_tokens(self, sequence: IntArray, token: IntArray) -> tuple[IntArray, IntArray, Any]:
        """Return the first and the last token of each token's word in the context's part, and whether it has one."""
        wordy = np.flatnonzero(self.in_context & (self.word >= 0))
        many = self.word.max(initial=0) + 2
        words = self.logits.start.sequence[wordy] * many + self.word[wordy]
        order = np.argsort(words, kind="stable")
        wanted = sequence * many + self.word[token]
        left = np.searchsorted(words, wanted, side="left", sorter=order)
        right = np.searchsorted(words, wanted, side="right", sorter=order)
        known = (right > left) & (self.word[token] >= 0)
        tokens = np.append(wordy[order], 0)  # one more, where nothing is found
        return tokens[np.where(known, left, -1)], tokens[np.where(known, right - 1, -1)], known


def _tokens(outputs: Outputs, context: TaskContext) -> _Tokens:
    start, end = outputs.ragged["start"], outputs.ragged["end"]
    first = _question_first(context.tokenizer)
    in_context = outputs.facts[TokenFact.TEXT].values == (1 if first else 0)
    # The pipeline takes the whole sequence for the context where that comes first, and every [CLS] for "no answer".
    allowed = in_context if first else np.ones(len(in_context), np.bool_)
    if context.tokenizer.cls_token_id is not None:
        allowed = allowed | (outputs.input_ids.values == context.tokenizer.cls_token_id)
    return _Tokens(
        SpanLogits(start, end, allowed),
        outputs.facts[TokenFact.CHARACTERS].values,
        outputs.facts[TokenFact.WORD].values,
        in_context,
        np.isnan(start.values) | np.isnan(end.values),
    )


@dataclass(frozen=True)
class _Answers:
    """Answers in the order in which they were found."""

    row: IntArray
    score: Any
    start: IntArray
    end: IntArray
    text: pa.StringArray

    def take(self, places: IntArray) -> _Answers:
        return _Answers(
            self.row[places],
            self.score[places],
            self.start[places],
            self.end[places],
            self.text.take(pa.array(places, pa.int64())),
        )

    def with_none(self, row_of_sequence: IntArray, none: Any) -> _Answers:
        """Add "no answer" to each row, behind its others: as likely as in the sequence that says so least."""
        row, first = np.unique(row_of_sequence, return_index=True)
        score = np.minimum.reduceat(none, first).astype(np.float64) if len(row) else np.empty(0)
        zeros = np.zeros(len(row), np.int64)
        return _Answers(
            np.concatenate([self.row, row]),
            np.concatenate([self.score, score]),
            np.concatenate([self.start, zeros]),
            np.concatenate([self.end, zeros]),
            pa.concat_arrays([self.text, pa.array([""] * len(row), pa.string())]),
        )

    def best(self, count: int) -> _Answers:
        """Return the likeliest of each row, by row; of equal ones the first found."""
        order = np.lexsort((-self.score, self.row))
        row = self.row[order]
        return self.take(order[np.arange(len(row)) - np.searchsorted(row, row) < count])

    def of_rows(self, row: IntArray) -> _Answers:
        return self.take(np.flatnonzero(np.isin(self.row, row)))

    def columns(self) -> dict[str, pa.Array]:
        """Return what is told of an answer, whether a row has one or a list of them."""
        return {
            "score": pa.array(self.score, pa.float64()),
            "start": pa.array(self.start, pa.int64()),
            "end": pa.array(self.end, pa.int64()),
            "answer": self.text,
        }


def _merged(row: IntArray, start: IntArray, end: IntArray, score: Any, contexts: list[str]) -> _Answers:
    """Return the answers of each row, those that read alike (whatever their case) as one, at the first one's place."""
    texts = [
        contexts[of][first:behind] for of, first, behind in zip(row.tolist(), start.tolist(), end.tolist(), strict=True)
    ]
    alike = pa.array([text.lower() for text in texts], pa.string()).dictionary_encode().indices.to_numpy()
    _, first, which = np.unique(row * (len(texts) + 1) + alike, return_index=True, return_inverse=True)
    total = np.bincount(which, weights=score.astype(np.float64), minlength=len(first))
    found = np.sort(first)
    text = pa.array([texts[place] for place in found.tolist()], pa.string())
    return _Answers(row[found], total[which[found]], start[found], end[found], text)


def _lists(found: _Answers, row: IntArray, context: TaskContext) -> pa.Array:
    offsets = np.append(np.searchsorted(found.row, row), len(found.row)).astype(np.int32)
    return object_lists(_OBJECTS, found.columns(), offsets, context.output_format)


def _without(found: _Answers, row: IntArray) -> tuple[RowError, ...]:
    """Return an error for each row without an answer."""
    missing = np.setdiff1d(row, found.row).tolist()
    return tuple(RowError(failed, "no_answer", _NO_ANSWER, "context") for failed in missing)


_NO_ANSWER = "expected a text that holds an answer, found no word in it"
