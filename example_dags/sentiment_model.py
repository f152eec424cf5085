"""
A small sentiment classifier, trained in half a minute on one core and written as a plain Hugging Face folder.

A WordPiece tokenizer is learnt from the training texts alone, then a BERT of two layers from random weights: an example
must run without a hub and without a GPU. With a hub, ``BertForSequenceClassification.from_pretrained(…)`` in
:func:`new_network` is all that changes.

It learns from the raters' mean, not from the label: a text rated 0.1 teaches that it is nearly neutral, where the label
would claim that it is as positive as one rated 3.9. Seeds and the number of threads are fixed: one machine gives the
same weights each time, and with them the same content digest in the registry.

Only the task that trains imports this module; a DAG file that did would make every scheduler load torch.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch  # noqa: TID253 - see the last paragraph above
from sentiment_data import LABELS
from sentiment_workspace import Settings
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import (  # noqa: TID253
    BertConfig,
    BertForSequenceClassification,
    BertTokenizerFast,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as transformers_logging  # noqa: TID253

log = logging.getLogger(__name__)

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
MAX_TOKENS = 128
THREADS = 1  # two that wait for each other on a busy machine take longer than one, and their sums differ by rounding


@dataclass(frozen=True)
class Encoded:
    """Texts as token ids, and the probability of the positive label that each is to be given."""

    ids: list[list[int]]
    length: np.ndarray
    target: np.ndarray


def train(table: pa.Table, folder: Path, settings: Settings) -> dict[str, float]:
    """
    Write the trained model to ``folder`` and return its metrics.

    :param table: of :data:`sentiment_data.SCHEMA`; rows of the split ``train`` are learnt from, the others measure.
    :param folder: an empty one.
    """
    transformers_logging.disable_progress_bar()
    torch.manual_seed(settings.seed)
    torch.set_num_threads(THREADS)
    learn = table.filter(pc.equal(table["split"], "train"))
    if settings.train_rows is not None:
        learn = learn.slice(0, settings.train_rows)
    held_out = table.filter(pc.equal(table["split"], "held_out"))

    started = time.monotonic()
    tokenizer = new_tokenizer(learn["text"].to_pylist(), settings)
    network = new_network(len(tokenizer), settings)
    log.info("Learning from %s texts, %s epochs.", f"{learn.num_rows:,}", settings.epochs)
    fit(network, encode(learn, tokenizer), settings)
    metrics = {
        **measure(network, encode(held_out, tokenizer)),
        "train_rows": learn.num_rows,
        "held_out_rows": held_out.num_rows,
        "train_s": round(time.monotonic() - started, 1),
    }
    log.info("Accuracy on the %s texts held out: %.4f.", f"{held_out.num_rows:,}", metrics["accuracy"])
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return metrics


def new_tokenizer(texts: Sequence[str], settings: Settings) -> PreTrainedTokenizerFast:
    """Return a lower-casing WordPiece tokenizer whose vocabulary was learnt from ``texts``."""
    learner = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # noqa: S106 - a word of the vocabulary
    learner.normalizer = normalizers.BertNormalizer()
    learner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    # The pieces of one letter are given, in order: met in the texts, they get numbers that differ from run to run.
    letters = sorted(set(learner.normalizer.normalize_str("".join(texts))) - {" "})
    trainer = trainers.WordPieceTrainer(
        vocab_size=settings.vocabulary_size,
        min_frequency=2,
        special_tokens=[*SPECIAL_TOKENS, *letters, *(f"##{letter}" for letter in letters)],
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    with tempfile.TemporaryDirectory() as folder:
        learner.model.save(folder)
        # From the vocabulary, as BERT's own tokenizer: a generic one is written differently by transformers 4 and 5.
        return BertTokenizerFast.from_pretrained(folder, model_max_length=MAX_TOKENS)


def new_network(vocabulary_size: int, settings: Settings) -> BertForSequenceClassification:
    """Return the untrained classifier."""
    config = BertConfig(
        vocab_size=vocabulary_size,
        hidden_size=settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.width // 32,
        intermediate_size=2 * settings.width,
        max_position_embeddings=MAX_TOKENS,
        attention_probs_dropout_prob=0.0,
        id2label=dict(enumerate(LABELS)),
        label2id={label: number for number, label in enumerate(LABELS)},
    )
    return BertForSequenceClassification(config)


def encode(table: pa.Table, tokenizer: PreTrainedTokenizerFast) -> Encoded:
    """Return the rows of ``table`` as the network reads them."""
    ids = tokenizer(table["text"].to_pylist(), truncation=True)["input_ids"]
    return Encoded(
        ids=ids,
        length=np.array([len(row) for row in ids]),
        target=1 / (1 + np.exp(-2 * table["rating"].to_numpy())),  # a rating of 1 is to give 0.88
    )


def fit(network: BertForSequenceClassification, rows: Encoded, settings: Settings) -> None:
    """Train ``network`` in place, telling how far it is five times an epoch."""
    steps_per_epoch = len(batches(rows.length, settings, epoch=0))
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.epochs * steps_per_epoch + 1, pct_start=0.1
    )
    network.train()
    for epoch in range(settings.epochs):
        losses: list[float] = []
        for step, batch in enumerate(batches(rows.length, settings, epoch=epoch), start=1):
            wanted = torch.from_numpy(rows.target[batch]).float()
            loss = torch.nn.functional.binary_cross_entropy_with_logits(_margin(network, rows, batch), wanted)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            if step % max(1, steps_per_epoch // 5) == 0:
                done = f"{step / steps_per_epoch:.0%}"
                log.info("Epoch %s of %s: %s, loss %.3f.", epoch + 1, settings.epochs, done, np.mean(losses[-50:]))


def measure(network: BertForSequenceClassification, rows: Encoded) -> dict[str, float]:
    """Return the share of rows given the right label, and that of the label which is the more frequent one."""
    network.eval()
    positive = np.empty(len(rows.ids), dtype=bool)
    order = np.argsort(rows.length, kind="stable")
    with torch.inference_mode():
        for batch in np.array_split(order, max(1, len(order) // 256)):
            positive[batch] = _margin(network, rows, batch).numpy() > 0
    truth = rows.target > 0.5
    share = float(truth.mean())
    return {"accuracy": round(float((positive == truth).mean()), 4), "majority": round(max(share, 1 - share), 4)}


def batches(length: np.ndarray, settings: Settings, *, epoch: int) -> list[np.ndarray]:
    """
    Return the rows of each step of an epoch: in random order, and of like length within a step, as padding is work too.

    >>> [batch.tolist() for batch in batches(np.array([9, 3, 8, 2]), Settings(batch_rows=2), epoch=0)]
    [[2, 0], [3, 1]]
    """
    random = np.random.default_rng((settings.seed, epoch))
    shuffled = random.permutation(len(length))
    cut: list[np.ndarray] = []
    for start in range(0, len(length), 16 * settings.batch_rows):
        window = shuffled[start : start + 16 * settings.batch_rows]
        window = window[np.argsort(length[window], kind="stable")]
        cut += [window[at : at + settings.batch_rows] for at in range(0, len(window), settings.batch_rows)]
    return [cut[at] for at in random.permutation(len(cut))]


def _margin(network: BertForSequenceClassification, rows: Encoded, batch: np.ndarray) -> torch.Tensor:
    """By how much the positive label's logit is above the other one, per row of ``batch``."""
    longest = int(rows.length[batch].max())
    ids = torch.tensor([rows.ids[row] + [0] * (longest - len(rows.ids[row])) for row in batch])
    logits = network(ids, attention_mask=(ids != 0).long()).logits
    return logits[:, 1] - logits[:, 0]
