"""
What the versions in a folder say, under whatever transformers this Python has: run by tests, in both families.

Each ``<name>.json`` is a spec, the folder ``<name>`` beside it its files. Prints one JSON object.
"""

import json
import sys
from pathlib import Path

import pyarrow as pa

from airflow_provider_hfreg.inference.engine import Engine
from airflow_provider_hfreg.inference.loading import load_pipeline
from airflow_provider_hfreg.inference.stand_in import load_pipeline_object
from airflow_provider_hfreg.pipelines.catalog import find_task
from airflow_provider_hfreg.pipelines.spec import PipelineSpec

TEXTS = [
    "the film was good",
    "",
    "Größtenteils köstlich",
    "The <user> film 映画 it's 10 / 10 !",
    " leading",
    "👩‍👩‍👧 \u0000 x",
]


def answers(folder, spec):
    if find_task(spec.task) is None:
        pipe = load_pipeline_object(folder, spec, device="cpu", trust_remote_code=True)
        return {**of_tokenizer(pipe.tokenizer), "outputs": pipe(TEXTS), "plain": None}
    loaded = load_pipeline(folder, spec, device="cpu")
    inputs = loaded.task.signature(spec.parameters).inputs
    columns = {
        feature.name: pa.array(texts if feature.shape is None else [[text or "-"] for text in texts])
        for feature, texts in zip(inputs, (TEXTS, TEXTS[::-1]), strict=False)
    }
    draws, lists = spec.generation.get("do_sample"), any(feature.shape is not None for feature in inputs)
    return {
        **of_tokenizer(loaded.tokenizer),
        "outputs": Engine(loaded).run(pa.record_batch(columns), seed=3).outputs.to_pydict(),
        "plain": None if draws or lists else load_pipeline_object(folder, spec, device="cpu")(TEXTS),
    }


def of_tokenizer(tokenizer):
    encoded = tokenizer(TEXTS)
    return {
        "encoded": dict(encoded),
        "pairs": dict(tokenizer(TEXTS, TEXTS[::-1])),
        "decoded": [tokenizer.decode(ids, clean_up_tokenization_spaces=False) for ids in encoded["input_ids"]],
        "limits": [tokenizer.model_max_length, tokenizer.padding_side, tokenizer.truncation_side],
        "special": sorted(map(str, tokenizer.all_special_tokens)),
    }


if __name__ == "__main__":
    root = Path(sys.argv[1])
    specs = {path.stem: PipelineSpec.from_json(json.loads(path.read_text())) for path in sorted(root.glob("*.json"))}
    print(json.dumps({name: answers(root / name, spec) for name, spec in specs.items()}))
