"""CTranslate2 on a benchmark's model: how fast a runtime written for nothing but generation is on the same machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def by_ctranslate2(
    model: Path, folder: Path, *, seq2seq: bool, ends: Sequence[int], most_tokens: int, threads: int, batch_size: int
) -> Callable[[Sequence[str]], list[str]] | None:
    """
    Return what writes the texts of some prompts, greedily and without repeating a token where ``seq2seq``, or None
    where CTranslate2 is not installed.

    :param model: a folder of transformers' with weights in float32.
    :param folder: where to put the converted model.
    :param ends: tokens that end a text.
    """
    try:
        import ctranslate2
    except ImportError:
        return None
    from airflow_provider_hfreg.inference.frameworks import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    ctranslate2.converters.TransformersConverter(str(model)).convert(str(folder))
    _name_tokens(folder / "config.json", tokenizer)
    settings = {"inter_threads": 1, "intra_threads": threads, "compute_type": "float32"}
    kind = ctranslate2.Translator if seq2seq else ctranslate2.Generator
    loaded = kind(str(folder), device="cpu", **settings)
    end_tokens = tokenizer.convert_ids_to_tokens(list(ends))
    common: dict[str, Any] = {"beam_size": 1, "end_token": end_tokens, "max_batch_size": batch_size}

    def written(prompts: list[list[str]]) -> list[list[str]]:
        if seq2seq:
            told = loaded.translate_batch(
                prompts, max_decoding_length=most_tokens, no_repeat_ngram_size=1, return_end_token=True, **common
            )
            return [each.hypotheses[0] for each in told]
        told = loaded.generate_batch(
            prompts,
            max_length=most_tokens,
            sampling_topk=1,
            include_prompt_in_result=False,
            return_end_token=True,
            **common,
        )
        return [each.sequences[0] for each in told]

    def texts(given: Sequence[str]) -> list[str]:
        prompts = [tokenizer.convert_ids_to_tokens(ids) for ids in tokenizer(list(given))["input_ids"]]
        ids = [tokenizer.convert_tokens_to_ids(tokens) for tokens in written(prompts)]
        return list(tokenizer.batch_decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    return texts


def _name_tokens(path: Path, tokenizer: Any) -> None:
    """Name the tokens that a benchmark's tokenizer has no name for: the converter leaves null, and cannot read it."""
    config = json.loads(path.read_text(encoding="utf-8"))
    names = {"bos_token": tokenizer.cls_token, "eos_token": tokenizer.sep_token}
    config |= {name: token for name, token in names.items() if config.get(name) is None}
    path.write_text(json.dumps(config), encoding="utf-8")
