"""What the benchmarks of encoders run: MiniLM-size networks with seeded weights, and ragged texts for them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

MINILM = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
POSITIONS = 512
_SHORTEST, _LONGEST = 8, 450  # tokens of a text
_LETTERS = "etaoinshrdlu"


def words(count: int = 4000) -> list[str]:
    """Return words that are one token each."""
    draw = random.Random(0)
    return sorted({"".join(draw.choices(_LETTERS, k=draw.randint(3, 8))) for _ in range(count)})


def texts(rows: int, *, longest: int = _LONGEST, seed: int = 0, count: int = 4000) -> list[str]:
    """Return distinct texts of all lengths from a few tokens to ``longest``, of so many words."""
    draw, known = random.Random(seed), words(count)
    return [" ".join(draw.choices(known, k=draw.randint(_SHORTEST, longest))) for _ in range(rows)]


def write(folder: Path, auto_class: str, **config: Any) -> Path:
    """Write a network of a task as a Hugging Face folder, of MiniLM's size unless ``config`` says another one."""
    from airflow_provider_hfreg.inference.frameworks import transformers
    from airflow_provider_hfreg.testing.models import word_piece_tokenizer, write_model

    tokenizer = word_piece_tokenizer(corpus=[" ".join(words())], whole_words=True)
    tokenizer.model_max_length = POSITIONS
    fixed = {"vocab_size": 30_522, "max_position_embeddings": POSITIONS, "pad_token_id": tokenizer.pad_token_id}
    settings = transformers.BertConfig(**MINILM | fixed | config)
    return write_model(folder, getattr(transformers, auto_class), settings, tokenizer, seed=0)


def version(folder: Path, model: Path, task: str, **parameters: Any) -> Any:
    """Log a folder into a registry of its own and return the version."""
    from airflow_provider_hfreg.registry import Registry

    registry = Registry((folder / "registry").as_uri(), cache_folder=folder / "cache")
    return registry.log_folder(model, model_name=task, version_name="v1", task=task, pipeline_kwargs=parameters or None)
