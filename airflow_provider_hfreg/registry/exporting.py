"""
A version as a folder of its own on this machine: a plain Hugging Face folder, and our manifest beside it.

The manifest is written last: an export that was cut short has none, and is not imported. Exports go to no bucket: a
bucket is where a registry is, and ``copy_version`` brings a version there whole or not at all.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from airflow_provider_hfreg.errors import FolderTakenError, StorageUrlError
from airflow_provider_hfreg.storage.disk import explained
from airflow_provider_hfreg.storage.urls import local_path
from airflow_provider_hfreg.versions.layout import EXPORTED_MANIFEST
from airflow_provider_hfreg.versions.manifest import Manifest

_AGAIN = "What was written so far is no whole export: remove it, and export again."


def new_folder(place: str | Path) -> Path:
    """
    Return the folder that an export is to be written into; it is absent or empty.

    :param place: a path or ``file:///folder``.
    :raises StorageUrlError: a URL of another place.
    :raises FolderTakenError: something is there.
    """
    path = local_path(place)
    if path is None or path.parts[:1] in (("s3:",), ("file:",)):  # a URL that went through ``Path`` lost a slash
        raise StorageUrlError(
            f"{str(place)!r} is no folder of this machine, and an export is written into one. Export into a folder and "
            "copy it from there (`aws s3 cp --recursive`), or bring the version into a registry in that bucket (`copy "
            "--to URL`, Registry.copy_version)."
        )
    if what := _what_is_there(path):
        raise FolderTakenError(f"{path} is {what}. Export into a new folder.")
    return path


def _what_is_there(path: Path) -> str | None:
    with explained("Looking into", path):
        if path.is_dir():
            return "not empty" if any(path.iterdir()) else None
        return "a file" if path.exists() else None


def write_export(target: Path, files: Path, manifest: Manifest) -> None:
    """
    Copy a version's files and its manifest into a new folder.

    :param files: the folder that holds them.
    :raises LocalFileError: the folder cannot be written, or its disk is full.
    """
    with explained("Writing", target, also=_AGAIN):
        for file in manifest.files:
            copy = target / file.path
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(files / file.path, copy)
        (target / EXPORTED_MANIFEST).write_bytes(manifest.to_bytes())
