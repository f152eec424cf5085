"""
The table of the sentiment example: 23,703 short texts, each rated by about twenty people from -4 to 4.

They come out of an archive inside the source distribution of ``vaderSentiment``, which pip fetches, so that whatever
index and certificates pip is set up with are used here too. The texts themselves are in no repository of ours.

A row is ``id``, ``source``, ``text``, ``rating`` (the raters' mean), ``label`` (``POSITIVE`` above zero, else
``NEGATIVE``) and ``split``: ``train`` for 17,500 rows drawn by a fixed seed, ``held_out`` for the others. A text that
occurs twice has both of its rows on one side, so that nothing is asked in the end that was seen in training.

C.J. Hutto and E. Gilbert: VADER, a parsimonious rule-based model for sentiment analysis of social media text.
ICWSM 2014.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

RELEASE = "vaderSentiment==3.3.2"
RELEASE_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
ARCHIVE = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
FILES = {
    "movies": "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt",
    "editorials": "hutto_ICWSM_2014/nytEditorialSnippets_GroundTruth.txt",
    "tweets": "hutto_ICWSM_2014/tweets_GroundTruth.txt",
    "products": "hutto_ICWSM_2014/amazonReviewSnippets_GroundTruth.txt",
}
TRAIN_ROWS = 17_500
SPLIT_SEED = 2014

LABELS = ("NEGATIVE", "POSITIVE")
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("text", pa.string()),
        ("rating", pa.float64()),
        ("label", pa.string()),
        ("split", pa.string()),
    ]
)


def download_release(folder: Path) -> Path:
    """
    Return the source distribution in ``folder``, fetched by pip unless it is there.

    :raises RuntimeError: pip failed (its own words follow), or the file is not the one that is expected.
    """
    path = folder / (RELEASE.replace("==", "-") + ".tar.gz")
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        # "--no-binary" for this one package alone: what pip needs to read its metadata may come as wheels.
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "vaderSentiment"]
        done = subprocess.run([*command, "--dest", str(folder), RELEASE], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"pip could not download {RELEASE}: {done.stderr.strip()}")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != RELEASE_SHA256:
        raise RuntimeError(f"{path} has the SHA-256 {digest}, expected {RELEASE_SHA256}. Remove it.")
    return path


def read_release(path: Path) -> pa.Table:
    """Return the table of the texts in the source distribution at ``path``, in a fixed order."""
    with tarfile.open(path) as release:
        archive = _member(release, ARCHIVE)
    with tarfile.open(fileobj=io.BytesIO(archive)) as inner:
        rows = [row for source, name in FILES.items() for row in _rows(source, _member(inner, name))]
    ids, sources, texts, ratings = zip(*rows, strict=True)
    return with_labels(ids, sources, texts, ratings, train_rows=TRAIN_ROWS)


def with_labels(
    ids: tuple[str, ...],
    sources: tuple[str, ...],
    texts: tuple[str, ...],
    ratings: tuple[float, ...],
    *,
    train_rows: int,
) -> pa.Table:
    """
    Return the table of :data:`SCHEMA`.

    >>> with_labels(("1", "2"), ("tweets",) * 2, ("Yay!", "Oh no."), (2.5, -1.0), train_rows=1)["label"].to_pylist()
    ['POSITIVE', 'NEGATIVE']
    """
    label = [LABELS[rating > 0] for rating in ratings]
    split = np.where(in_train(texts, train_rows), "train", "held_out")
    return pa.table([list(ids), list(sources), list(texts), list(ratings), label, split], schema=SCHEMA)


def in_train(texts: tuple[str, ...], train_rows: int) -> np.ndarray:
    """
    Return, per row, whether it is one of the ``train_rows`` to learn from; equal texts are on one side.

    The texts are put into a random order that the seed fixes, and taken in that order as long as their rows fit.

    >>> in_train(("a", "b", "a", "c"), 4).tolist()
    [True, True, True, True]
    >>> chosen = in_train(("a", "b", "a", "c"), 2)
    >>> int(chosen.sum()) <= 2 and chosen[0] == chosen[2]
    np.True_
    """
    _, text_of_row, rows_of_text = np.unique(np.array(texts, dtype=object), return_inverse=True, return_counts=True)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(rows_of_text))
    fits = np.empty(len(order), dtype=bool)
    fits[order] = np.cumsum(rows_of_text[order]) <= train_rows
    return fits[text_of_row]


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise RuntimeError(f"{name} in {RELEASE} is not a file.")
    return file.read()


def _rows(source: str, content: bytes) -> Iterator[tuple[str, str, str, float]]:
    for line in content.decode("utf-8").split("\r\n"):
        if line:
            number, rating, text = line.split("\t")
            yield f"{source}/{number}", source, text, float(rating)
