"""
Claim: the other tasks of encoders cost less CPU than transformers' own pipeline at its best batch size, too.

    python benchmarks/encoder_tasks.py [--tasks token-classification,fill-mask] [--rows 96] [--threads 2]

MiniLM-size networks with seeded weights, float32, ragged texts, ``version.run(frame)`` end to end. In zero-shot, two in
five pairs of text and label recur. ``question-answering`` is compared where transformers still has that pipeline: run
it with 4.57. A pipeline that fails by itself (4.57's of tables beside pandas 3) is named and left out.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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

    :param write: writes its model into a folder.
    :param columns: of the frame.
    :param given: per row, what the pipeline is called with.
    :param arguments: of the pipeline's call, batch size apart.
    :param sizes: of batches that the pipeline can make.
    """

    write: Callable[[Path], Path]
    columns: Mapping[str, list[Any]]
    given: list[Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    sizes: Sequence[int] = _SIZES


def main() -> None:
    """Measure and tell, one task after the other."""
    parser = arguments(__doc__, rows=24)
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

    model = case.write(folder / "model")
    version = inputs.version(folder, model, task)
    frame = pd.DataFrame(dict(case.columns))
    pipe = transformers.pipeline(task, str(model), device="cpu")

    def call(given: list[Any], size: int) -> Callable[[], Any]:
        if task == "zero-shot-classification":  # which takes the labels beside the texts
            return lambda: pipe(given, candidate_labels=list(_LABELS), batch_size=size)
        return lambda: pipe(given, batch_size=size, **case.arguments)

    plain = {f"pipeline, {size}": call(case.given, size) for size in case.sizes}
    if 32 in case.sizes:
        plain["pipeline, 32 sorted"] = call(sorted(case.given, key=lambda each: -len(str(each))), 32)
    try:
        call(case.given[:1], 1)()
    except Exception as error:  # noqa: BLE001  whatever it raises, it is no pace to compare with
        print(f"{task}: transformers' own pipeline fails here: {type(error).__name__}: {error}")
        return
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
    return _Case(_bert("AutoModelForTokenClassification", id2label=labels), {"inputs": texts}, texts)


def _masks(rows: int) -> _Case:
    texts = [f"{text} [MASK]" for text in inputs.texts(rows)]
    return _Case(_bert("AutoModelForMaskedLM"), {"inputs": texts}, texts)


def _answers(rows: int) -> _Case:
    contexts, questions = inputs.texts(rows, longest=900), inputs.texts(rows, longest=12, seed=1)
    given = [{"question": question, "context": context} for question, context in zip(questions, contexts, strict=True)]
    columns = {"question": questions, "context": contexts}
    return _Case(_bert("AutoModelForQuestionAnswering"), columns, given)


def _tables(rows: int) -> _Case:
    """Four questions about each table, of 15 rows and 4 columns."""
    draw, known = random.Random(0), inputs.words()
    tables = [{f"column {place}": draw.choices(known, k=15) for place in range(4)} for _ in range(-(-rows // 4))]
    asked = list(zip(inputs.texts(rows, longest=12, seed=1), [each for each in tables for _ in range(4)], strict=False))
    columns = {"query": [query for query, _ in asked], "table": [json.dumps(table) for _, table in asked]}
    return _Case(_tapas, columns, [{"query": query, "table": table} for query, table in asked], sizes=(1,))


def _bert(auto_class: str, **config: Any) -> Callable[[Path], Path]:
    return lambda folder: inputs.write(folder, auto_class, **config)


def _tapas(folder: Path) -> Path:
    from airflow_provider_hfreg.inference.frameworks import transformers
    from airflow_provider_hfreg.testing.encoder_models import tapas_tokenizer
    from airflow_provider_hfreg.testing.models import word_piece_tokenizer, write_model

    tokenizer = tapas_tokenizer(folder, word_piece_tokenizer(corpus=[" ".join(inputs.words())], whole_words=True))
    tokenizer.model_max_length = inputs.POSITIONS
    config = transformers.TapasConfig(**inputs.MINILM, vocab_size=30_522, max_position_embeddings=inputs.POSITIONS)
    return write_model(folder, transformers.AutoModelForTableQuestionAnswering, config, tokenizer, seed=0)


def _labelled(rows: int) -> _Case:
    distinct = inputs.texts(max(1, rows * 3 // 5))
    draw = random.Random(0)
    texts = [*distinct, *draw.choices(distinct, k=rows - len(distinct))]
    columns = {"sequences": texts, "candidate_labels": [list(_LABELS)] * rows}
    names = {0: "contradiction", 1: "neutral", 2: "entailment"}
    config = {"id2label": names, "label2id": {name: number for number, name in names.items()}}
    return _Case(_bert("AutoModelForSequenceClassification", **config), columns, texts)


_CASES: Mapping[str, Callable[[int], _Case]] = {
    "token-classification": _tokens,
    "fill-mask": _masks,
    "question-answering": _answers,
    "table-question-answering": _tables,
    "zero-shot-classification": _labelled,
}


if __name__ == "__main__":
    main()
