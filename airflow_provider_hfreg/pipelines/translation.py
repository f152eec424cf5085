"""
``translation``, also of a named pair (``translation_en_to_fr``), as
:mod:`~airflow_provider_hfreg.pipelines.text_to_text` says.

A row gives ``translation_text``; with ``num_return_sequences`` above 1 it is the JSON list of its translations.

Three kinds of models are told apart as the pipeline does:

- One of a single pair (Marian) translates what it is given.
- One that tells its pairs in ``task_specific_params`` (T5) needs the pair's prefix; plain ``translation`` becomes its
  first pair, as ``pipeline("translation")`` does.
- One whose tokenizer chooses languages (mBART, M2M100, NLLB) needs ``src_lang`` and ``tgt_lang`` in that tokenizer's
  spelling: of the run, else those the pipeline was built with, else those in the task's name.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import pyarrow as pa

from airflow_provider_hfreg.errors import UnknownParameterError
from airflow_provider_hfreg.pipelines.base import Sequences, TaskContext
from airflow_provider_hfreg.pipelines.text_to_text import TextToText, sequences
from airflow_provider_hfreg.signatures.features import DataType, ParamSpec

_PAIR = re.compile(r"translation_([^_]+)_to_([^_]+)")


class Translation(TextToText):
    """
    See the module.

    :cvar languages: source and target that the task's name tells; None where it tells none.
    """

    name: ClassVar[str] = "translation"
    aliases: ClassVar[tuple[str, ...]] = ("translation_xx_to_yy",)
    languages: ClassVar[tuple[str | None, str | None]] = (None, None)
    columns: ClassVar[tuple[str, str]] = ("inputs", "translation_text")
    own_params: ClassVar[tuple[ParamSpec, ...]] = (
        ParamSpec("src_lang", DataType.STRING),
        ParamSpec("tgt_lang", DataType.STRING),
    )
    arguments: ClassVar[frozenset[str]] = TextToText.arguments | {spec.name for spec in own_params}

    def name_under(self, name: str, config: Mapping[str, Any]) -> str:
        """Return the model's first pair for plain ``translation``, where it tells pairs."""
        pairs = (key for key in config.get("task_specific_params") or () if key.startswith(self.name))
        return next(pairs, name) if name == "translation" else name

    def parameters_of(
        self, preprocess: Mapping[str, Any], forward: Mapping[str, Any], postprocess: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the factory's arguments; the languages that it read from the task's name are none."""
        parameters = super().parameters_of(preprocess, forward, postprocess)
        if (parameters.get("src_lang"), parameters.get("tgt_lang")) == self.languages:
            parameters = {name: value for name, value in parameters.items() if name not in ("src_lang", "tgt_lang")}
        return parameters

    def preprocess(self, rows: pa.RecordBatch, context: TaskContext) -> Sequences:
        """Return each text, after the pair's prefix or between the languages' own tokens."""
        # There is no public way; every tokenizer of many languages has it, in both families.
        choose = getattr(context.tokenizer, "_build_translation_inputs", None)
        if choose is None:
            return super().preprocess(rows, context)
        first = _first_token(context.tokenizer, choose, *self._chosen(context.parameters))
        return sequences(rows.column(self.columns[0]), context, generation=first)

    def _chosen(self, parameters: Mapping[str, Any]) -> tuple[str, str]:
        given = (parameters.get("src_lang"), parameters.get("tgt_lang"))
        source, target = (own or named for own, named in zip(given, self.languages, strict=True))
        if not source or not target:
            raise UnknownParameterError(
                "This model translates between many languages and was not told which: build the pipeline with src_lang "
                "and tgt_lang, or give them at the run, as in params={'src_lang': …, 'tgt_lang': …}, in the spelling "
                "of its tokenizer."
            )
        return source, target


@functools.lru_cache
def translation_between(name: str) -> Translation | None:
    """
    Return the task of a named pair, the same one each time; None where ``name`` is no such name.

    >>> translation_between("translation_en_to_fr").languages
    ('en', 'fr')
    """
    pair = _PAIR.fullmatch(name)
    if pair is None:
        return None
    named: type[Translation] = type("TranslationBetween", (Translation,), {"name": name, "languages": pair.groups()})
    return named()


def _first_token(tokenizer: Any, choose: Any, source: str, target: str) -> dict[str, Any]:
    """
    Set the tokenizer to the source language, and return the setting that makes texts begin in the target language.

    :raises UnknownParameterError: the tokenizer does not know one of them.
    """
    token = None
    for language in (source, target):  # only as a target is a language looked up
        try:
            token = choose([""], return_tensors=None, src_lang=source, tgt_lang=language)["forced_bos_token_id"]
        except KeyError:
            token = None
        if token in (None, tokenizer.unk_token_id):
            raise UnknownParameterError(
                f"The model's tokenizer knows no language {language!r}. Write src_lang and tgt_lang as the model's own "
                "documentation does (en_XX, eng_Latn, en …: models differ)."
            )
    return {"forced_bos_token_id": token}
