"""
A run, planned: its files, its shards, its columns, and all that a worker needs to execute one shard.

``run.json`` is this plan. Whoever has it and an index can execute that shard, on whatever machine, today or after a
crash, and gets the same rows: cutting is a pure function of the scans, and it is done once.
"""

from __future__ import annotations

import base64
import bisect
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from airflow_provider_hfreg.errors import HfregError, UnknownFormatError
from airflow_provider_hfreg.runs.columns import RunColumns
from airflow_provider_hfreg.runs.inputs import TableFormat
from airflow_provider_hfreg.runs.spec import BatchRequest, Fingerprint, known_fields
from airflow_provider_hfreg.runs.tables.base import ReadSchema, RowRange
from airflow_provider_hfreg.signatures.features import FeatureSpec
from airflow_provider_hfreg.storage.base import ObjectState

FORMAT_VERSION = 1


@dataclass(frozen=True)
class PlannedFile:
    """
    One input file.

    :param first_row: its first row's number in the whole input.
    :param header: column names of a CSV file.
    :param partition: columns that its folders tell, and their value in all of its rows.
    """

    key: str
    size_bytes: int
    etag: str
    first_row: int
    rows: int
    header: tuple[str, ...] = ()
    partition: Mapping[str, int | str | None] = field(default_factory=dict)

    @property
    def state(self) -> ObjectState:
        """Its content when the run was planned."""
        return ObjectState(self.size_bytes, self.etag)


@dataclass(frozen=True)
class ShardSlice:
    """A range of one file, by the file's place in the plan."""

    file: int
    range: RowRange


@dataclass(frozen=True)
class Shard:
    """
    One piece of the input, one part of the output.

    :param first_row: its first row's number in the whole input.
    """

    index: int
    first_row: int
    rows: int
    slices: tuple[ShardSlice, ...]


def pack_shards(files: Sequence[Sequence[RowRange]], rows_per_shard: int) -> tuple[Shard, ...]:
    """
    Return shards of consecutive ranges, as many in each as fit; one empty shard for an input of no rows.

    A range is never cut again: it has at most ``rows_per_shard`` rows.

    >>> small, large = [RowRange(0, 2)], [RowRange(0, 5), RowRange(5, 1)]
    >>> [(shard.first_row, shard.rows, len(shard.slices)) for shard in pack_shards([small, small, large], 5)]
    [(0, 4, 2), (4, 5, 1), (9, 1, 1)]
    >>> pack_shards([[]], 5)
    (Shard(index=0, first_row=0, rows=0, slices=()),)
    """
    groups: list[list[ShardSlice]] = [[]]
    room = rows_per_shard
    for place, ranges in enumerate(files):
        for piece in ranges:
            if piece.rows > room and groups[-1]:
                groups.append([])
                room = rows_per_shard
            groups[-1].append(ShardSlice(place, piece))
            room -= piece.rows
    shards: list[Shard] = []
    first_row = 0
    for index, group in enumerate(groups):
        rows = sum(piece.range.rows for piece in group)
        shards.append(Shard(index, first_row, rows, tuple(group)))
        first_row += rows
    return tuple(shards)


@dataclass(frozen=True)
class PinnedVersion:
    """The model version of a run: names for people, the digest for machines, the registry to load it from."""

    registry_url: str
    model_name: str
    version_name: str
    content_digest: str


@dataclass(frozen=True)
class RunDocument:
    """
    What ``run.json`` holds.

    :param input_root: URL that the files' keys are relative to.
    :param seed: of sampling, in force for all rows; a row's own is derived from it and the row's number.
    :param replaces: runs whose parts are removed when all shards of this one are committed.
    """

    batch_run_id: str
    identity: str
    fingerprint: Fingerprint
    request: BatchRequest
    version: PinnedVersion
    input_root: str
    input_format: TableFormat
    files: tuple[PlannedFile, ...]
    shards: tuple[Shard, ...]
    columns: RunColumns
    seed: int
    replaces: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Rows of the whole input."""
        return sum(shard.rows for shard in self.shards)

    def file_of_row(self, row: int) -> PlannedFile:
        """Return the file that holds a row of the input."""
        # Files without rows share their first_row with the next one: the last of them holds the row.
        return self.files[bisect.bisect_right(self.files, row, key=lambda file: file.first_row) - 1]

    def to_bytes(self) -> bytes:
        """Return ``run.json``."""
        plain = {
            "format_version": FORMAT_VERSION,
            "batch_run_id": self.batch_run_id,
            "identity": self.identity,
            "fingerprint": asdict(self.fingerprint),
            "request": self.request.to_json(),
            "version": asdict(self.version),
            "input_root": self.input_root,
            "input_format": self.input_format.value,
            "files": [asdict(file) for file in self.files],
            "shards": [asdict(shard) for shard in self.shards],
            "columns": _columns_to_json(self.columns),
            "seed": self.seed,
            "replaces": list(self.replaces),
        }
        return json.dumps(plain, ensure_ascii=False, indent=1).encode()

    @classmethod
    def from_bytes(cls, content: bytes, *, where: str) -> RunDocument:
        """
        Rebuild what :meth:`to_bytes` gave; what only a newer version of this package knows is left out.

        :raises UnknownFormatError: it is cut or changed, or has a format version that this package does not read.
        """
        try:
            plain = json.loads(content)
            version = plain.get("format_version")
        except (ValueError, AttributeError) as error:
            raise UnknownFormatError(_unreadable(where, error)) from error
        if version != FORMAT_VERSION:
            raise UnknownFormatError(
                f"{where} has the format version {version!r}; this package reads {FORMAT_VERSION}. "
                "Finish the run with the version of the package that began it, or do it over with rerun=True."
            )
        try:
            return cls._from_json(plain)
        except (LookupError, TypeError, ValueError, AttributeError, OSError, pa.ArrowException, HfregError) as error:
            raise UnknownFormatError(_unreadable(where, error)) from error

    @classmethod
    def _from_json(cls, plain: Mapping[str, Any]) -> RunDocument:
        return cls(
            batch_run_id=plain["batch_run_id"],
            identity=plain["identity"],
            fingerprint=Fingerprint(**known_fields(Fingerprint, plain["fingerprint"])),
            request=BatchRequest.from_json(plain["request"]),
            version=PinnedVersion(**known_fields(PinnedVersion, plain["version"])),
            input_root=plain["input_root"],
            input_format=TableFormat(plain["input_format"]),
            files=tuple(_file_from_json(file) for file in plain["files"]),
            shards=tuple(_shard_from_json(shard) for shard in plain["shards"]),
            columns=_columns_from_json(plain["columns"]),
            seed=plain["seed"],
            replaces=tuple(plain["replaces"]),
        )


def _unreadable(where: str, error: Exception) -> str:
    return (
        f"{where} is no whole plan of a run that this version of the package can read: {error!r} in it. Bring the "
        "object back as it was, or do the run over with rerun=True, which abandons this one."
    )


def _file_from_json(plain: Mapping[str, Any]) -> PlannedFile:
    return PlannedFile(**known_fields(PlannedFile, plain) | {"header": tuple(plain["header"])})


def _shard_from_json(plain: Mapping[str, Any]) -> Shard:
    slices = tuple(
        ShardSlice(piece["file"], RowRange(**known_fields(RowRange, piece["range"]))) for piece in plain["slices"]
    )
    return Shard(plain["index"], plain["first_row"], plain["rows"], slices)


def _columns_to_json(columns: RunColumns) -> dict[str, Any]:
    return {
        "read": _schema_to_json(columns.read.schema),
        "as_text": sorted(columns.read.as_text),
        "passthrough": list(columns.passthrough),
        "binding": dict(columns.binding),
        "inputs": [feature.to_json() for feature in columns.inputs],
        "optional": sorted(columns.optional),
        "output": _schema_to_json(columns.output),
    }


def _columns_from_json(plain: Mapping[str, Any]) -> RunColumns:
    return RunColumns(
        read=ReadSchema(_schema_from_json(plain["read"]), frozenset(plain["as_text"])),
        passthrough=tuple(plain["passthrough"]),
        binding=plain["binding"],
        inputs=tuple(FeatureSpec.from_json(feature) for feature in plain["inputs"]),
        optional=frozenset(plain["optional"]),
        output=_schema_from_json(plain["output"]),
    )


def _schema_to_json(schema: pa.Schema) -> dict[str, Any]:
    # Arrow's own bytes are exact for every type; the list is for who reads the file.
    exact = base64.b64encode(schema.serialize().to_pybytes()).decode()
    return {"columns": [[column.name, str(column.type)] for column in schema], "arrow_ipc": exact}


def _schema_from_json(plain: Mapping[str, Any]) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(plain["arrow_ipc"])))
