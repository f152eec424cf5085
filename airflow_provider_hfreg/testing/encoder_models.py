"""
Tiny seeded encoders that judge tokens: for token classification, masks, spans, embeddings and tables.

As in :mod:`.models`, whose tokenizers they have; their weights are the same under every family of transformers, so that
answers recorded under one are right under the other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from airflow_provider_hfreg.inference.frameworks import transformers
from airflow_provider_hfreg.testing.models import (
    POSITIONS,
    byte_level_tokenizer,
    word_piece_tokenizer,
    write_model,
)

ENTITIES = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "MISC")

_BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
_DISTILBERT = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}


def token_classifier(
    folder: Path, *, architecture: str = "bert", labels: Sequence[str] = ENTITIES, seed: int = 0, **config: Any
) -> Path:
    """
    Write a token classifier.

    :param labels: names of the classes, in the order of the logits.
    """
    named = {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
        **config,
    }
    return _write(folder, transformers.AutoModelForTokenClassification, architecture, seed, named)


def sequence_classifier(folder: Path, *, architecture: str = "bert", seed: int = 0, **config: Any) -> Path:
    """Write a classifier of texts, of every architecture that is here and with three labels."""
    labelled = {"id2label": {0: "negative", 1: "neutral", 2: "positive"}, **config}
    return _write(folder, transformers.AutoModelForSequenceClassification, architecture, seed, labelled)


def masked_language_model(folder: Path, *, architecture: str = "bert", seed: int = 0, **config: Any) -> Path:
    """Write a model that fills masks."""
    return _write(folder, transformers.AutoModelForMaskedLM, architecture, seed, config)


def question_answerer(folder: Path, *, architecture: str = "bert", seed: int = 0, **config: Any) -> Path:
    """Write a model that finds the answer to a question in a context."""
    return _write(folder, transformers.AutoModelForQuestionAnswering, architecture, seed, config)


def embedder(folder: Path, *, architecture: str = "bert", seed: int = 0, **config: Any) -> Path:
    """Write an encoder without a head."""
    return _write(folder, transformers.AutoModel, architecture, seed, config)


def sentence_embedder(
    folder: Path, *, architecture: str = "bert", pooling: str = "mean", normalize: bool = True, seed: int = 0
) -> Path:
    """
    Write an encoder with what sentence-transformers, from version 6 on, writes beside it.

    :param pooling: as it calls it: ``mean``, ``cls``, ``max``, ``lasttoken`` …
    """
    embedder(folder, architecture=architecture, seed=seed)
    library, kinds = "sentence_transformers", {"": "base.modules.transformer.Transformer"}
    kinds["1_Pooling"] = "sentence_transformer.modules.pooling.Pooling"
    if normalize:
        kinds["2_Normalize"] = "base.modules.normalize.Normalize"
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"{library}.{kind}"}
        for index, (path, kind) in enumerate(kinds.items())
    ]
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    (folder / "1_Pooling").mkdir()
    told = {"embedding_dimension": _BERT["hidden_size"], "pooling_mode": pooling, "include_prompt": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(told), encoding="utf-8")
    return folder


def table_answerer(folder: Path, *, aggregations: Sequence[str] = (), seed: int = 0, **config: Any) -> Path:
    """
    Write a Tapas model.

    :param aggregations: what it may do with the cells, ``NONE`` first; without any it has no such head.
    """
    tokenizer = tapas_tokenizer(folder, word_piece_tokenizer())
    aggregating = {
        "num_aggregation_labels": len(aggregations),
        "aggregation_labels": dict(enumerate(aggregations)),
        "no_aggregation_label_index": 0,
    }
    settings = transformers.TapasConfig(
        **_BERT,
        vocab_size=len(tokenizer),
        max_position_embeddings=POSITIONS,
        initializer_range=0.4,
        **(aggregating if aggregations else {}),
        **config,
    )
    return write_model(folder, transformers.AutoModelForTableQuestionAnswering, settings, tokenizer, seed, alike=True)


def tapas_tokenizer(folder: Path, like: Any) -> Any:
    """
    Return Tapas' own tokenizer, which only a file in the folder makes.

    :param like: a tokenizer with the pieces that it shall have.
    """
    vocabulary = like.get_vocab()
    pieces = [*sorted(vocabulary, key=vocabulary.__getitem__), "[EMPTY]"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(pieces), encoding="utf-8")
    return transformers.TapasTokenizer(str(folder / "vocab.txt"), model_max_length=POSITIONS)


def _write(folder: Path, auto_class: Any, architecture: str, seed: int, config: Mapping[str, Any]) -> Path:
    tokenizer = (
        byte_level_tokenizer("roberta")
        if architecture in ("roberta", "xlm-roberta", "camembert")
        else word_piece_tokenizer(pairs=architecture not in ("distilbert", "mpnet"))
    )
    settings = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, **config}
    positions = {"max_position_embeddings": POSITIONS}
    beyond_padding = {"max_position_embeddings": POSITIONS + 2}  # RoBERTa counts positions from pad + 1
    builders: Mapping[str, Callable[[], Any]] = {
        "bert": lambda: transformers.BertConfig(**_BERT, **positions, **settings),
        "albert": lambda: transformers.AlbertConfig(**_BERT, embedding_size=16, **positions, **settings),
        "electra": lambda: transformers.ElectraConfig(**_BERT, embedding_size=16, **positions, **settings),
        "mpnet": lambda: transformers.MPNetConfig(**_BERT, **beyond_padding, **settings),
        "roberta": lambda: transformers.RobertaConfig(**_BERT, **beyond_padding, **settings),
        "xlm-roberta": lambda: transformers.XLMRobertaConfig(**_BERT, **beyond_padding, **settings),
        "camembert": lambda: transformers.CamembertConfig(**_BERT, **beyond_padding, **settings),
        "deberta-v2": lambda: transformers.DebertaV2Config(
            **_BERT, **positions, **settings, relative_attention=True, position_buckets=8, pos_att_type=["p2c", "c2p"]
        ),
        "modernbert": lambda: transformers.ModernBertConfig(
            **_BERT, **positions, **settings, local_attention=8, global_attn_every_n_layers=2
        ),
        "megatron-bert": lambda: transformers.MegatronBertConfig(**_BERT, **positions, **settings),
        "distilbert": lambda: transformers.DistilBertConfig(**_DISTILBERT, **positions, **settings),
        "big_bird": lambda: transformers.BigBirdConfig(**_BERT, **positions, **settings, block_size=4),
        "convbert": lambda: transformers.ConvBertConfig(
            **_BERT, embedding_size=32, conv_kernel_size=5, **positions, **settings
        ),
        "xlnet": lambda: transformers.XLNetConfig(d_model=32, n_layer=2, n_head=2, d_inner=64, **settings),
    }
    return write_model(folder, auto_class, builders[architecture](), tokenizer, seed, alike=True)
