"""Tiny models and windows of every task, and what came of two windows, compared."""

import functools
import json

import numpy as np
import pyarrow as pa

from airflow_provider_hfreg.testing import encoder_models, models

MAKERS = {
    "conversational": models.text_generator,
    "feature-extraction": encoder_models.embedder,
    "fill-mask": encoder_models.masked_language_model,
    "question-answering": encoder_models.question_answerer,
    "summarization": models.text_to_text_model,
    "table-question-answering": functools.partial(encoder_models.table_answerer, aggregations=("NONE", "SUM", "COUNT")),
    "text-classification": encoder_models.sequence_classifier,
    "text-generation": models.text_generator,
    "text2text-generation": models.text_to_text_model,
    "token-classification": encoder_models.token_classifier,
    "translation": models.text_to_text_model,
    "zero-shot-classification": functools.partial(
        models.text_classifier, labels=("contradiction", "neutral", "entailment")
    ),
}

TEXTS = (
    "the film was good",
    "Das Essen war größtenteils köstlich, der Service leider nicht.",
    "it's",
    "この映画はとても面白かったです。",
    "the film was good",
    "a dull plot " * 60,
    "10/10 ",
)


def window(task, tokenizer, texts=TEXTS):
    """Return a window of a task's columns."""
    lists = pa.list_(pa.string())
    table = json.dumps({"title": ["good film", "bad film"], "year": ["2019", "2020"]})
    columns = {
        "conversational": {
            "user_inputs": pa.array([[text] for text in texts], lists),
            "generated_responses": pa.array([[]] * len(texts), lists),
        },
        "fill-mask": {"inputs": [f"{text[:40]} {tokenizer.mask_token} and {tokenizer.mask_token}" for text in texts]},
        "question-answering": {"question": ["the film"] * len(texts), "context": list(texts)},
        "summarization": {"documents": list(texts)},
        "table-question-answering": {"query": [text[:40] for text in texts], "table": [table] * len(texts)},
        "text-classification": {"text": list(texts), "text_pair": [None if len(text) % 2 else "bad" for text in texts]},
        "zero-shot-classification": {
            "sequences": list(texts),
            "candidate_labels": pa.array([["urgent", "good"], ["bad"]] * len(texts), lists)[: len(texts)],
        },
    }
    given = columns.get(task, {"inputs": list(texts)})
    arrays = {
        name: values if isinstance(values, pa.Array) else pa.array(values, pa.string())
        for name, values in given.items()
    }
    return pa.record_batch(arrays)


def parts(result):
    """Return a window's outputs as everything but numbers, and the numbers apart."""
    numbers, others = [], []

    def walk(value):
        if isinstance(value, dict):
            for name in value:
                others.append(name)
                walk(value[name])
        elif isinstance(value, list):
            others.append(len(value))
            for each in value:
                walk(each)
        elif isinstance(value, float):
            numbers.append(value)
        else:
            others.append(value)

    for row in result.outputs.to_pylist():
        walk([json.loads(value) if name == "outputs" else value for name, value in row.items()])
    return others, np.array(numbers)


def assert_same(result, expected, within=1e-5):
    """Compare; numbers by the largest of them."""
    assert (result.row.tolist(), result.errors) == (expected.row.tolist(), expected.errors)
    (others, numbers), (those, oracle) = parts(result), parts(expected)
    assert others == those
    assert np.abs(numbers - oracle).max(initial=0) <= within * max(1, np.abs(oracle).max(initial=0))
