"""
Claim: vectors of a table cost less CPU than sentence-transformers takes for them at any batch size.

    python benchmarks/embeddings.py [--rows 192] [--threads 2] [--model FOLDER]

Needs sentence-transformers (``pip install 'airflow-provider-hfreg[bench]'``). Mean pooling, normalised, float32, texts
of 8 to 450 tokens; sentence-transformers sorts by length itself.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import inputs
from measuring import arguments, best_of, interleaved, parsed, skip_without, tell

_SIZES = (1, 8, 32)


def main() -> None:
    """Measure and tell."""
    parser = arguments(__doc__, rows=32)
    parser.add_argument("--model", type=Path, help="a folder with real weights instead of seeded ones")
    options = parsed(parser)
    skip_without("sentence_transformers")
    with tempfile.TemporaryDirectory(prefix="hfreg-bench-") as name:
        folder = Path(name)
        _measure(folder, options.model or inputs.write(folder / "model", "AutoModel"), options)


def _measure(folder: Path, model: Path, options: Any) -> None:
    import numpy as np
    import pandas as pd
    from sentence_transformers import SentenceTransformer, models

    texts = inputs.texts(options.rows)
    version = inputs.version(folder, model, "feature-extraction", pooling="mean", normalize=True)
    frame = pd.DataFrame({"inputs": texts})
    reader = models.Transformer(str(model), max_seq_length=inputs.POSITIONS)
    width = reader.get_word_embedding_dimension()
    theirs = SentenceTransformer(modules=[reader, models.Pooling(width), models.Normalize()], device="cpu")
    plain: dict[str, Callable[[], Any]] = {
        f"encode, {size}": lambda size=size: theirs.encode(texts, batch_size=size) for size in _SIZES
    }
    timed = interleaved({"ours": lambda: version.run(frame), **plain}, repeat=options.repeat)
    vectors = np.stack(version.run(frame)["embedding"].to_list())
    best = best_of(timed, list(plain))
    tell(
        "embeddings",
        "vectors of texts against sentence-transformers at its best",
        timed,
        ours="ours",
        settings={"rows": options.rows, "threads": options.threads, "repeat": options.repeat},
        times_the_best=round(timed[best].cpu_s / timed["ours"].cpu_s, 2),
        best=best,
        largest_difference=float(np.abs(vectors - theirs.encode(texts)).max()),
    )


if __name__ == "__main__":
    main()
