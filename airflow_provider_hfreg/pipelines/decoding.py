"""
Token ids to text, as the family does that a version was logged under.

The families differ in three ways, and each shows in the text, so a version keeps its own family's way wherever it runs:

- up to 5.8, generated text is the whole decoded text without the prompt's length in characters; from 5.9 on, the new
  tokens decoded alone (which lacks the space that some tokenizers put before a word);
- up to 5.19, spaces before punctuation are removed unless the user says otherwise; from 5.20 on, as the tokenizer says;
- from 5.7 on, byte-pair tokenizers are spared that, because it removes spaces that were in the text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_hfreg.pipelines.ragged import Ragged

_ALONE_FROM = (5, 9)
_TOKENIZERS_WORD_FROM = (5, 20)
_BYTE_PAIRS_SPARED_FROM = (5, 7)
_PLAIN_DECODES = (
    "TokenizersBackend._decode",
    "PreTrainedTokenizerFast._decode",
)  # of fast tokenizers, in 5 and in 4.57


@dataclass(frozen=True)
class Decoding:
    """
    One family's way.

    :param alone: new tokens are decoded without their prompt.
    :param clean_up: spaces before punctuation go; None where the tokenizer says whether.
    :param spares_byte_pairs: never with a byte-pair tokenizer.
    """

    alone: bool
    clean_up: bool | None
    spares_byte_pairs: bool


def decoding_of(transformers_version: str | None) -> Decoding:
    """
    Return the way of a version of transformers; of the newest where it is not known.

    >>> decoding_of("4.57.6")
    Decoding(alone=False, clean_up=True, spares_byte_pairs=False)
    >>> decoding_of(None)
    Decoding(alone=True, clean_up=None, spares_byte_pairs=True)
    """
    numbers = re.match(r"(\d+)\.(\d+)", transformers_version or "")
    family = (int(numbers[1]), int(numbers[2])) if numbers else _TOKENIZERS_WORD_FROM
    return Decoding(
        alone=family >= _ALONE_FROM,
        clean_up=None if family >= _TOKENIZERS_WORD_FROM else True,
        spares_byte_pairs=family >= _BYTE_PAIRS_SPARED_FROM,
    )


def decode(
    tokenizer: Any, token_ids: Sequence[Sequence[int]], parameters: Mapping[str, Any], decoding: Decoding
) -> list[str]:
    """
    Return the text of each list of ids.

    :param parameters: of the pipeline: ``skip_special_tokens``, True where not given, ``clean_up_tokenization_spaces``.
    """
    if not token_ids:
        return []
    skip = parameters.get("skip_special_tokens")
    lists = [list(ids) for ids in token_ids]
    texts = _decoded(tokenizer, lists, skip_special_tokens=True if skip is None else skip)
    return (
        [tokenizer.clean_up_tokenization(text) for text in texts] if _cleans(tokenizer, parameters, decoding) else texts
    )


def _decoded(tokenizer: Any, token_ids: list[list[int]], *, skip_special_tokens: bool) -> list[str]:
    """Decode without cleaning up: that of the installed family would be that family's."""
    own = getattr(type(tokenizer), "_decode", None)
    if getattr(own, "__qualname__", "") in _PLAIN_DECODES:
        # All these do is call the backend list by list, after looking at each id twice: a fifth of a whole run.
        texts: list[str] = tokenizer.backend_tokenizer.decode_batch(token_ids, skip_special_tokens=skip_special_tokens)
        return texts
    decoded: list[str] = tokenizer.batch_decode(
        token_ids, skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=False
    )
    return decoded


def _cleans(tokenizer: Any, parameters: Mapping[str, Any], decoding: Decoding) -> bool:
    given = parameters.get("clean_up_tokenization_spaces")
    said = decoding.clean_up if given is None else given
    wanted = bool(getattr(tokenizer, "clean_up_tokenization_spaces", False) if said is None else said)
    return wanted and not (decoding.spares_byte_pairs and _is_byte_pair(tokenizer))


def _is_byte_pair(tokenizer: Any) -> bool:
    # transformers 5 has a way round for those who insist; it is honoured.
    insists = getattr(tokenizer, "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output", False)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return type(getattr(backend, "model", None)).__name__ == "BPE" and not insists


def new_texts(
    tokenizer: Any,
    prompts: Ragged,
    generated: Sequence[Sequence[int]],
    parameters: Mapping[str, Any],
    decoding: Decoding,
) -> list[str]:
    """
    Return the text that each list of new ids adds to its prompt.

    :param prompts: ids of the prompt of each, as the model saw them.
    :param generated: the new ids of each, as many lists as prompts.
    """
    if decoding.alone:
        return decode(tokenizer, generated, parameters, decoding)
    before = prompts.lists()
    whole = [[*prompt, *new] for prompt, new in zip(before, generated, strict=True)]
    texts = decode(tokenizer, whole, parameters, decoding)
    lengths = [len(text) for text in decode(tokenizer, before, parameters, decoding)]
    return [text[length:] for text, length in zip(texts, lengths, strict=True)]
