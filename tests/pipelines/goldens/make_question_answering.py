"""
Writes ``question_answering.json``: what the pipeline of transformers 4.57 answers, the last to have this task.

Run under that family (constraints/ has it), after a change of the cases here or of the tiny models:

    python tests/pipelines/goldens/make_question_answering.py

The models are drawn from their seeds alike under every family, so no weights are kept.
"""

import json
import tempfile
import warnings
from pathlib import Path

import transformers

from airflow_provider_hfreg.testing.encoder_models import question_answerer

PAIRS = [
    ("what was good?", "the film was good and the music better than anything I heard this year"),
    ("who?", "it's neither good nor bad; it simply is what it is"),
    ("Was war köstlich?", "Das Essen war größtenteils KÖSTLICH, der Service leider nicht. ﬁn İstanbul"),
    ("何?", "この映画はとても面白かったです。"),
    ("good?", "good"),
    ("good?", "good good good GOOD Good"),
    ("a", "👩‍👩‍👧 zero\u200dwidth \u0000 e\u0301 and\t tabs"),
    ("[CLS] what?", "a dull [CLS] plot, [SEP] wooden acting"),
    ("why?", "a dull plot, wooden acting, and an ending nobody asked for! " * 6),
    ("why?", "Great value :) would buy again 10/10. " * 20 + "the film was good"),
    ("where is it?", "   spaces   around   "),
]
UNANSWERABLE = [("what?", " "), ("what?", "\u200d")]

# architecture, what the tokenizer pads, the pipeline's arguments
CASES = [
    ("bert", "right", {}),
    ("bert", "right", {"top_k": 1}),
    ("bert", "right", {"top_k": 4}),
    ("bert", "right", {"top_k": 30}),
    ("bert", "right", {"top_k": 3, "handle_impossible_answer": True}),
    ("bert", "right", {"handle_impossible_answer": True}),
    ("bert", "right", {"align_to_words": False}),
    ("bert", "right", {"align_to_words": False, "top_k": 5, "max_answer_len": 3}),
    ("bert", "right", {"max_answer_len": 1, "top_k": 2}),
    ("bert", "right", {"max_seq_len": 40, "doc_stride": 10, "top_k": 3}),
    ("bert", "right", {"max_seq_len": 30, "doc_stride": 0, "max_question_len": 3}),
    ("bert", "left", {"top_k": 3}),
    ("roberta", "right", {"top_k": 3}),
    ("roberta", "right", {"align_to_words": False, "handle_impossible_answer": True, "top_k": 2}),
    ("distilbert", "right", {"top_k": 2}),
]


def answers(architecture, padding_side, arguments):
    """Return the pipeline's answers, always as lists; "error" where it fails."""
    with tempfile.TemporaryDirectory() as folder:
        question_answerer(Path(folder), architecture=architecture)
        pipe = transformers.pipeline("question-answering", folder, device="cpu", **arguments)
        pipe.tokenizer.padding_side = padding_side
        found = []
        for question, context in [*PAIRS, *UNANSWERABLE]:
            one = pipe(question=question, context=context)
            found.append(one if isinstance(one, list) else [one])
        return found


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    lines = [
        json.dumps(
            {
                "architecture": architecture,
                "padding_side": side,
                "arguments": arguments,
                "answers": answers(architecture, side, arguments),
            },
            ensure_ascii=False,
        )
        for architecture, side, arguments in CASES
    ]
    pairs = json.dumps([*PAIRS, *UNANSWERABLE], ensure_ascii=False)
    cases = ",\n".join(lines)
    Path(__file__).with_name("question_answering.json").write_text(
        f'{{"transformers": "{transformers.__version__}",\n"pairs": {pairs},\n"cases": [\n{cases}\n]}}\n',
        encoding="utf-8",
    )
