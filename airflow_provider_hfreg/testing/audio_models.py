"""Tiny seeded audio models, as :mod:`airflow_provider_hfreg.testing.models` has them of text."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from airflow_provider_hfreg.inference.frameworks import torch, transformers

_LETTERS = ("<pad>", "<s>", "</s>", "<unk>", "|", "a", "b", "ü")
_WAV2VEC2 = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": (16, 16),
    "conv_kernel": (8, 4),
    "conv_stride": (4, 4),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "initializer_range": 0.5,
}


def audio_classifier(folder: Path, *, seed: int = 0) -> Path:
    """Write a classifier of raw samples: a network and a feature extractor, no tokenizer."""
    labels = ("no", "größer", "yes")
    config = transformers.Wav2Vec2Config(
        **_WAV2VEC2,
        classifier_proj_size=8,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
    )
    return _write(folder, transformers.Wav2Vec2ForSequenceClassification, config, seed)


def speech_recognizer(folder: Path, *, seed: int = 0) -> Path:
    """Write a recogniser of letters in raw samples: a network, a feature extractor and a tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = folder / "vocab.json"
    vocabulary.write_text(json.dumps({letter: index for index, letter in enumerate(_LETTERS)}), encoding="utf-8")
    transformers.Wav2Vec2CTCTokenizer(str(vocabulary)).save_pretrained(folder)
    config = transformers.Wav2Vec2Config(**_WAV2VEC2, vocab_size=len(_LETTERS))
    return _write(folder, transformers.Wav2Vec2ForCTC, config, seed)


def speaker(folder: Path, *, seed: int = 0) -> Path:
    """Write a text-to-audio model, which draws random numbers at each run."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = folder / "letters.json"
    vocabulary.write_text(json.dumps({letter: index for index, letter in enumerate("k _abcdefghilmnoprstuvwxyz")}))
    transformers.VitsTokenizer(str(vocabulary), phonemize=False).save_pretrained(folder)
    vocabulary.unlink()
    config = transformers.VitsConfig(
        vocab_size=27,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        ffn_dim=32,
        flow_size=16,
        spectrogram_bins=9,
        duration_predictor_filter_channels=8,
        duration_predictor_num_flows=1,
        upsample_initial_channel=16,
        upsample_rates=[4, 4],
        upsample_kernel_sizes=[8, 8],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1]],
        prior_encoder_num_flows=1,
        prior_encoder_num_wavenet_layers=1,
        posterior_encoder_num_wavenet_layers=1,
    )
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # of torch, about how 4.57 compiles a function of this model
        torch.manual_seed(seed)
        transformers.VitsModel(config).save_pretrained(folder)
    return folder


def _write(folder: Path, network_class: Any, config: Any, seed: int) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network_class(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder
