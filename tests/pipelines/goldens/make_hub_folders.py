"""
Writes ``hub_folders.json``: what transformers 4.57 encodes and answers with folders as the hub has them.

Run under that family (constraints/ has it), after a change of the cases here or of the folders:

    python tests/pipelines/goldens/make_hub_folders.py

The vocabularies are trained and the weights drawn alike under every family, so neither is kept.
"""

import json
import tempfile
import warnings
from pathlib import Path

import torch
import transformers

from airflow_provider_hfreg.testing.hub_folders import HUB_FOLDERS

TEXTS = [
    "the film was good",
    "Das Essen war größtenteils köstlich, der Service leider nicht.",
    "The <user> film 映画 it's 10 / 10 !",
    " leading  two spaces\tand a tab",
    "ﬁ ligature Ａ fullwidth",
    "",
]
SHORT = {"max_new_tokens": 8, "num_beams": 2}
CASES = [
    ("t5", "summarization", SHORT),
    ("t5", "translation", SHORT),
    ("t5 with tokenizer.json", "summarization", SHORT),
    ("marian", "translation_en_to_fr", SHORT),
    ("marian", "translation", {**SHORT, "num_return_sequences": 2}),
    ("m2m100", "translation_en_to_fr", SHORT),
    ("m2m100", "translation", {**SHORT, "src_lang": "de", "tgt_lang": "ja"}),
    ("nllb", "translation", {**SHORT, "src_lang": "deu_Latn", "tgt_lang": "fra_Latn"}),
    ("mbart", "translation", {**SHORT, "src_lang": "de_DE", "tgt_lang": "fr_XX"}),
    ("bert", "text-classification", {}),
    ("generic", "text-classification", {}),
    ("roberta", "fill-mask", {"top_k": 2}),
]


def answer(root, name, task, arguments):
    folder = root / name
    if not folder.exists():
        HUB_FOLDERS[name](folder)
    pipe = transformers.pipeline(task, model=str(folder), device="cpu", **arguments)
    texts = [f"{text} <mask>." for text in TEXTS] if task == "fill-mask" else TEXTS
    return {
        "folder": name,
        "task": task,
        "arguments": arguments,
        "texts": texts,
        "encoded": pipe.tokenizer(texts)["input_ids"],
        "types": pipe.tokenizer(texts, texts[::-1]).get("token_type_ids"),
        "answers": [pipe(text) for text in texts],
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as root:
        cases = [answer(Path(root), *case) for case in CASES]
    golden = {"transformers": transformers.__version__, "cases": cases}
    path = Path(__file__).with_name("hub_folders.json")
    path.write_text(json.dumps(golden, ensure_ascii=False) + "\n", encoding="utf-8")
