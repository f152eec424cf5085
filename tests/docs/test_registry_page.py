"""The page for who runs a registry: its commands are run in order, and print what it says."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from airflow_provider_hfreg.__main__ import main
from airflow_provider_hfreg.commands.menu import MENU

PAGE = Path(__file__).parents[2] / "docs" / "registry.md"
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# What differs from one machine, moment or family of transformers to another.
MASKS = (
    (re.compile(r"[0-9a-f]{64}"), "DIGEST"),
    (re.compile(r"[0-9a-f]{10}-[0-9a-f]{10}"), "RUN"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"), "TIME"),
    (re.compile(r"(s3|file)://[^\s]*?/(hfreg|registry)\b"), "REGISTRY"),
    (re.compile(r"file://\S*/"), "FOLDER/"),
    (re.compile(r"(?<=by).*host=\S+ user=\S+"), " SOMEBODY"),
    (re.compile(r"(?<=logged with).*"), " THIS"),
    (re.compile(r" \d+ bytes| [\d.]+ kB"), " SIZE"),
    (re.compile(r" +"), " "),
)


def steps():
    """Yield each command of the page with what it prints there."""
    for block in CONSOLE.findall(PAGE.read_text()):
        for part in re.split(r"^\$ hfreg ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = part.partition("\n")
            yield command, printed


def masked(text):
    for pattern, mask in MASKS:
        text = pattern.sub(mask, text)
    return [line.strip() for line in text.strip().splitlines()]


@pytest.fixture
def at_home(tmp_path, monkeypatch, made_once):
    """A folder with a trained model and a table, and an empty registry."""
    from airflow_provider_hfreg.testing.models import text_classifier

    shutil.copytree(made_once("commands model", text_classifier), tmp_path / "trained")
    (tmp_path / "texts.csv").write_text("headline\nShares rise.\nProfit falls.\n")
    monkeypatch.setenv("HFREG_REGISTRY", (tmp_path / "registry").as_uri())
    monkeypatch.setenv("HFREG_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def test_every_command_prints_what_the_page_shows(at_home, capsys):
    for command, expected in steps():
        typed, _, last = command.partition(" | tail -n ")
        status = main(shlex.split(typed))
        said = capsys.readouterr()
        lines = said.out.rstrip("\n").splitlines()[-int(last or 1000) :]
        assert masked("\n".join([said.err.rstrip("\n"), *lines])) == masked(expected), command
        assert status == 0, command


def test_every_command_there_is_stands_on_the_page():
    text = PAGE.read_text()
    named = {entry.name for entry in MENU}
    shown = {command.split()[0] for command, _ in steps()}
    assert shown <= named
    assert [name for name in sorted(named - shown) if f"`{name}" not in text] == []
