"""
Claim: a table through a classifier costs less CPU than MLflow's transformers flavour makes it at any batch size.

    python benchmarks/mlflow_flavour.py [--rows 192] [--threads 2]

Needs MLflow (``make bench`` installs it). The same MiniLM-size pipeline, logged there and here; both are called with a
data frame and give one, float32, texts of 8 to 450 tokens.
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
    options = parsed(arguments(__doc__, rows=32))
    skip_without("mlflow")
    with tempfile.TemporaryDirectory(prefix="hfreg-bench-") as name:
        _measure(Path(name), options)


def _measure(folder: Path, options: Any) -> None:
    import numpy as np
    import pandas as pd

    labels = {0: "bad", 1: "fair", 2: "good"}
    model = inputs.write(folder / "model", "AutoModelForSequenceClassification", id2label=labels)
    texts = inputs.texts(options.rows)
    version = inputs.version(folder, model, "text-classification")
    frame = pd.DataFrame({"text": texts, "text_pair": [None] * len(texts)})
    theirs = pd.DataFrame({"text": texts})
    flavour: dict[str, Callable[[], Any]] = {
        f"mlflow, {size}": _flavour(folder / f"mlflow-{size}", model, size, theirs) for size in _SIZES
    }
    timed = interleaved({"ours": lambda: version.run(frame), **flavour}, repeat=options.repeat)
    difference = np.abs(version.run(frame)["score"].to_numpy(float) - flavour["mlflow, 1"]()["score"].to_numpy(float))
    best = best_of(timed, list(flavour))
    tell(
        "mlflow",
        "a classifier against MLflow's transformers flavour at its best",
        timed,
        ours="ours",
        settings={"rows": options.rows, "threads": options.threads, "repeat": options.repeat},
        times_the_best=round(timed[best].cpu_s / timed["ours"].cpu_s, 2),
        best=best,
        largest_difference=float(difference.max()),
    )


def _flavour(folder: Path, model: Path, batch_size: int, frame: Any) -> Callable[[], Any]:
    """Log the pipeline with MLflow and return what its loaded form does with a frame."""
    import mlflow
    import mlflow.transformers

    from airflow_provider_hfreg.inference.frameworks import transformers

    pipe = transformers.pipeline("text-classification", str(model), device="cpu")
    settings = {"batch_size": batch_size, "truncation": True}
    mlflow.transformers.save_model(pipe, str(folder), model_config=settings, pip_requirements=["transformers"])
    loaded = mlflow.pyfunc.load_model(str(folder))
    return lambda: loaded.predict(frame)


if __name__ == "__main__":
    main()
