"""
Which files are a run's input: a file, a folder or a glob, as a list in natural order.

Invariants:

- The order is that of the keys with their numbers compared as numbers (``part-2`` before ``part-10``): it is the order
  of the output's rows, and the same on every store.
- Hidden files, those with a path segment that starts with ``_`` or ``.``, are no input, as in Spark and Hive; a
  partition folder such as ``_day=1`` is not hidden, as there.
- All files have one format. A visible file whose ending says nothing is an error and never skipped: a row must not be
  lost because of a file's name.

Nothing here opens a file: a listing tells keys, sizes and etags.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from airflow_provider_hfreg.errors import InputFormatError, InputNotFoundError
from airflow_provider_hfreg.storage.base import ObjectInfo, ObjectStore
from airflow_provider_hfreg.storage.urls import key_matches


class TableFormat(Enum):
    """A format of input tables. The value is the name that ``input_format`` takes."""

    PARQUET = "parquet"
    CSV = "csv"
    JSONL = "jsonl"


ENDINGS = {
    ".parquet": TableFormat.PARQUET,
    ".pq": TableFormat.PARQUET,
    ".csv": TableFormat.CSV,
    ".jsonl": TableFormat.JSONL,
    ".ndjson": TableFormat.JSONL,
}


@dataclass(frozen=True)
class InputFile:
    """One input file as it was when the run was planned; another size or etag later is another input."""

    key: str
    size_bytes: int
    etag: str

    def to_json(self) -> dict[str, Any]:
        """Return the file as plain JSON values."""
        return asdict(self)


def is_hidden(key: str) -> bool:
    """
    Return whether a key, relative to the input folder, is left out by convention.

    >>> [key for key in ("a.csv", "_SUCCESS", ".a.crc", "day=1/b.csv", "_hfreg/1/run.json", "_day=1/c.csv")
    ...  if not is_hidden(key)]
    ['a.csv', 'day=1/b.csv', '_day=1/c.csv']
    """
    return any(
        segment.startswith(".") or (segment.startswith("_") and "=" not in segment) for segment in key.split("/")
    )


def natural_order(key: str) -> tuple[tuple[int, int, str], ...]:
    """
    Return a sort key that compares numbers as numbers.

    >>> sorted(["part-10.csv", "part-2.csv", "part-02.csv", "b", "a1b"], key=lambda k: (natural_order(k), k))
    ['a1b', 'b', 'part-02.csv', 'part-2.csv', 'part-10.csv']
    """
    parts = re.split(r"([0-9]+)", key)
    return tuple((1, int(part), "") if place % 2 else (0, 0, part) for place, part in enumerate(parts))


def is_glob(key: str) -> bool:
    """Return whether a key of an input is a pattern."""
    return any(sign in key for sign in "*?[")


def list_input(store: ObjectStore, key: str) -> list[InputFile]:
    """
    Return the input files in order.

    :param store: opened at the root that ``key`` is relative to.
    :param key: a file's key, a folder's (with or without ``/`` at its end; ``""`` for the root) or a glob.
    :raises InputNotFoundError: nothing matches, or everything that does is hidden.
    """
    found = _glob_files(store, key) if is_glob(key) else _file_or_folder(store, key)
    if not found:
        raise InputNotFoundError(
            f"No input file at {store.location(key)}: nothing matches it, apart from hidden files (a name that "
            "starts with '_' or '.'). Check the URL; if another task writes the input, let this one wait for it."
        )
    return sorted(found, key=lambda file: (natural_order(file.key), file.key))


def is_listed(key: str, candidate: str) -> bool:
    """
    Return whether :func:`list_input` would find an object below ``key``, apart from hidden ones.

    >>> is_listed("in", "in/scored/part.parquet"), is_listed("in/*.csv", "in/scored/part.parquet"), is_listed("", "a")
    (True, False, True)
    """
    if is_glob(key):
        return key_matches(key, candidate)
    return candidate == key or candidate.startswith(_folder(key))


def _folder(key: str) -> str:
    return f"{key.rstrip('/')}/" if key.rstrip("/") else ""


def _glob_files(store: ObjectStore, pattern: str) -> list[InputFile]:
    literal = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
    return _visible((info for info in store.list_infos(literal) if key_matches(pattern, info.key)), "")


def _file_or_folder(store: ObjectStore, key: str) -> list[InputFile]:
    if key and not key.endswith("/"):
        info = store.find_info(key)
        if info is not None:
            return [InputFile(info.key, info.size_bytes, info.etag)]
    return _visible(store.list_infos(_folder(key)), _folder(key))


def _visible(infos: Iterable[ObjectInfo], folder: str) -> list[InputFile]:
    # S3 consoles mark a folder by an empty object whose key ends in "/": no file
    return [
        InputFile(info.key, info.size_bytes, info.etag)
        for info in infos
        if not info.key.endswith("/") and not is_hidden(info.key.removeprefix(folder))
    ]


def format_of(files: Sequence[InputFile], input_format: str | None) -> TableFormat:
    """
    Return the one format of all files, from ``input_format`` or from their endings.

    >>> format_of([InputFile("a/b.CSV", 1, ""), InputFile("c.csv", 1, "")], None)
    <TableFormat.CSV: 'csv'>

    :raises InputFormatError: an ending that says nothing, or two formats.
    """
    if input_format is not None:
        return TableFormat(input_format)
    first = _format_by_ending(files[0])
    for file in files[1:]:
        if _format_by_ending(file) is not first:
            raise InputFormatError(
                f"The input holds files of two formats: {files[0].key} and {file.key}. One run reads one format: "
                "narrow the input by a glob such as folder/*.parquet."
            )
    return first


def _format_by_ending(file: InputFile) -> TableFormat:
    name = file.key.rsplit("/", 1)[-1]
    ending = f".{name.rsplit('.', 1)[-1].lower()}" if "." in name else ""
    if ending not in ENDINGS:
        packed = " A compressed CSV or JSONL cannot be cut: unpack it, or store the table as Parquet."
        raise InputFormatError(
            f"The format of {file.key} is not known by its ending; known are {', '.join(ENDINGS)}. Give input_format "
            f"(parquet, csv or jsonl), or narrow the input by a glob such as folder/*.parquet."
            f"{packed if ending in ('.gz', '.zst', '.bz2', '.zip', '.xz') else ''}"
        )
    return ENDINGS[ending]
