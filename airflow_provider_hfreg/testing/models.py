"""
Tiny seeded models as Hugging Face folders, made in a moment and without the hub: for tests of tasks, stores and DAGs.

Each function writes a folder that ``from_pretrained`` reads: configuration, safetensors, and a real tokenizer
(WordPiece or byte-level BPE) of a few sentences in several scripts. Weights are random but wide, so that scores differ
between texts and an error of the engine shows; the same arguments give the same weights under one family. Nothing here
means anything: for that, fine-tune one of them.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from airflow_provider_hfreg.inference.frameworks import torch, transformers

POSITIONS = 64  # tokens that every model here can read

CORPUS = (
    "the film was good and the music better than anything I heard this year",
    "a dull plot, wooden acting, and an ending nobody asked for!",
    "Das Essen war größtenteils köstlich, der Service leider nicht.",
    "この映画はとても面白かったです。",
    "이 영화는 정말 재미있었어요.",
    "Great value :) would buy again 10/10",
    "it's neither good nor bad; it simply is what it is",
)

_TWICE_AS_SURE = '''\
"""A classifier that is twice as sure of everything."""

from transformers import BertForSequenceClassification


class TwiceAsSure(BertForSequenceClassification):
    """Doubles the logits."""

    def forward(self, *args, **kwargs):
        outputs = super().forward(*args, **kwargs)
        outputs.logits = outputs.logits * 2
        return outputs
'''

_SIZE = {"vocab_size": 0, "initializer_range": 0.4}
_ENCODER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def text_classifier(
    folder: Path,
    *,
    architecture: str = "bert",
    labels: Sequence[str] = ("negative", "neutral", "positive"),
    seed: int = 0,
    **config: Any,
) -> Path:
    """
    Write a sequence classifier.

    :param architecture: ``bert``, ``distilbert`` or ``roberta``.
    :param labels: names of the classes, in the order of the logits.
    :param config: more of the model's configuration, such as ``problem_type``, or of its size.
    """
    pairs = architecture == "bert"
    tokenizer = byte_level_tokenizer("roberta") if architecture == "roberta" else word_piece_tokenizer(pairs=pairs)
    settings = {
        **_SIZE,
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
        **config,
    }
    encoder = {**_ENCODER, **settings}
    builders: Mapping[str, Callable[[], Any]] = {
        "bert": lambda: transformers.BertConfig(max_position_embeddings=POSITIONS, **encoder),
        # RoBERTa counts positions from pad + 1
        "roberta": lambda: transformers.RobertaConfig(
            max_position_embeddings=POSITIONS + 2, **{**_ENCODER, **settings}
        ),
        "distilbert": lambda: transformers.DistilBertConfig(
            dim=32, n_layers=2, n_heads=2, hidden_dim=64, max_position_embeddings=POSITIONS, **settings
        ),
    }
    return write_model(
        folder, transformers.AutoModelForSequenceClassification, builders[architecture](), tokenizer, seed
    )


def text_classifier_with_code(folder: Path, *, seed: int = 0) -> Path:
    """
    Write a sequence classifier whose network is a Python file beside its weights: logged and run with consent alone.

    It is twice as sure of everything as :func:`text_classifier` with the same seed.
    """
    text_classifier(folder, seed=seed)
    (folder / "twice_as_sure.py").write_text(_TWICE_AS_SURE)
    described = json.loads((folder / "config.json").read_text())
    described["architectures"] = ["TwiceAsSure"]
    described["auto_map"] = {"AutoModelForSequenceClassification": "twice_as_sure.TwiceAsSure"}
    (folder / "config.json").write_text(json.dumps(described))
    return folder


def text_generator(
    folder: Path, *, architecture: str = "gpt2", seed: int = 0, chat_template: str | None = None, **config: Any
) -> Path:
    """
    Write a causal language model without a pad token, as most of them come.

    :param architecture: ``gpt2`` (learnt positions) or ``llama`` (rotary ones).
    :param chat_template: of the tokenizer.
    :param config: more of the model's configuration.
    """
    tokenizer = byte_level_tokenizer(architecture)
    tokenizer.chat_template = chat_template
    settings = {
        **_SIZE,
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "tie_word_embeddings": False,  # tied random embeddings repeat their last token for ever
        **config,
    }
    builders: Mapping[str, Callable[[], Any]] = {
        "gpt2": lambda: transformers.GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=POSITIONS, **settings),
        "llama": lambda: transformers.LlamaConfig(
            **_ENCODER, num_key_value_heads=1, max_position_embeddings=POSITIONS, pad_token_id=None, **settings
        ),
    }
    return write_model(folder, transformers.AutoModelForCausalLM, builders[architecture](), tokenizer, seed)


def text_to_text_model(folder: Path, *, architecture: str = "t5", seed: int = 0, **config: Any) -> Path:
    """
    Write an encoder-decoder whose weights are the same under every family.

    :param architecture: ``t5`` (relative positions), ``bart`` or ``marian`` (tables of them), ``mbart`` (as ``bart``,
        with a tokenizer that chooses languages).
    :param config: more of the model's configuration, such as ``task_specific_params``.
    """
    tokenizer = _mbart_tokenizer(folder) if architecture == "mbart" else unigram_tokenizer()
    if architecture == "bart":
        tokenizer = byte_level_tokenizer("roberta")
    settings = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "decoder_start_token_id": tokenizer.pad_token_id,
        "forced_eos_token_id": None,
        **config,
    }
    of_t5 = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2}
    of_bart = {
        "d_model": 32,
        "max_position_embeddings": POSITIONS,
        **{f"{side}_layers": 2 for side in ("encoder", "decoder")},
        **{f"{side}_attention_heads": 2 for side in ("encoder", "decoder")},
        **{f"{side}_ffn_dim": 64 for side in ("encoder", "decoder")},
    }
    builders: Mapping[str, Callable[[], Any]] = {
        "t5": lambda: transformers.T5Config(**of_t5, **settings),
        "bart": lambda: transformers.BartConfig(**of_bart, **settings),
        "marian": lambda: transformers.MarianConfig(**of_bart, **settings),
        "mbart": lambda: transformers.MBartConfig(**of_bart, **settings),
    }
    return write_model(
        folder, transformers.AutoModelForSeq2SeqLM, builders[architecture](), tokenizer, seed, alike=True
    )


def word_piece_tokenizer(*, pairs: bool = True, corpus: Sequence[str] = CORPUS, whole_words: bool = False) -> Any:
    """
    Return an uncased WordPiece tokenizer as BERT has it, of the letters of a corpus and half of its words.

    The vocabulary is put together here: the library's trainer numbers it differently in every process.

    :param pairs: give ``token_type_ids``; DistilBERT takes none.
    :param whole_words: of all its words instead, so that each is one token.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors  # noqa: PLC0415

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    words = sorted({word for text in corpus for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))})
    letters = sorted(set("".join(words)))
    pieces = dict.fromkeys(
        [*special, *letters, *(f"##{letter}" for letter in letters), *words[:: 1 if whole_words else 2]]
    )
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106  a token, no password
    backend.normalizer, backend.pre_tokenizer, backend.decoder = normalizer, splitter, decoders.WordPiece()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = ["input_ids", "token_type_ids", "attention_mask"] if pairs else ["input_ids", "attention_mask"]
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=POSITIONS,
        model_input_names=names,
        **dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special, strict=True)),
    )


def unigram_tokenizer(corpus: Sequence[str] = CORPUS) -> Any:
    """Return a Unigram tokenizer of a corpus' words with ``…</s>`` around a text, as T5 has it."""
    from tokenizers import processors  # noqa: PLC0415 - as transformers

    special = ("<pad>", "</s>", "<unk>")
    backend = _unigram([(token, 0.0) for token in special] + _scored_pieces(corpus), unknown=2)
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=POSITIONS,
        model_input_names=["input_ids", "attention_mask"],
        **dict(zip(("pad_token", "eos_token", "unk_token"), special, strict=True)),
    )


def _mbart_tokenizer(folder: Path) -> Any:
    """Return mBART's own class, which only a folder makes under every family."""
    special = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    _unigram(special + _scored_pieces(CORPUS), unknown=3).save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "MBartTokenizer", "model_max_length": POSITIONS}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return transformers.AutoTokenizer.from_pretrained(folder)


def _unigram(pieces: list[tuple[str, float]], *, unknown: int) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers  # noqa: PLC0415 - as transformers

    backend = Tokenizer(models.Unigram(pieces, unk_id=unknown, byte_fallback=False))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    return backend


def _scored_pieces(corpus: Sequence[str]) -> list[tuple[str, float]]:
    """Return the letters of a corpus, which all texts of them can be cut into, and its words, which go before."""
    words = sorted({f"▁{word}" for text in corpus for word in text.split()})
    letters = sorted(set("".join(words)) - set(words))
    return [(word, -1.0 - place / 1000) for place, word in enumerate(words)] + [(letter, -10.0) for letter in letters]


def byte_level_tokenizer(family: str, corpus: Sequence[str] = CORPUS) -> Any:
    """
    Return a byte-level BPE tokenizer trained on a corpus.

    :param family: ``roberta`` (``<s> … </s>``, pad and mask), ``llama`` (``<s> …``) or ``gpt2`` (nothing around).
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers  # noqa: PLC0415 - as transformers

    special = {
        "roberta": {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "mask_token": "<mask>"},
        "llama": {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"},
        "gpt2": {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"},
    }[family]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=list(dict.fromkeys(special.values())),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    ids = backend.get_vocab()
    if family == "roberta":
        backend.post_processor = processors.RobertaProcessing(
            ("</s>", ids["</s>"]), ("<s>", ids["<s>"]), add_prefix_space=False
        )
        special |= {"cls_token": "<s>", "sep_token": "</s>"}
    if family == "llama":
        backend.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", ids["<s>"])]
        )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=POSITIONS,
        model_input_names=["input_ids", "attention_mask"],
        **special,
    )


def write_model(folder: Path, auto_class: Any, config: Any, tokenizer: Any, seed: int, *, alike: bool = False) -> Path:
    """
    Write a model with random weights and its tokenizer into a folder.

    :param tokenizer: None where the folder has one.
    :param alike: the same weights under every family of transformers.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = auto_class.from_config(config)
    if alike:
        redraw(network, seed)
    network.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return folder


def redraw(network: Any, seed: int, spread: float = 0.4) -> None:
    """
    Draw every matrix by its name: the families draw in different orders.

    :param spread: standard deviation.
    """
    for name, weight in network.named_parameters():
        if weight.requires_grad and weight.dim() > 1:
            generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{name}".encode()))
            weight.data.copy_(torch.randn(weight.shape, generator=generator) * spread)
