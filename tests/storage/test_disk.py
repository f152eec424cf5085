"""Errors of this machine's disk: which file, why, what to do."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from airflow_provider_hfreg.errors import LocalFileError
from airflow_provider_hfreg.storage.disk import check_readable, explained


def test_a_full_disk_is_told_with_the_place_and_what_else_to_do():
    with (
        pytest.raises(LocalFileError, match=r"Writing out failed: No space left .*: make room there.* Export again\.$"),
        explained("Writing", Path("./out"), also="Export again."),
        Path("/dev/full").open("wb", buffering=0) as full,
    ):
        full.write(b"x")


def test_what_is_not_there_is_named_itself(tmp_path):
    with pytest.raises(LocalFileError, match=r"Reading .*/absent failed: No such file .*: check the name"):
        check_readable(tmp_path / "absent")
    check_readable(Path(__file__))


AS_NOBODY = """
import os, sys
from airflow_provider_hfreg.errors import LocalFileError
from airflow_provider_hfreg.versions.sources import LocalFolder

if not os.getuid():
    os.setuid(65534)  # root may read anything
folder = LocalFolder(__import__("pathlib").Path(sys.argv[1]))
try:
    folder.sketch(tuple(folder.sizes()))
except LocalFileError as error:
    print(error)
"""


@pytest.fixture
def open_folder():
    """A folder that any user may enter; pytest's own are closed by every session that starts."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.parametrize("closed", ["config.json", "inner", "."])
def test_a_folder_that_cannot_be_read_whole_is_told_and_no_file_of_it_left_out(open_folder, closed):
    folder = open_folder / "model"
    (folder / "inner").mkdir(parents=True)
    for name in ("config.json", "inner/more.json"):
        (folder / name).write_text("{}")
    (folder / closed).chmod(0)
    try:
        command = [sys.executable, "-c", AS_NOBODY, str(folder)]
        told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    finally:
        (folder / closed).chmod(0o755)
    assert f"{folder / closed} failed: Permission denied. Give this user the permission" in told
