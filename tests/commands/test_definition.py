"""One menu for two command lines: it parses on both, every command does what it names, and nobody loads much for it."""

import os
import subprocess
import sys

import pytest

from airflow_provider_hfreg.commands.definition import Command, make_parser
from airflow_provider_hfreg.commands.menu import MENU

COMMANDS = [command for entry in MENU for command in ([entry] if isinstance(entry, Command) else entry.commands)]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_command_names_a_function_that_is_there_and_describes_it(command):
    assert callable(command.load())
    assert command.load().__doc__
    assert command.help[0].isupper()
    assert len(command.help) < 90
    assert all(len(line) < 120 for line in command.description.splitlines())
    assert all(example.split()[0] in (command.name, *(entry.name for entry in MENU)) for example in command.examples)


def test_every_example_is_parsed():
    import shlex

    parser = make_parser("hfreg", MENU, lambda command, _: COMMANDS.index(command), description="")
    for number, command in enumerate(COMMANDS):
        for example in command.examples:
            options = parser.parse_args(shlex.split(example))
            assert options.run(options) == number


def test_airflow_has_the_same_commands_with_the_same_arguments():
    from airflow.cli.cli_config import GroupCommand

    from airflow_provider_hfreg.cli.definition import get_hfreg_cli_commands

    [group] = get_hfreg_cli_commands()
    assert isinstance(group, GroupCommand)
    given = {entry.name: entry for entry in group.subcommands}
    assert {"worker", "pools", "doctor"} | {entry.name for entry in MENU} <= set(given)
    for entry in MENU:
        inner = {entry.name: entry} if isinstance(entry, Command) else {one.name: one for one in entry.commands}
        shown = given if isinstance(entry, Command) else {one.name: one for one in given[entry.name].subcommands}
        for name, command in inner.items():
            flags = [arg.flags for arg in shown[name].args]
            places = [("--conn-id",), ("--to-conn-id",)] if name == "copy" else [("--conn-id",)]
            assert flags == [*(argument.flags for argument in command.arguments), *places]


def test_the_command_line_works_where_airflow_and_the_model_libraries_are_not_installed(finbert, tmp_path):
    """In processes that find none of them, as after ``pip install --no-deps``."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "for name in ('airflow', 'celery', 'torch', 'transformers', 'safetensors'):\n"
        "    sys.modules[name] = None\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    assert finbert("versions", "finbert", PYTHONPATH=path).status == 0
    assert finbert("export", "finbert/v1", "exported", PYTHONPATH=path).status == 0
    assert finbert("import", "exported", "--as", "other/v1", PYTHONPATH=path).status == 0
    (tmp_path / "texts.csv").write_text("text\nhello\n")
    ended = finbert("run", "finbert", "texts.csv", "scores", PYTHONPATH=path)
    assert ended.status == 1
    assert "airflow-provider-hfreg[inference]" in ended.err
    assert "Traceback" not in ended.err


def test_listing_the_menu_loads_nothing_heavy():
    program = "import sys, airflow_provider_hfreg.commands.menu; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=240)
    assert not {"numpy", "pyarrow", "boto3", "pandas", "airflow"} & set(ended.stdout.split())
