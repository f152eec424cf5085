"""
Writes ``text_to_text.json``: what the pipelines of transformers 4.57 answer, the last to have these tasks.

Run under that family (constraints/ has it), after a change of the cases here or of the tiny models:

    python tests/pipelines/goldens/make_text_to_text.py

The models are drawn from their seeds alike under every family, so no weights are kept.
"""

import json
import tempfile
import warnings
from pathlib import Path

import torch
import transformers

from airflow_provider_hfreg.testing.models import text_to_text_model

TEXTS = [
    "the film was good",
    "",
    "Das Essen war größtenteils köstlich, der Service leider nicht.",
    "この映画はとても面白かったです。",
    "the film was good",
    "👩‍👩‍👧 zero\u200dwidth and \t tabs , it 's",
]
LONG = ["a dull plot " * 40, "good"]
ENDS = list(range(20, 90))  # so many end tokens that texts end at different lengths
OF_T5 = {
    "summarization": {
        "early_stopping": True,
        "length_penalty": 2.0,
        "max_length": 30,
        "min_length": 6,
        "no_repeat_ngram_size": 2,
        "num_beams": 2,
        "prefix": "summarize: ",
    },
    "translation_en_to_fr": {"num_beams": 3, "prefix": "translate English to French: "},
    "translation_en_to_de": {"prefix": "translate English to German: "},
}

# task, architecture, the model's configuration, the pipeline's arguments, texts
CASES = [
    ("summarization", "t5", {"task_specific_params": OF_T5}, {"max_new_tokens": 14}, TEXTS),
    ("summarization", "t5", {"task_specific_params": OF_T5}, {"max_length": 9, "num_beams": 1}, TEXTS[:3]),
    ("summarization", "t5", {"task_specific_params": OF_T5}, {"eos_token_id": ENDS}, TEXTS[:3]),
    ("summarization", "bart", {}, {"min_length": 4, "max_length": 12, "eos_token_id": ENDS}, TEXTS),
    ("summarization", "bart", {}, {"num_return_sequences": 2, "max_new_tokens": 8}, TEXTS),
    ("text2text-generation", "t5", {}, {"max_new_tokens": 10}, TEXTS),
    ("text2text-generation", "t5", {}, {"max_new_tokens": 10, "num_beams": 1, "repetition_penalty": 1.4}, TEXTS),
    ("text2text-generation", "t5", {}, {"max_new_tokens": 8, "num_return_sequences": 3, "num_beams": 3}, TEXTS),
    ("text2text-generation", "t5", {"prefix": "ask: "}, {"eos_token_id": ENDS, "num_beams": 1}, TEXTS),
    ("text2text-generation", "t5", {}, {"max_new_tokens": 8}, LONG),  # relative positions: nothing is too long
    ("text2text-generation", "t5", {}, {"max_new_tokens": 8, "truncation": True}, LONG),
    ("text2text-generation", "bart", {}, {"max_new_tokens": 8, "truncation": True}, LONG),
    ("text2text-generation", "bart", {}, {"max_new_tokens": 10, "clean_up_tokenization_spaces": True}, TEXTS),
    ("text2text-generation", "bart", {}, {"max_new_tokens": 10, "encoder_no_repeat_ngram_size": 2}, TEXTS),
    ("text2text-generation", "t5", {}, {"max_new_tokens": 12, "num_beams": 1, "stop_sequence": "year"}, TEXTS),
    ("translation", "marian", {}, {"max_new_tokens": 10}, TEXTS),
    ("translation", "t5", {"task_specific_params": OF_T5}, {"max_new_tokens": 10}, TEXTS),
    ("translation_en_to_de", "t5", {"task_specific_params": OF_T5}, {"max_new_tokens": 10}, TEXTS),
    ("translation", "mbart", {}, {"max_new_tokens": 10, "src_lang": "en_XX", "tgt_lang": "ro_RO"}, TEXTS),
    ("translation", "mbart", {}, {"max_new_tokens": 10, "src_lang": "de_DE", "tgt_lang": "fr_XX"}, TEXTS),
]


def answer(task, architecture, config, arguments, texts):
    with tempfile.TemporaryDirectory() as folder:
        text_to_text_model(Path(folder), architecture=architecture, **config)
        pipe = transformers.pipeline(task, model=folder, device="cpu", **arguments)
        return {
            "task": task,
            "architecture": architecture,
            "config": config,
            "arguments": arguments,
            "texts": texts,
            "named": pipe.task,
            "alone": [pipe(text) for text in texts],
            "together": pipe(texts),
        }


if __name__ == "__main__":
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    golden = {"transformers": transformers.__version__, "cases": [answer(*case) for case in CASES]}
    path = Path(__file__).with_name("text_to_text.json")
    path.write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
