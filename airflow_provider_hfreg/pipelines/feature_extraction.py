"""
``feature-extraction`` as sentence embeddings: one vector of a text.

A row gives ``embedding``, a list of as many 32-bit floats as the model's vectors are wide: the vectors of the text's
tokens pooled into one, where ``normalize`` says so scaled to length 1. The column is named for what a row holds;
``outputs`` is the name of JSON text in the other tasks. 64 bits would double the size of a table and tell nothing more:
networks compute in 32 or fewer.

transformers' pipeline of this name gives all tokens' vectors, as lists of any length, and says nothing of pooling. So
the version is ours alone, its callable included; what a version does is recorded with it, as the parameters

- ``pooling``: ``mean``, ``cls`` (the first token), ``max`` (of each number) or ``last`` (the last token);
- ``normalize``: to length 1;
- ``prompt``: a text to put before every text, such as ``"query: "``;
- ``max_length``: tokens that a text is cut to, the special ones among them, and never more than the network reads;
  else to what the model reads;
- ``do_lower_case``: for a tokenizer that does not do it.

They are those that were given; else those of the model's folder, where sentence-transformers wrote it; else mean
pooling without normalisation, which is what sentence-transformers makes of a plain folder, and a warning. Where the
folder is not at hand (a pipeline object of a model that was loaded by its hub id) nothing is assumed: ``pooling`` must
be given, since a model that was trained with another one would give vectors that are wrong and look right.

A text longer than the model reads is cut at its end and counted; ``truncation=False`` makes it the row's error. A text
of which the tokenizer makes no token is the row's error, too.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airflow_provider_hfreg.errors import UnknownParameterError, UnsupportedPipelineError
from airflow_provider_hfreg.pipelines.arguments import plain_arguments, refuse_tensors
from airflow_provider_hfreg.pipelines.base import (
    Forward,
    Outputs,
    PipelineTask,
    Results,
    Sequences,
    TaskContext,
)
from airflow_provider_hfreg.pipelines.generation import with_defaults
from airflow_provider_hfreg.pipelines.scores import not_a_number
from airflow_provider_hfreg.pipelines.sentence_transformers import files_saying, read_pooling, read_reading
from airflow_provider_hfreg.signatures.features import DataType, FeatureSpec, ParamSpec
from airflow_provider_hfreg.signatures.signature import ModelSignature

log = logging.getLogger(__name__)

_INPUTS = (FeatureSpec("inputs", DataType.STRING),)
_OUTPUTS = (FeatureSpec("embedding", DataType.FLOAT, shape=(-1,)),)
_PARAMS = (
    ParamSpec("pooling", DataType.STRING),
    ParamSpec("normalize", DataType.BOOL),
    ParamSpec("prompt", DataType.STRING),
    ParamSpec("max_length", DataType.INT64),
    ParamSpec("do_lower_case", DataType.BOOL),
)
_ENCODING = frozenset({"truncation", "tokenize_kwargs"})
_POOLINGS = ("mean", "cls", "max", "last")
_UNSAID: Mapping[str, Any] = {"pooling": "mean", "normalize": False}


class FeatureExtraction(PipelineTask):
    """See the module."""

    name: ClassVar[str] = "feature-extraction"
    auto_class: ClassVar[str] = "AutoModel"
    # Embedders are often saved under the head that they were trained with, which AutoModel leaves out.
    heads: ClassVar[tuple[str, ...]] = ("Model", "ForMaskedLM", "ForPreTraining", "ForCausalLM")
    forward: ClassVar[Forward] = Forward.EMBEDDING
    arguments: ClassVar[frozenset[str]] = frozenset({spec.name for spec in _PARAMS}) | _ENCODING
    own_callable: ClassVar[bool] = True

    def auto_class_of(self, config: Mapping[str, Any]) -> str:
        """Return the class; a model with a decoder of its own is refused."""
        if config.get("is_encoder_decoder"):
            raise UnsupportedPipelineError(
                f"The model is a {config.get('model_type')}, an encoder with a decoder, and {self.name} pools the "
                "vectors of a text that is only read. Log a model that is an encoder or a decoder alone."
            )
        return self.auto_class

    def signature(self, parameters: Mapping[str, Any]) -> ModelSignature:
        """Return the signature; how wide the vectors are is the model's matter."""
        refuse_tensors(parameters, self.name)
        pooling = parameters.get("pooling")
        if pooling is not None and pooling not in _POOLINGS:
            raise UnknownParameterError(f"pooling is {pooling!r:.80}; it must be one of {', '.join(_POOLINGS)}.")
        _check_lengths(parameters)
        return ModelSignature(_INPUTS, _OUTPUTS, with_defaults(_PARAMS, parameters))

    def parameters_of(
        self, preprocess: Mapping[str, Any], forward: Mapping[str, Any], postprocess: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the factory's arguments; the pipeline mixes ``truncation`` into its ``tokenize_kwargs``."""
        refuse_tensors(postprocess, self.name)
        given = plain_arguments({**preprocess, **forward})
        for_tokenizer = {name: value for name, value in given.items() if name not in ("truncation", "max_length")}
        own = {name: value for name, value in given.items() if name not in for_tokenizer}
        return {**own, "tokenize_kwargs": for_tokenizer} if for_tokenizer else own

    def completed(self, parameters: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
        """Return the parameters with those of the model's folder where nobody gave them; see the module."""
        given = {name: value for name, value in parameters.items() if value is not None}
        if folder is not None and not folder.is_dir():
            if "pooling" not in given:
                raise UnsupportedPipelineError(_NOT_HERE.format(name=folder))
            return {**_UNSAID, **given}
        told = {} if folder is None else read_reading(folder)
        if folder is not None and not given.keys() >= _UNSAID.keys():
            told |= read_pooling(folder)
        whole = {**told, **given}
        if "pooling" not in whole:
            log.warning(_NOT_SAID, "A model made in memory" if folder is None else folder)
        return {**_UNSAID, **whole}

    def files_of(self, parameters: Mapping[str, Any], dimension: int | None) -> Mapping[str, Any]:
        """Return the files by which sentence-transformers, and whoever logs the folder, makes the same vectors."""
        return files_saying(parameters, dimension)

    def preprocess(self, rows: pa.RecordBatch, context: TaskContext) -> Sequences:
        """Return one text per row."""
        text, parameters = rows.column("inputs"), context.parameters
        if parameters.get("prompt"):
            text = pc.binary_join_element_wise(pa.scalar(parameters["prompt"]), text, "")
        if parameters.get("do_lower_case"):
            # Letter by letter, as sentence-transformers' tokenizer does it: Python makes another sigma of one that ends
            # a word, and Arrow another letter of "İ".
            text = pa.array(["".join(map(str.lower, each)) for each in text.to_pylist()], pa.string())
        return Sequences(
            row=np.arange(rows.num_rows, dtype=np.int64),
            text=text,
            encoding=_encoding(parameters, context),
            settings={name: parameters.get(name, unsaid) for name, unsaid in _UNSAID.items()},
        )

    def postprocess(
        self,
        outputs: Outputs,
        rows: pa.RecordBatch,  # noqa: ARG002  other tasks give parts of the row back
        context: TaskContext,  # noqa: ARG002  the forward has done what the parameters say
    ) -> Results:
        """Return the vectors; a row whose vector is no numbers is an error."""
        vectors = outputs.values["embedding"]
        good = np.isfinite(vectors).all(axis=1)
        kept = vectors if good.all() else vectors[good]
        ends = np.arange(len(kept) + 1, dtype=np.int64) * kept.shape[1]
        column = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(kept.ravel(), pa.float32()))
        return Results(outputs.row[good], {"embedding": column}, not_a_number(outputs.row[~good].tolist()))


def _check_lengths(parameters: Mapping[str, Any]) -> None:
    for_tokenizer = parameters.get("tokenize_kwargs") or {}
    if not isinstance(for_tokenizer, Mapping):
        raise UnknownParameterError(
            f"tokenize_kwargs is {for_tokenizer!r:.80}; it must be a mapping of the tokenizer's arguments."
        )
    for longest in (parameters.get("max_length"), for_tokenizer.get("max_length")):
        if longest is not None and (not isinstance(longest, int) or longest < 1):
            raise UnknownParameterError(f"max_length is {longest!r:.80}; a text has at least 1 token.")


def _encoding(parameters: Mapping[str, Any], context: TaskContext) -> dict[str, Any]:
    """
    A row is one sequence, and what a tokenizer might give besides is not asked for.

    :raises UnknownParameterError: ``max_length`` leaves no room for a text.
    """
    given = {name: parameters.get(name) for name in ("truncation", "max_length")}
    given |= parameters.get("tokenize_kwargs") or {}
    encoding = {"truncation": True} | {
        name: value for name, value in given.items() if value is not None and not name.startswith("return_")
    }
    if "max_length" in encoding:
        encoding["max_length"] = _longest(encoding, context)
    return encoding


def _longest(encoding: Mapping[str, Any], context: TaskContext) -> int:
    """Return ``max_length``, or the network's positions if these are fewer: beyond them it has nothing to read with."""
    longest: int = encoding["max_length"]
    special = context.tokenizer.num_special_tokens_to_add() if encoding.get("add_special_tokens", True) else 0
    if longest <= special:
        raise UnknownParameterError(
            f"max_length is {longest}, and the tokenizer puts {special} tokens of its own around a text; it must be at "
            f"least {special + 1}."
        )
    return longest if context.positions is None else min(longest, context.positions)


_NOT_SAID = (
    "%s does not say how the vectors of a text's tokens become one: their mean is taken, not scaled to length 1, and "
    "recorded. Give pooling and normalize if the model was trained otherwise."
)
_NOT_HERE = (
    "The files of {name} are not at hand, so nothing tells how the vectors of a text's tokens become one, and "
    "transformers' own pipeline object cannot say it. Log the folder or the hub id with log_folder or log_hub_model, "
    "which read what sentence-transformers wrote there; or build the pipeline with airflow_provider_hfreg.inference."
    "pipeline('feature-extraction', …, pooling='mean', normalize=True), as the model was trained."
)
