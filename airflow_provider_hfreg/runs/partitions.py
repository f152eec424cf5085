"""
Hive partitions: ``day=2026-01-01/lang=de/part-0.parquet`` gives its rows the columns ``day`` and ``lang``.

Invariants:

- A folder named ``key=value`` below the input is a partition; its value is percent-decoded, and
  ``__HIVE_DEFAULT_PARTITION__`` is null, as Spark and pyarrow write and read them.
- All files of an input have the same keys. A file without one would have rows without that column: an error, and not
  a null that nobody meant.
- A column is int64 if all of its values in this run are whole numbers, else text. int64 and never int32, so that the
  output's type does not change with the size of an id.
- The folder wins over a column of the same name in the file, as in Spark; that column is not read.

A folder that the input itself names (``s3://lake/texts/day=2026-01-01/``) is none of its partitions, as in Spark and
pyarrow; ``hive_partitioning=True`` counts it too. Pure: whoever executes a shard finds the values in the plan.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import unquote

import pyarrow as pa

from airflow_provider_hfreg.errors import InputFormatError
from airflow_provider_hfreg.runs.inputs import InputFile, is_glob
from airflow_provider_hfreg.runs.tables.base import ReadSchema
from airflow_provider_hfreg.runs.tables.windows import TableWindow

NULL = "__HIVE_DEFAULT_PARTITION__"
_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True)
class Partitions:
    """
    The partition columns of an input.

    :param texts: of each file, in the input's order: column → its value as text, None for null.
    """

    texts: tuple[Mapping[str, str | None], ...] = ()
    types: Mapping[str, pa.DataType] = field(default_factory=dict)

    def values(self, types: Mapping[str, pa.DataType]) -> list[dict[str, int | str | None]]:
        """Return each file's values, in the types that the run reads them as."""
        return [{name: _value(text, types.get(name)) for name, text in texts.items()} for texts in self.texts]


NO_PARTITIONS = Partitions()


def _value(text: str | None, dtype: pa.DataType | None) -> int | str | None:
    return int(text) if text is not None and dtype is not None and pa.types.is_integer(dtype) else text


def find_partitions(
    files: Sequence[InputFile], key: str, *, root: str = "", hive_partitioning: bool | None = None
) -> Partitions:
    """
    Return the partition columns that the files' folders tell.

    >>> [file] = [InputFile("texts/day=2026-01-01/lang=d%65/part-0.csv", 1, "")]
    >>> find_partitions([file], "texts").texts, find_partitions([file], "texts/day=2026-01-01").texts
    (({'day': '2026-01-01', 'lang': 'de'},), ({'lang': 'de'},))

    :param key: what was asked for, relative to the store: a file, a folder or a glob.
    :param root: path of the store, whose folders count too with ``hive_partitioning=True``.
    :param hive_partitioning: None: folders below the input, if there are any; True: also those that its URL names, and
        there must be some; False: none.
    :raises InputFormatError: two files have different keys, one has a key twice, a value is no text in UTF-8, or there
        are no partitions where there must be.
    """
    if hive_partitioning is False:
        return NO_PARTITIONS
    texts = []
    for file in files:
        folders = file.key.split("/")[:-1]
        if hive_partitioning:
            folders = [*root.split("/"), *folders]
        elif not is_glob(key):
            folders = file.key.removeprefix(key.rstrip("/")).split("/")[:-1]
        texts.append(_texts(folders, file.key))
    _check_same_keys(files, texts)
    if hive_partitioning and not any(texts):
        raise InputFormatError(
            "hive_partitioning is True, and no folder of the input is named key=value. Leave it out, or check the URL."
        )
    names = texts[0] if texts else {}
    return Partitions(tuple(texts), {name: _type([its[name] for its in texts]) for name in names})


def _texts(folders: Sequence[str], where: str) -> dict[str, str | None]:
    texts: dict[str, str | None] = {}
    for folder in folders:
        name, sign, value = folder.partition("=")
        if not sign or not name:
            continue
        if (name := _decoded(name, where)) in texts:
            raise InputFormatError(
                f"The folders of {where} give the partition {name!r} twice. Rename one, or set hive_partitioning=False."
            )
        texts[name] = None if value == NULL else _decoded(value, where)
    return texts


def _decoded(text: str, where: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise InputFormatError(
            f"A folder of {where} is no percent-encoded text in UTF-8: {text!r}. Rename it, or set "
            "hive_partitioning=False."
        ) from None


def _check_same_keys(files: Sequence[InputFile], texts: Sequence[Mapping[str, str | None]]) -> None:
    for file, its in zip(files, texts, strict=True):
        if its.keys() != texts[0].keys():
            raise InputFormatError(
                f"The files of the input have different partitions: {files[0].key} has {_listed(texts[0])}, {file.key} "
                f"has {_listed(its)}. Narrow the input by a glob such as folder/{next(iter(its or texts[0]))}=*/*, or "
                "set hive_partitioning=False to read the files without these columns."
            )


def _listed(texts: Mapping[str, str | None]) -> str:
    return ", ".join(map(repr, texts)) or "none"


def _type(texts: Sequence[str | None]) -> pa.DataType:
    """
    Return the type of a column.

    >>> _type(["01", None, "-5"]), _type(["1", "x"]), _type(["9" * 19]), _type([None])
    (DataType(int64), DataType(string), DataType(string), DataType(string))
    """
    given = [text for text in texts if text is not None]
    whole = all(re.fullmatch("-?[0-9]+", text) and int(text) in _INT64 for text in given)
    return pa.int64() if given and whole else pa.string()


def own_columns(schema: ReadSchema, partition: Mapping[str, object]) -> ReadSchema:
    """Return the columns that a file itself holds."""
    own = pa.schema([column for column in schema.schema if column.name not in partition])
    return replace(schema, schema=own)


def with_partition(window: TableWindow, schema: pa.Schema, partition: Mapping[str, int | str | None]) -> TableWindow:
    """Return a window of a file with its partition's columns, each value as often as there are rows."""
    rows = len(window.row)
    columns = [
        pa.repeat(pa.scalar(partition[column.name], column.type), rows)
        if column.name in partition
        else window.batch.column(column.name)
        for column in schema
    ]
    return replace(window, batch=pa.RecordBatch.from_arrays(columns, schema=schema))
