"""Tiny seeded audio models, as :mod:`airflow_provider_hfreg.testing.models` has them of text."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from airflow_provider_hfreg.inference.frameworks import torch, transformers
from airflow_provider_hfreg.testing.models import byte_level_tokenizer

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


def transcriber(folder: Path, *, seed: int = 0) -> Path:
    """Write a Whisper, which generates its text, and whose tokenizer does more than encode and decode."""
    folder.mkdir(parents=True, exist_ok=True)
    byte_level_tokenizer("gpt2").backend_tokenizer.model.save(str(folder))
    special = ["<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"]
    end = "<|endoftext|>"
    told = {
        "tokenizer_class": "WhisperTokenizer",
        "additional_special_tokens": special,
        **dict.fromkeys(("pad_token", "bos_token", "eos_token", "unk_token"), end),
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(told), encoding="utf-8")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    transformers.WhisperFeatureExtractor(feature_size=8, n_fft=64, chunk_length=1).save_pretrained(folder)
    start, *_, silent = tokenizer.convert_tokens_to_ids(special)
    ends = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), tokenizer.convert_tokens_to_ids(end))
    config = transformers.WhisperConfig(
        vocab_size=len(tokenizer) + 100,
        num_mel_bins=8,
        d_model=16,
        **{f"{side}_layers": 1 for side in ("encoder", "decoder")},
        **{f"{side}_attention_heads": 2 for side in ("encoder", "decoder")},
        **{f"{side}_ffn_dim": 32 for side in ("encoder", "decoder")},
        max_source_positions=50,
        max_target_positions=448,
        init_std=0.5,
        decoder_start_token_id=start,
        **ends,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = transformers.WhisperForConditionalGeneration(config)
    network.generation_config = transformers.GenerationConfig(
        decoder_start_token_id=start, max_length=20, is_multilingual=False, no_timestamps_token_id=silent, **ends
    )
    network.save_pretrained(folder)
    return folder


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
