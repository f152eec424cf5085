"""
A tokenizer's folder that both transformers families read, and read alike.

What goes wrong without this, each seen:

- 5 saves a fast tokenizer under the class ``TokenizersBackend``, which 4.57 does not have.
- A generic fast tokenizer saved without ``model_input_names`` gives no ``token_type_ids`` under 5.
- 5 keeps extra special tokens as a list where 4.57 wants a mapping, and fails on it.
- 5 rebuilds class tokenizers (``BertTokenizer`` …) from their vocabulary with the class's own normaliser and
  pre-tokeniser, so that a customised ``tokenizer.json`` encodes differently there.
- The last call's padding and truncation stay in ``tokenizer.json``, so that a pipeline used before it was logged has
  another digest.

Hence ``tokenizer.json`` is the truth, and the class that reads it is the generic one, which both families load as it
stands. A class that does more than encode, such as choosing source and target languages, keeps its name.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from airflow_provider_hfreg.inference.frameworks import transformers

_GENERIC = "PreTrainedTokenizerFast"  # 5 reads this name as its TokenizersBackend
_GENERICS = frozenset({_GENERIC, "TokenizersBackend"})
# How the tokenizer came into memory, and what only one family reads.
_NOT_KEPT = frozenset({"backend", "is_local", "local_files_only", "files_loaded", "extra_special_tokens"})
# What a user may have set on the object since, and what the families default differently.
_SAID_ALWAYS = ("model_input_names", "padding_side", "truncation_side", "clean_up_tokenization_spaces")


def save_tokenizer(tokenizer: Any, folder: Path, *, keep_class: bool = False) -> None:
    """
    Write ``tokenizer`` into ``folder`` so that transformers 4.57 and 5 encode alike with it.

    :param keep_class: of a tokenizer whose class may do more than encode and decode text, such as Whisper's.
    """
    fast = bool(getattr(tokenizer, "is_fast", False))
    named = hasattr(tokenizer, "_build_translation_inputs") or (
        keep_class and type(tokenizer).__name__ not in _GENERICS
    )
    generic = fast and not named
    if fast:
        backend = tokenizer.backend_tokenizer  # the next call sets both again
        backend.no_padding()
        backend.no_truncation()
    tokenizer.save_pretrained(folder, **({"legacy_format": False} if generic else {}))
    path = folder / "tokenizer_config.json"
    said = {name: getattr(tokenizer, name) for name in _SAID_ALWAYS if hasattr(tokenizer, name)}
    special = _extra_special_tokens(tokenizer)
    config = portable_config(json.loads(path.read_text(encoding="utf-8")) | said, special, generic=generic)
    path.write_text(json.dumps(config, ensure_ascii=False, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    # 4.57 alone writes this one; the configuration says the same, and one file is enough to be right.
    (folder / "special_tokens_map.json").unlink(missing_ok=True)


def load_tokenizer(folder: Path, *, as_4: bool = False, **options: Any) -> Any:
    """
    Read the tokenizer of a folder that was logged as it stood, by whichever family it was saved.

    :param as_4: encode as 4.57 does, also under 5: the version was logged there, or its task ended there.
    :param options: for ``from_pretrained``.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Recommended: pip install sacremoses")  # Marian's, which never calls it
        tokenizer = _load(folder, options)
    if as_4 and hasattr(transformers, "TokenizersBackend") and tokenizer.is_fast:
        _encode_as_4(tokenizer, folder)
    return tokenizer


def _load(folder: Path, options: Mapping[str, Any]) -> Any:
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if config.get("tokenizer_class") == "TokenizersBackend" and not hasattr(transformers, "TokenizersBackend"):
        special = config.get("extra_special_tokens") or []
        return transformers.PreTrainedTokenizerFast.from_pretrained(
            folder, **options, **_in_force_under_4(config), extra_special_tokens={}, additional_special_tokens=special
        )
    if config.get("tokenizer_class") == _GENERIC:
        options = {**options, **_in_force_under_4(config)}
    return transformers.AutoTokenizer.from_pretrained(folder, **options)


def _encode_as_4(tokenizer: Any, folder: Path) -> None:
    """
    Let a tokenizer that 5 loaded encode as under 4.57.

    5 takes the vocabulary alone from ``tokenizer.json`` or a SentencePiece model, and puts its class's own normaliser
    before it; so mBART and NLLB, whose classes have none, lose the one that their models were trained with.
    """
    from transformers.convert_slow_tokenizer import SLOW_TO_FAST_CONVERTERS  # no attribute of the package

    if (folder / "tokenizer.json").is_file():
        _replace_backend(tokenizer, type(tokenizer.backend_tokenizer).from_file(str(folder / "tokenizer.json")))
        return
    model = folder / "sentencepiece.bpe.model"
    converter = SLOW_TO_FAST_CONVERTERS.get(type(tokenizer).__name__)
    backend = tokenizer.backend_tokenizer
    if backend.normalizer is None and converter is not None and model.is_file():
        made = converter(SimpleNamespace(vocab_file=str(model)))
        backend.normalizer = made.normalizer(made.proto)
        backend.pre_tokenizer = made.pre_tokenizer("▁", add_prefix_space=True)


def _replace_backend(tokenizer: Any, backend: Any) -> None:
    """Encode with ``backend`` from here on; tokens that the configuration added are added to it."""
    backend.no_padding()
    backend.no_truncation()
    known = backend.get_vocab()
    added = [token for _, token in sorted(tokenizer.added_tokens_decoder.items()) if token.content not in known]
    backend.add_tokens(added)
    tokenizer._tokenizer = backend  # noqa: SLF001  there is no public way, and 4.57 has it under the same name
    if hasattr(tokenizer, "set_src_lang_special_tokens"):
        tokenizer.set_src_lang_special_tokens(tokenizer.src_lang)


def _in_force_under_4(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what 4.57 takes for granted in a generic tokenizer; 5, which does not, has another name for it."""
    if "model_input_names" in config:
        return {}
    pair_types = ["token_type_ids"] if config.get("tokenizer_class") == _GENERIC else []
    return {"model_input_names": ["input_ids", *pair_types, "attention_mask"]}


def portable_model_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return what a model's ``config.json`` must say besides, so that 4.57 reads it as 5 does.

    5 keeps for T5 1.1 (FLAN-T5 among them) that its outputs are not scaled, and forgets that its weights are not tied,
    which is how 4.57 knows both.

    >>> portable_model_config({"tie_word_embeddings": True, "scale_decoder_outputs": False})
    {'tie_word_embeddings': False}
    """
    return {"tie_word_embeddings": False} if config.get("scale_decoder_outputs") is False else {}


def portable_config(config: Mapping[str, Any], extra_special_tokens: Sequence[str], *, generic: bool) -> dict[str, Any]:
    """
    Return a ``tokenizer_config.json`` for both families.

    :param config: as one of them saved it.
    :param extra_special_tokens: special tokens without a role.
    :param generic: whether ``tokenizer.json`` holds everything, so that no class of its own is needed.

    >>> portable_config({"tokenizer_class": "TokenizersBackend", "backend": "tokenizers"}, ["<user>"], generic=True)
    {'tokenizer_class': 'PreTrainedTokenizerFast', 'additional_special_tokens': ['<user>']}
    """
    dropped = _NOT_KEPT | {"added_tokens_decoder"} if generic else _NOT_KEPT  # tokenizer.json holds those
    portable = {name: value for name, value in config.items() if name not in dropped}
    if generic:
        portable["tokenizer_class"] = _GENERIC
    if extra_special_tokens:
        portable["additional_special_tokens"] = list(extra_special_tokens)
    return portable


def _extra_special_tokens(tokenizer: Any) -> list[str]:
    """Return the special tokens without a role, under the name that each family has for them."""
    tokens = getattr(tokenizer, "additional_special_tokens", None)
    if tokens is None:
        tokens = getattr(tokenizer, "extra_special_tokens", None) or []
    return [str(token) for token in tokens]
