"""
Asked: how long from the start of a process to its first prediction, beside transformers' own pipeline of the same rows
(in a data frame, as ours are; and in a list), and how long a row through a warm model.

    python benchmarks/cold_start.py [--repeat 3]

Fresh processes, bytecode compiled in both, a MiniLM-size classifier in a registry of local files that was read before.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import inputs
from measuring import arguments, interleaved, keeping_bytecode, parsed, tell

_OURS = """
import sys
import pandas as pd
from airflow_provider_hfreg.registry import Registry
version = Registry(sys.argv[1], cache_folder=sys.argv[2]).resolve("text-classification/v1")
version.run(pd.DataFrame({"text": ["a film"], "text_pair": [None]}))
"""
_OF_A_FRAME = """
import sys
import pandas as pd
import transformers
frame = pd.DataFrame({"text": ["a film"], "text_pair": [None]})
told = transformers.pipeline("text-classification", sys.argv[1], device="cpu")(frame["text"].tolist())
pd.DataFrame(told, index=frame.index)
"""
_OF_A_LIST = """
import sys
import transformers
transformers.pipeline("text-classification", sys.argv[1], device="cpu")(["a film"])
"""


def main() -> None:
    """Measure and tell."""
    options = parsed(arguments(__doc__, rows=1))
    with tempfile.TemporaryDirectory(prefix="hfreg-bench-") as name:
        folder = Path(name)
        model = inputs.write(folder / "model", "AutoModelForSequenceClassification")
        version = inputs.version(folder, model, "text-classification")
        ours = [sys.executable, "-c", _OURS, version.registry_url, str(folder / "cache")]
        of_a_frame, of_a_list = ([sys.executable, "-c", code, str(model)] for code in (_OF_A_FRAME, _OF_A_LIST))
        ways = {
            "ours": lambda: _child(ours),
            "pipeline, of a frame": lambda: _child(of_a_frame),
            "pipeline, of a list": lambda: _child(of_a_list),
        }
        timed = interleaved(ways, repeat=options.repeat, children=True)
        tell(
            "cold start",
            "process start to first prediction, and one row through a warm model",
            timed,
            ours="ours",
            settings={"threads": options.threads, "repeat": options.repeat},
            share_of_the_pipelines_cpu=round(timed["ours"].cpu_s / timed["pipeline, of a frame"].cpu_s, 2),
            warm_row_cpu_ms=round(1000 * _warm_row_s(version), 1),
        )


def _child(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, env=keeping_bytecode())


def _warm_row_s(version: object, calls: int = 20) -> float:
    import pandas as pd

    frame = pd.DataFrame({"text": ["a film"], "text_pair": [None]})
    taken = []
    for _ in range(calls):
        began_s = time.process_time()
        version.run(frame)  # type: ignore[attr-defined]
        taken.append(time.process_time() - began_s)
    return statistics.median(taken[1:])


if __name__ == "__main__":
    main()
