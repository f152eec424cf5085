"""
Writes ``goldens/``: what the pipelines of transformers 4.57 say about every row of the matrix, one by one.

Run from the root under that family (constraints/ has it), after a change of the cases or of the models:

    python -m tests.matrix.make_goldens

No weights are kept: the models are made anew, alike under every family.
"""

import functools
import json
import tempfile
from pathlib import Path

import torch
import transformers

from tests.matrix import models, oracle
from tests.matrix.cases import CASES

_FOLDER = Path(__file__).with_name("goldens")


def rows_of(columns):
    """Return a frame's rows, each a dict."""
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _shortened(value):
    """Round scores to what a comparison looks at, and leave the rest."""
    if isinstance(value, float):
        return round(value, 7)
    if isinstance(value, dict):
        return {name: _shortened(one) for name, one in value.items()}
    return [_shortened(one) for one in value] if isinstance(value, list) else value


def _answers(case, folder):
    pipe = oracle.build(case.task, folder, case.arguments)

    @functools.cache
    def answer(row):
        return _shortened(oracle.answer(pipe, case.task, json.loads(row)))

    return {name: [answer(json.dumps(row)) for row in rows_of(columns)] for name, columns in case.frames.items()}


def main():
    """Write a file per task."""
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as temporary:
        folder_of = functools.cache(lambda name: models.make(name, Path(temporary) / name))
        for task in dict.fromkeys(case.task for case in CASES):
            lines = [
                f"{json.dumps(case.name)}: {{\n"
                + ",\n".join(
                    f"{json.dumps(frame)}: {json.dumps(answers, ensure_ascii=False)}"
                    for frame, answers in _answers(case, folder_of(case.model)).items()
                )
                + "\n}"
                for case in CASES
                if case.task == task
            ]
            path = _FOLDER / f"{task}.json"
            path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
