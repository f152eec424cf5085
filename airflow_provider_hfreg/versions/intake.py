"""
From a folder to the files of a version: select, look into, hash; later upload those that the registry lacks.

Nothing is uploaded before every file was looked into: a refusal leaves the bucket as it was.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

from airflow_provider_hfreg.errors import DigestMismatchError, IntegrityError
from airflow_provider_hfreg.storage.base import ObjectStore, OnBytes
from airflow_provider_hfreg.versions.blobs import describe_file, hash_file
from airflow_provider_hfreg.versions.layout import EXPORTED_MANIFEST
from airflow_provider_hfreg.versions.manifest import VersionFile
from airflow_provider_hfreg.versions.safety import check_content, select_files
from airflow_provider_hfreg.versions.sources import Source

_log = logging.getLogger(__name__)
_SECONDS_BETWEEN_LINES = 5.0


def select(source: Source, *, remote_code: bool) -> tuple[str, ...]:
    """
    Return the paths that make the version, by name alone; what is left out is said in the log.

    :raises UnsafeModelError: a file that may not be stored.
    """
    selection = select_files(source.sizes(), remote_code=remote_code, where=source.location)
    told = [path for path in selection.left_out if path != EXPORTED_MANIFEST]  # an own one is written instead
    if told:
        _log.info("Not stored, because loading does not need them: %s", ", ".join(told))
    return selection.stored


def look_into(source: Source, paths: tuple[str, ...], *, remote_code: bool) -> tuple[VersionFile, ...]:
    """
    Return what the manifest says of each file, after its content was looked at.

    :raises UnsafeModelError: a file's content may not be stored.
    """
    files = []
    for path in paths:
        with source.opened(path) as local:
            check_content(path, local, remote_code=remote_code)
            files.append(describe_file(path, local))
    return tuple(files)


def upload_missing(store: ObjectStore, source: Source, files: tuple[VersionFile, ...]) -> None:
    """
    Store the blobs of some files, each under its key.

    :raises IntegrityError: a file changed since it was hashed.
    """
    for file in files:
        if not source.send(store, file):
            with source.opened(file.path) as local:
                _upload(store, source, file, local)


def _upload(store: ObjectStore, source: Source, file: VersionFile, local: Path) -> None:
    """
    Upload one file, unless somebody is writing it: bytes under a digest that is not theirs would spoil every later
    version with that file. The store hashes what it sends, and compares before anything is visible.
    """
    try:
        store.upload(file.key, local, on_bytes=transfer_progress("uploaded", file), digest=file.digest)
    except DigestMismatchError as error:
        if hash_file(local) == file.digest:
            raise  # the server's doing
        raise _changed(source, file) from error


def _changed(source: Source, file: VersionFile) -> IntegrityError:
    return IntegrityError(
        f"{file.path} in {source.location} changed while it was being logged. Nothing was published. Log again when "
        "whatever writes there has finished."
    )


def transfer_progress(verb: str, file: VersionFile) -> OnBytes:
    """
    Return a callback that writes a line to the log every few seconds, and none for what takes less.

    :param verb: ``uploaded`` or ``downloaded``.
    """
    started = last_line = time.monotonic()
    moved = 0

    def on_bytes(count: int) -> None:
        nonlocal moved, last_line
        moved += count
        now = time.monotonic()
        if now - last_line < _SECONDS_BETWEEN_LINES:
            return
        last_line = now
        rate = moved / (now - started)
        left_s = (file.size_bytes - moved) / rate if rate else 0
        _log.info(
            "%s: %s of %s %s, %s/s, %d s left",
            *(file.path, _megabytes(moved), _megabytes(file.size_bytes), verb, _megabytes(int(rate)), left_s),
        )

    return on_bytes


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.1f} MB"
