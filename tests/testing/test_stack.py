"""The whole stack: it comes up, runs a table on its pool, and goes without a trace, however its supervisor ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_provider_hfreg.errors import StackError
from airflow_provider_hfreg.registry import Registry
from airflow_provider_hfreg.runs.batch import run_batch
from airflow_provider_hfreg.runs.spec import BatchRequest
from airflow_provider_hfreg.storage.urls import open_store
from airflow_provider_hfreg.testing.models import text_classifier
from airflow_provider_hfreg.testing.stack.client import RunningStack, down, up
from airflow_provider_hfreg.testing.stack.processes import members

DAGS = [Path(__file__).parents[1] / "soak" / "dags"]
ROWS = 3_000

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stack")
    yield folder
    down(folder, print)


def start(folder):
    """Start the stack as ``make stack`` does: by a command that ends, while the stack lives on."""
    command = [sys.executable, "-m", "airflow_provider_hfreg.testing.stack", "up", str(folder)]
    given = [word for path in DAGS for word in ("--dags", str(path))]
    done = subprocess.run([*command, *given], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return RunningStack(folder), done.stdout


def traces(folder, mark):
    """Processes of the stack: those that carry its mark, and any other that sits in its folder."""
    found = members(mark)
    for process in psutil.process_iter():
        try:
            if folder in [Path(process.cwd()), *Path(process.cwd()).parents]:
                found.add(process.pid)
        except psutil.Error:
            continue
    return found


@pytest.fixture(scope="module")
def version_and_input(folder):
    stack, _ = start(folder)
    s3, lake = stack.s3_settings(), stack.state.bucket_url
    registry = Registry(f"{lake}/registry", s3=s3, cache_folder=folder / "own-cache")
    model = text_classifier(folder / "model")
    version = registry.log_folder(
        model, model_name="tiny", version_name="v1", task="text-classification", pipeline_kwargs={"truncation": True}
    )
    texts = [None if number % 100 == 7 else f"the film number {number} was good" for number in range(ROWS)]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"id": range(ROWS), "text": texts}), sink, row_group_size=500)
    open_store(f"{lake}/in", s3).put("a.parquet", sink.getvalue().to_pybytes())
    return version, f"{lake}/in"


def python_of_the_page():
    page = Path(__file__).parents[2] / "docs" / "stack.md"
    return re.search(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)[1]


def rows(url, s3):
    store = open_store(url, s3)
    tables = [pq.read_table(store.open_reader(info.key)) for info in store.list_infos("part-")]
    return pa.concat_tables(tables).sort_by("id").to_pylist()


def test_a_run_on_the_pool_through_rest_then_down_without_a_trace(folder, version_and_input, monkeypatch, capsys):
    version, input_url = version_and_input
    stack = RunningStack(folder)
    s3, lake, mark = stack.s3_settings(), stack.state.bucket_url, stack.state.mark
    _, said = start(folder)
    assert "up already" in said

    airflow = stack.airflow()
    assert airflow.call("GET", "pools/hfreg_cpu")["slots"] == 4
    conf = {"model": "tiny/v1", "input_url": input_url, "output_url": f"{lake}/out", "rows_per_shard": 500}
    run_id = airflow.trigger("soak", conf)
    assert airflow.wait("soak", run_id, timeout_s=600) == "success"

    report = airflow.xcom("soak", run_id, "score")
    assert (report["rows_in"], report["rows_ok"], report["rows_quarantined"]) == (ROWS, ROWS - 30, 30)
    assert any(line.startswith("[cpu-0-") for line in airflow.log_events("soak", run_id, "score"))
    request = BatchRequest(
        input=input_url, output=f"{lake}/here", passthrough=("id",), output_prefix="predicted_", rows_per_shard=500
    )
    run_batch(request, version=version, identity="here", registry_url=version.registry_url, s3=s3)
    assert rows(f"{lake}/out", s3) == rows(f"{lake}/here", s3)

    began = stack.state.parts["worker-1"]
    monkeypatch.chdir(folder.parent)
    (folder.parent / ".stack").symlink_to(folder)
    exec(python_of_the_page(), {})  # kills worker-1
    assert capsys.readouterr().out == "healthy\n"
    deadline = time.monotonic() + 120
    while stack.state.parts["worker-1"] == began:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    with pytest.raises(StackError, match="no part 'worker-9'; it has postgres, redis"):
        stack.kill("worker-9")

    down(folder, print)
    assert traces(folder, mark) == set()
    assert stack.folder.find_state() is None
    told = []
    down(folder, told.append)
    assert told == ["No stack is up."]


def test_down_ends_what_a_supervisor_left_that_was_killed(folder, version_and_input):
    stack, _ = start(folder)
    mark = stack.state.mark
    assert len(traces(folder, mark)) > 20
    runs = stack.airflow().call("GET", "dags/soak/dagRuns")["dag_runs"]
    assert [run["state"] for run in runs] == ["success"], "what the first stack knew is there"

    os.kill(stack.state.supervisor.pid, signal.SIGKILL)
    down(folder, print)
    assert traces(folder, mark) == set()


def test_a_stack_that_cannot_start_says_why_and_leaves_nothing(tmp_path):
    (tmp_path / "redis").write_text("a file where a folder is to be")
    told = []
    with pytest.raises(StackError, match=r"did not start; all that was said is in .*stack\.log"):
        up(tmp_path, [], told.append)
    assert "redis" in told[-1]
    assert RunningStack(tmp_path).folder.find_state() is None
