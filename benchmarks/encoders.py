"""
Claim: a table through a text classifier costs less CPU than any batch size of transformers' own pipeline makes it, and
nearly nothing beside the forward itself.

    python benchmarks/encoders.py [--rows 192] [--threads 2] [--model FOLDER] [--device cuda] [--dtype bfloat16]

A MiniLM-size classifier over texts of 8 to 450 tokens, float32, ``version.run(frame)`` end to end, against
``pipeline(batch_size=…)`` and against the limit: the plain network over batches without any padding, tokens prepared
beforehand. The limit reads all tokens of the last layer, as the network does by itself.
"""

from __future__ import annotations

import functools
import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import inputs
from measuring import arguments, batch_sizes, best_of, interleaved, on_devices, parsed, seconds_of, settings_of, tell


def main() -> None:
    """Measure and tell."""
    parser = on_devices(arguments(__doc__, rows=96))
    parser.add_argument("--model", type=Path, help="a folder with an encoder's real weights instead of seeded ones")
    options = parsed(parser)
    with tempfile.TemporaryDirectory(prefix="hfreg-bench-") as name:
        folder = Path(name)
        model = options.model or inputs.write(
            folder / "model", "AutoModelForSequenceClassification", id2label={0: "bad", 1: "fair", 2: "good"}
        )
        _measure(folder, _classifier(folder, model), options)


def _classifier(folder: Path, model: Path) -> Path:
    """Return a folder that holds a classifier: an encoder alone gets a seeded head."""
    from airflow_provider_hfreg.inference.frameworks import torch, transformers

    if transformers.AutoConfig.from_pretrained(model).architectures == ["BertForSequenceClassification"]:
        return model
    torch.manual_seed(0)
    network = transformers.AutoModelForSequenceClassification.from_pretrained(model, num_labels=3)
    network.save_pretrained(folder / "classifier")
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    tokenizer.model_max_length = inputs.POSITIONS  # MiniLM's own files cut at fewer
    tokenizer.save_pretrained(folder / "classifier")
    return folder / "classifier"


def _measure(folder: Path, model: Path, options: Any) -> None:
    import numpy as np
    import pandas as pd

    from airflow_provider_hfreg.inference.frameworks import torch, transformers

    device, dtype = options.device, options.dtype
    texts = inputs.texts(options.rows)
    version = inputs.version(folder, model, "text-classification")
    frame = pd.DataFrame({"text": texts, "text_pair": [None] * len(texts)})
    pipe = transformers.pipeline("text-classification", str(model), device=device, dtype=getattr(torch, dtype))
    by_length = sorted(texts, key=lambda text: -len(text))
    sizes = batch_sizes(device)
    plain: dict[str, Callable[[], Any]] = {
        f"pipeline, {size}": lambda size=size: pipe(texts, batch_size=size, truncation=True) for size in sizes
    }
    plain[f"pipeline, {sizes[-1]} sorted"] = lambda: pipe(by_length, batch_size=sizes[-1], truncation=True)
    engine = version.engine(device=device, precision=dtype)
    ours = functools.partial(version.run, frame, device=device, precision=dtype)
    timed = interleaved(
        {"ours": ours, **plain, "forward alone": limit(engine, texts)}, repeat=options.repeat, device=device
    )
    scores = [answer["score"] for answer in pipe(texts, truncation=True)]
    difference = float(np.abs(ours()["score"].to_numpy(float) - scores).max())
    best, loaded = best_of(timed, list(plain), device), engine.loaded
    ours_s = seconds_of(timed["ours"], device)
    tell(
        "encoders",
        "a classifier against transformers' pipeline at its best, and against the forward alone",
        timed,
        ours="ours",
        settings=settings_of(options),
        times_the_best=round(seconds_of(timed[best], device) / ours_s, 2),
        best=best,
        share_of_the_limit=round(seconds_of(timed["forward alone"], device) / ours_s, 2),
        largest_difference=difference,
        packed=loaded.layout.packed,
        prepacked=loaded.is_prepacked,
    )


def limit(engine: Any, texts: list[str]) -> Callable[[], None]:
    """Return the forward over perfectly filled batches; padded ones of one length where the family cannot pack."""
    import numpy as np

    from airflow_provider_hfreg.inference.batching import cut_batches
    from airflow_provider_hfreg.inference.frameworks import torch
    from airflow_provider_hfreg.inference.packed import end_to_end
    from airflow_provider_hfreg.pipelines.ragged import Ragged

    loaded = engine.loaded
    ids = loaded.tokenizer(texts, truncation=True)["input_ids"]
    lengths = np.array([len(each) for each in ids])
    if not loaded.layout.packed:
        # As many tokens in batches of one length each: what padding costs is left out, attention is about the same.
        flat, length = list(itertools.chain(*ids)), int(lengths.mean())
        ids = [flat[start : start + length] for start in range(0, len(flat), length)]
        lengths = np.array([len(each) for each in ids])
    batches: list[dict[str, Any]] = []
    for batch in cut_batches(lengths, token_budget=engine.token_budget, packed=True):
        if loaded.layout.packed:
            columns = {"input_ids": Ragged.of_lists([ids[place] for place in batch])}
            batches.append(end_to_end(columns, loaded.network, loaded.layout.way))
            continue
        for length in sorted(set(lengths[batch].tolist())):
            of_length = [ids[place] for place in batch if lengths[place] == length]
            batches.append({"input_ids": torch.tensor(of_length, device=loaded.device)})

    def run() -> None:
        with torch.inference_mode():
            for each in batches:
                loaded.network(**each)

    return run


if __name__ == "__main__":
    main()
