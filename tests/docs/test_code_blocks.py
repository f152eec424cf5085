"""
What the README shows is run here: its Python in order, in a folder as ``make demo`` leaves it; its shell line by line.
So is the Python of the page on adding a task, where a block that begins with a file's path is a quote from that file,
that of the page of the tasks, beside the models that it names, those of the pages of the inputs and the stack, and that
of the page of the workers, as a DAG.

A ``text`` block under a ``python`` block is what that prints, to the letter but for digits of numbers. A
``console`` block is a real run's, of which only the shape can be checked.
"""

from __future__ import annotations

import configparser
import contextlib
import io
import itertools
import json
import re
import shlex
import tempfile
import textwrap
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
TASKS = ROOT / "docs" / "tasks.md"
INPUTS = ROOT / "docs" / "inputs.md"
ADD_A_TASK = ROOT / "docs" / "add_a_task.md"
STACK = ROOT / "docs" / "stack.md"
WORKERS = ROOT / "docs" / "workers.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r"\d+\.\d+(?:e-\d+)?")
_QUOTE = re.compile(r"# (\S+\.(?:py|toml))\n")
_LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)")


@dataclass(frozen=True)
class Block:
    language: str
    code: str
    line: int


def blocks(page):
    text = page.read_text()
    return [Block(found[1], found[2], text.count("\n", 0, found.start()) + 2) for found in _BLOCK.finditer(text)]


def indented_blocks(page, language):
    """Return the code of a page's blocks of a language, those that stand in lists too."""
    found = re.findall(rf"^ *```{language}\n(.*?)^ *```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(code) for code in found]


def shell_lines():
    return [line for block in blocks(README) if block.language == "bash" for line in block.code.splitlines()]


@pytest.fixture
def after_the_demo(tmp_path, monkeypatch):
    """The folder that ``make demo`` was run in, with another model under the same name and alias."""
    from airflow_provider_hfreg.registry import Registry
    from airflow_provider_hfreg.testing.models import text_classifier

    registry = Registry((tmp_path / ".demo" / "registry").as_uri())
    model = text_classifier(tmp_path / "model", labels=("NEGATIVE", "POSITIVE"))
    version = registry.log_folder(
        model, model_name="sentiment", task="text-classification", pipeline_kwargs={"truncation": True}
    )
    registry.get_model("sentiment").set_alias("champion", version.version_name)
    monkeypatch.setenv("HFREG_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def beside_the_models(tmp_path, monkeypatch, made_once):
    """A folder with the models that the page of the tasks names."""
    from airflow_provider_hfreg.testing import encoder_models, trained_models

    (tmp_path / "models").mkdir()
    for name in set(re.findall(r'"models/(\w+)"', TASKS.read_text())):
        make = getattr(encoder_models if name == "embedder" else trained_models, name)
        made = made_once(f"matrix {name}", make)
        (tmp_path / "models" / name).symlink_to(made)
    monkeypatch.setenv("HFREG_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def test_the_python_of_the_readme_runs_and_prints_what_it_says(after_the_demo):
    run_python(README, blocks(README))


def test_the_page_of_the_inputs_runs_and_prints_what_it_says(after_the_demo):
    run_python(INPUTS, blocks(INPUTS))


def test_the_page_of_the_tasks_runs_and_prints_what_it_says(beside_the_models):
    # The models were trained a moment ago, by this machine: another processor comes to other weights.
    run_python(TASKS, blocks(TASKS), are_numbers_equal=False)


def test_the_python_of_the_page_of_the_stack_runs_where_none_is_up(tmp_path, monkeypatch, capsys):
    # Where one is up, tests/testing/test_stack.py runs it.
    monkeypatch.chdir(tmp_path)
    run_python(STACK, blocks(STACK))


def test_the_page_of_the_tasks_has_a_section_with_a_result_for_each():
    from airflow_provider_hfreg.pipelines.catalog import task_names

    sections = dict(re.findall(r"^## (\S+)$(.*?)(?=^## |\Z)", TASKS.read_text(), re.MULTILINE | re.DOTALL))
    assert set(task_names()) <= set(sections)
    assert [task for task in task_names() if "```text\n" not in sections[task]] == []


def test_the_python_of_the_page_on_adding_a_task_runs_or_stands_in_the_file_that_it_names(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    own = []
    for block in blocks(ADD_A_TASK):
        quoted = _QUOTE.match(block.code)
        if quoted is None:
            own.append(block)
        else:
            assert block.code[quoted.end() :] in (ROOT / quoted[1]).read_text(), f"{ADD_A_TASK}:{block.line}"
    assert len(own) < len(blocks(ADD_A_TASK))
    run_python(ADD_A_TASK, own)


def test_the_tasks_of_the_page_of_the_workers_make_a_dag_in_a_deployment_as_it_describes(monkeypatch):
    from airflow.sdk import DAG
    from airflow.serialization.serialized_objects import DagSerialization

    from airflow_provider_hfreg.hooks.pools import sender_settings
    from airflow_provider_hfreg.operators.run_model import RunHFModelOperator

    (ini,) = indented_blocks(WORKERS, "ini")
    settings = configparser.ConfigParser(interpolation=None)
    settings.read_string(ini)
    for name, value in settings["hfreg"].items():
        monkeypatch.setenv(f"AIRFLOW__HFREG__{name.upper()}", value)
    assert set(sender_settings().pools) == {"cpu", "gpu-a10"}
    with DAG("page", schedule=None) as dag:
        for code in indented_blocks(WORKERS, "python"):
            exec(code, {"RunHFModelOperator": RunHFModelOperator})
    read = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    assert {"score", "score_deferred", "score_partitions", "score_models"} == set(read.task_ids)
    assert {task.pool for task in read.tasks} == {sender_settings().pool("gpu-a10").airflow_pool}


def test_the_settings_of_the_page_of_the_workers_are_those_that_help_shows_and_a_worker_reads(tmp_path, monkeypatch):
    from airflow_provider_hfreg.workers.settings import EXAMPLE, read_settings

    assert indented_blocks(WORKERS, "toml") == [EXAMPLE]
    (tmp_path / "worker.toml").write_text(EXAMPLE)
    settings = read_settings(tmp_path / "worker.toml")
    assert settings.pool("gpu-a10").cuda_version is not None
    assert [storage.url for storage in settings.storages] == ["s3://lake"]


def run_python(page, given, *, are_numbers_equal=True):
    """
    Run a page's Python in order and compare what it prints with what the page says.

    :param are_numbers_equal: numbers with a decimal point have the page's values, too.
    """
    namespace = {"__name__": page.stem}
    printed = None
    for block in given:
        if block.language == "python":
            # Padded, so that a traceback names the page's own line.
            code = compile("\n" * (block.line - 1) + block.code, str(page), "exec")
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(code, namespace)
            printed = out.getvalue()
        elif block.language == "text":
            assert without_numbers(printed) == without_numbers(block.code), f"{page}:{block.line}"
            if are_numbers_equal:
                assert numbers(printed) == pytest.approx(numbers(block.code), abs=1e-4), f"{page}:{block.line}"


def without_numbers(text):
    """Return a text with a mark for each number; as wide as it is written, so is a column."""
    return re.sub(r" +", " ", _NUMBER.sub("#", text))


def numbers(text):
    return [float(number) for number in _NUMBER.findall(text)]


def test_every_block_of_the_readme_is_of_a_kind_that_is_looked_at():
    assert {block.language for block in blocks(README)} <= {"python", "text", "bash", "console"}


def test_every_make_target_that_is_named_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    told = "\n".join([README.read_text(), STACK.read_text(), *shell_lines()])
    named = set(re.findall(r"`?\bmake ([a-z][a-z-]+)(?=[ `\n])", told))
    assert {"demo", "test"} <= named <= targets


def test_every_extra_and_every_file_that_pip_is_given_exists():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for words in (shlex.split(line) for line in shell_lines() if line.startswith("pip ")):
        for extra in re.findall(r"\[(\w+)\]", " ".join(words)):
            assert extra in extras
        for option, value in itertools.pairwise(words):
            assert option != "--constraint" or (ROOT / value).is_file()


def test_the_connection_of_the_readme_is_one(monkeypatch):
    from airflow_provider_hfreg.hooks.hfreg import HFRegistryHook

    [line] = [line for line in shell_lines() if line.startswith("export ")]
    name, _, value = shlex.split(line)[1].partition("=")
    assert json.loads(value)["conn_type"] == "hfreg"
    monkeypatch.setenv(name, value)
    assert HFRegistryHook().url == json.loads(value)["host"]


def test_the_report_of_the_readme_has_the_lines_that_a_report_has(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "example_dags")
    from sentiment_report import describe

    run = dict.fromkeys(("rows_in", "rows_ok", "rows_quarantined", "rows_truncated", "rows_per_s"), 0)
    run |= dict.fromkeys(("model_name", "version_name", "content_digest", "batch_run_id", "output"), "x")
    run |= {"status": "already_completed", "errors_url": None}
    results = pa.table({"split": ["held_out"], "label": ["A"], "predicted_label": ["A"]})
    names = [line.split("  ")[0] if line[0] != " " else line.split()[0] for line in describe(run, results).splitlines()]
    shown = [block.code for block in blocks(README) if block.language == "console" and "The run came to" in block.code]
    assert shown
    for report in shown:
        lines = [line.strip() for line in report[report.index("The run came to") :].splitlines()]
        assert [name for name in names if not any(line.startswith(f"{name} ") for line in lines)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_somewhere(page):
    for target in _LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), f"{page}: {target}"
