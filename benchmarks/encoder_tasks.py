"""
Claim: the other tasks of encoders cost less CPU than transformers' own pipeline at its best batch size, too.

    python benchmarks/encoder_tasks.py [--tasks token-classification,fill-mask] [--rows 96] [--threads 2]

MiniLM-size networks with seeded weights, float32, ragged texts, ``version.run(frame)`` end to end. In zero-shot, two in
five pairs of text and label recur. ``question-answering`` is compared where transformers still has that pipeline: run
it with 4.57.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import inputs
from measuring import arguments, best_of, interleaved, parsed, tell

_SIZES = (1, 8, 32)
_LABELS = ("weather", "sport", "politics")


@dataclass(frozen=True)
class _Case:
    """
    One task.

    :param auto_class: builds its network.
    :param columns: of the frame.
    :param given: per row, what the pipeline is called with.
    :param arguments: of the pipeline's call, batch size apart.
    """

    auto_class: str
    columns: Mapping[str, list[Any]]
    given: list[Any]
    arguments: Mapping[str, Any]
    config: Mapping[str, Any]


def main() -> None:
    """Measure and tell, one task after the other."""
    parser = arguments(__doc__, rows=12)
    parser.add_argument("--tasks", default=",".join(_CASES), help="by comma")
    options = parsed(parser)
    for task in options.tasks.split(","):
        if _has_pipeline(task):
            with tempfile.TemporaryDirectory(prefix="hfreg-bench-") as name:
                _measure(task, _CASES[task](options.rows), Path(name), options)
        else:
            print(f"{task}: the installed transformers has no such pipeline to compare with")


def _measure(task: str, case: _Case, folder: Path, options: Any) -> None:
    import pandas as pd

    from airflow_provider_hfreg.inference.frameworks import transformers

    model = inputs.write(folder / "model", case.auto_class, **case.config)
    version = inputs.version(folder, model, task)
    frame = pd.DataFrame(dict(case.columns))
    pipe = transformers.pipeline(task, str(model), device="cpu")

    def call(given: list[Any], size: int) -> Callable[[], Any]:
        if task == "zero-shot-classification":  # which takes the labels beside the texts
            return lambda: pipe(given, candidate_labels=list(_LABELS), batch_size=size)
        return lambda: pipe(given, batch_size=size, **case.arguments)

    plain = {f"pipeline, {size}": call(case.given, size) for size in _SIZES}
    plain["pipeline, 32 sorted"] = call(sorted(case.given, key=lambda each: -len(str(each))), 32)
    timed = interleaved({"ours": lambda: version.run(frame), **plain}, repeat=options.repeat)
    best = best_of(timed, list(plain))
    tell(
        task,
        f"{task} against transformers' pipeline at its best",
        timed,
        ours="ours",
        settings={"rows": options.rows, "threads": options.threads, "repeat": options.repeat},
        times_the_best=round(timed[best].cpu_s / timed["ours"].cpu_s, 2),
        best=best,
    )


def _has_pipeline(task: str) -> bool:
    from airflow_provider_hfreg.inference.stand_in import has_class

    return has_class(task)


def _tokens(rows: int) -> _Case:
    texts = inputs.texts(rows)
    labels = dict(enumerate(("O", "B-PER", "I-PER", "B-LOC", "I-LOC")))
    return _Case("AutoModelForTokenClassification", {"inputs": texts}, texts, {}, {"id2label": labels})


def _masks(rows: int) -> _Case:
    texts = [f"{text} [MASK]" for text in inputs.texts(rows)]
    return _Case("AutoModelForMaskedLM", {"inputs": texts}, texts, {}, {})


def _answers(rows: int) -> _Case:
    contexts, questions = inputs.texts(rows, longest=900), inputs.texts(rows, longest=12, seed=1)
    given = [{"question": question, "context": context} for question, context in zip(questions, contexts, strict=True)]
    columns = {"question": questions, "context": contexts}
    return _Case("AutoModelForQuestionAnswering", columns, given, {}, {})


def _labelled(rows: int) -> _Case:
    distinct = inputs.texts(max(1, rows * 3 // 5))
    draw = random.Random(0)
    texts = [*distinct, *draw.choices(distinct, k=rows - len(distinct))]
    columns = {"sequences": texts, "candidate_labels": [list(_LABELS)] * rows}
    names = {0: "contradiction", 1: "neutral", 2: "entailment"}
    config = {"id2label": names, "label2id": {name: number for number, name in names.items()}}
    return _Case("AutoModelForSequenceClassification", columns, texts, {}, config)


_CASES: Mapping[str, Callable[[int], _Case]] = {
    "token-classification": _tokens,
    "fill-mask": _masks,
    "question-answering": _answers,
    "zero-shot-classification": _labelled,
}


if __name__ == "__main__":
    main()
