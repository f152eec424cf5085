"""
Claim: generated text costs less CPU than transformers' ``generate`` makes it at its best batch size, token for token
the same.

    python benchmarks/generation.py [--kinds seq2seq,causal] [--rows 64] [--threads 2] [--device cuda] [--dtype float16]

A T5-small-size and a 40-million-parameter Llama, seeded weights, float32, greedy, up to 64 new tokens. Prompts are
ragged, and so are the texts: some tokens that the network writes count as ends, chosen so that rows end at all lengths.
A seeded network has ties but for rounding: of a text that differs it is told how close its two best tokens were where
it begins to, as a share of the largest score.
``version.run(frame)`` end to end, against the tokenizer, ``generate`` and the decoding of its tokens, by batches; and
against CTranslate2, where it is installed, for a yardstick: another engine, its batches sorted by itself.
"""

from __future__ import annotations

import functools
import operator
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import inputs
from measuring import arguments, batch_sizes, best_of, interleaved, on_devices, parsed, seconds_of, settings_of, tell
from yardstick import by_ctranslate2

_WORDS = 30_000  # of the vocabulary
_NEW_TOKENS = 64
_LONGEST = {"seq2seq": 250, "causal": 120}  # words of a prompt, one token each
_TASKS = {"seq2seq": "text2text-generation", "causal": "text-generation"}
# A seeded T5 cannot be kept from repeating itself otherwise: its head is tied to its embeddings.
_MORE: Mapping[str, Mapping[str, Any]] = {"seq2seq": {"no_repeat_ngram_size": 1}, "causal": {}}


def main() -> None:
    """Measure and tell, one kind after the other."""
    parser = on_devices(arguments(__doc__, rows=64, repeat=2))
    parser.add_argument("--kinds", default=",".join(_TASKS), help="by comma")
    options = parsed(parser)
    for kind in options.kinds.split(","):
        with tempfile.TemporaryDirectory(prefix="hfreg-bench-") as name:
            _measure(kind, Path(name), options)


def _measure(kind: str, folder: Path, options: Any) -> None:
    import pandas as pd

    texts = inputs.texts(options.rows, longest=_LONGEST[kind], count=_WORDS)
    model = _write(kind, folder / "model")
    device, dtype = options.device, options.dtype
    plain = _Plain(kind, model, device, dtype)
    ends = plain.ends(texts)
    given = {"do_sample": False, "num_beams": 1, "max_new_tokens": _NEW_TOKENS, "eos_token_id": ends, **_MORE[kind]}
    version = inputs.version(folder, model, _TASKS[kind], **given)
    frame = pd.DataFrame({"inputs": texts})
    loaded = version.engine(device=device, precision=dtype).loaded
    run = functools.partial(version.run, frame, device=device, precision=dtype)
    ways: dict[str, Callable[[], Any]] = {"ours": run}
    sizes = batch_sizes(device)
    ways |= {f"generate, {size}": lambda size=size: plain.texts(texts, size, ends) for size in sizes}
    by_length = sorted(texts, key=lambda text: -len(text.split()))
    ways[f"generate, {sizes[-1]} sorted"] = lambda: plain.texts(by_length, sizes[-1], ends)
    best_among = [name for name in ways if name != "ours"]
    yardstick = None
    if device == "cpu":
        yardstick = by_ctranslate2(
            model,
            folder / "converted",
            seq2seq=kind == "seq2seq",
            ends=ends,
            most_tokens=_NEW_TOKENS,
            threads=options.threads,
            batch_size=sizes[-1],
        )
    if yardstick is not None:
        ways["CTranslate2, 32"] = lambda: yardstick(texts)
    timed = interleaved(ways, repeat=options.repeat, device=device)
    best, ours_s = best_of(timed, best_among, device), seconds_of(timed["ours"], device)
    lengths = plain.lengths(texts, ends)
    ours = _ours(run(params={"return_full_text": False} if kind == "causal" else None))
    alone = plain.texts(texts, 1, ends)
    tell(
        kind,
        f"greedy {kind} generation against generate at its best",
        timed,
        ours="ours",
        settings=settings_of(options),
        times_the_best=round(seconds_of(timed[best], device) / ours_s, 2),
        times_batch_32=round(seconds_of(timed["generate, 32"], device) / ours_s, 2),
        best=best,
        equal_texts=sum(one == other for one, other in zip(ours, alone, strict=True)),
        texts_as_ctranslate2=None if yardstick is None else sum(map(operator.eq, ours, yardstick(texts))),
        ties_where_not=[
            plain.tie(text, one, ends) for text, one, other in zip(texts, ours, alone, strict=True) if one != other
        ],
        new_tokens_mean=round(sum(lengths) / len(lengths), 1),
        rows_leave=loaded.rows_leave,
        prepacked=loaded.is_prepacked,
    )


def _ours(result: Any) -> list[str]:
    import json

    (column,) = result.columns
    return [json.loads(text)[0]["generated_text"] if column == "outputs" else text for text in result[column]]


class _Plain:
    """Transformers' own classes, as a careful user calls them."""

    def __init__(self, kind: str, model: Path, device: str, dtype: str) -> None:
        from airflow_provider_hfreg.inference.frameworks import torch, transformers

        self._seq2seq, self._more = kind == "seq2seq", _MORE[kind]
        auto_class = transformers.AutoModelForSeq2SeqLM if self._seq2seq else transformers.AutoModelForCausalLM
        self._network = auto_class.from_pretrained(model, dtype=getattr(torch, dtype)).eval().to(device)
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(model, padding_side="left")
        if self._seq2seq:
            self._tokenizer.padding_side = "right"

    def tokens(self, texts: Sequence[str], size: int, **more: Any) -> list[list[int]]:
        """Return the new tokens of each text, padding and all."""
        from airflow_provider_hfreg.inference.frameworks import torch

        found: list[list[int]] = []
        for start in range(0, len(texts), size):
            batch = self._tokenizer(list(texts[start : start + size]), padding=True, return_tensors="pt")
            batch = batch.to(self._network.device)
            with torch.inference_mode():
                ids = self._network.generate(
                    **batch, do_sample=False, num_beams=1, max_new_tokens=_NEW_TOKENS, **self._more, **more
                )
            found += ids[:, 1 if self._seq2seq else batch["input_ids"].shape[1] :].tolist()
        return found

    def texts(self, texts: Sequence[str], size: int, ends: list[int]) -> list[str]:
        """Return the new text of each."""
        tokens = self.tokens(texts, size, eos_token_id=ends)
        return list(self._tokenizer.batch_decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def tie(self, text: str, other: str, ends: list[int]) -> float:
        """Return how far the best two tokens were from each other where ``other`` leaves the text's own answer."""
        from airflow_provider_hfreg.inference.frameworks import torch

        with torch.inference_mode():
            told = self._network.generate(
                **self._tokenizer([text], return_tensors="pt").to(self._network.device),
                do_sample=False,
                num_beams=1,
                max_new_tokens=_NEW_TOKENS,
                eos_token_id=ends,
                output_scores=True,
                return_dict_in_generate=True,
                **self._more,
            )
        written = told.sequences[0, -len(told.scores) :]
        for step, scores in enumerate(told.scores):
            if not other.startswith(self._tokenizer.decode(written[: step + 1], skip_special_tokens=True)):
                best, second = scores[0].topk(2)[0].tolist()
                return float((best - second) / scores[0][scores[0].isfinite()].abs().max())
        return 0.0

    def lengths(self, texts: Sequence[str], ends: list[int]) -> list[int]:
        """Count the new tokens of each text."""
        return [len(tokens) for text in texts for tokens in self.tokens([text], 1, eos_token_id=ends)]

    def ends(self, texts: Sequence[str]) -> list[int]:
        """Return tokens at which the texts end after all numbers of steps: none that a text has before its own."""
        draw = random.Random(0)
        written = self.tokens(texts, 32, eos_token_id=None)
        steps = [draw.randrange(_NEW_TOKENS) for _ in written]
        too_early = {token for tokens, step in zip(written, steps, strict=True) for token in tokens[:step]}
        later = [tokens[step:] for tokens, step in zip(written, steps, strict=True)]
        return sorted({next(t for t in [*tokens, -1] if t not in too_early) for tokens in later} - {-1})


def _write(kind: str, folder: Path) -> Path:
    from airflow_provider_hfreg.inference.frameworks import transformers
    from airflow_provider_hfreg.testing.models import word_piece_tokenizer, write_model

    tokenizer = word_piece_tokenizer(corpus=[" ".join(inputs.words(_WORDS))], whole_words=True, pairs=False)
    tokenizer.model_max_length = inputs.POSITIONS
    tokens: Mapping[str, Any] = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.cls_token_id,
        "eos_token_id": tokenizer.sep_token_id,
        "tie_word_embeddings": False,  # tied random embeddings repeat their last token for ever
    }
    if kind == "seq2seq":
        small = {"d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8}
        config = transformers.T5Config(**small, **tokens, decoder_start_token_id=tokenizer.pad_token_id)
        return _attentive(write_model(folder, transformers.AutoModelForSeq2SeqLM, config, tokenizer, seed=0))
    config = transformers.LlamaConfig(
        hidden_size=512,
        intermediate_size=1536,
        num_hidden_layers=6,
        num_attention_heads=8,
        max_position_embeddings=inputs.POSITIONS,
        **tokens,
    )
    return write_model(folder, transformers.AutoModelForCausalLM, config, tokenizer, seed=0)


def _attentive(folder: Path) -> Path:
    """Turn a seeded T5's weights towards what it reads: as they are drawn, it repeats what it wrote."""
    from airflow_provider_hfreg.inference.frameworks import torch, transformers

    network = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder)
    with torch.no_grad():
        network.get_input_embeddings().weight.mul_(0.05)
        for name, weight in network.named_parameters():
            weight.mul_(3.0 if name.endswith("Attention.q.weight") else 1.0)
    network.save_pretrained(folder)
    return folder


if __name__ == "__main__":
    main()
