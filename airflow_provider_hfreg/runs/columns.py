"""
The columns of a run: which are read, as what, which feature each is, and what the output holds.

Decided once, from the scans of all files, before anything runs; whatever cannot work is an error here and not in the
seventh shard. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from airflow_provider_hfreg.errors import ColumnMissingError, InputFormatError, InvalidRunOptionError
from airflow_provider_hfreg.runs.partitions import NO_PARTITIONS, Partitions
from airflow_provider_hfreg.runs.spec import BatchRequest
from airflow_provider_hfreg.runs.tables.base import FileScan, ReadSchema, TableReader
from airflow_provider_hfreg.runs.tables.json_types import settled
from airflow_provider_hfreg.runs.tables.parquet_table import ParquetReader
from airflow_provider_hfreg.signatures.arrow import arrow_schema, arrow_type
from airflow_provider_hfreg.signatures.features import FeatureSpec
from airflow_provider_hfreg.signatures.rows import bind_columns, to_window
from airflow_provider_hfreg.signatures.signature import ModelSignature


@dataclass(frozen=True)
class RunColumns:
    """
    :param read: the columns to read, those passed through first.
    :param passthrough: names of the columns that the output repeats.
    :param binding: feature → table column; None for an optional one that the table lacks.
    :param inputs: the signature's features, in its order.
    :param optional: features that may be null.
    :param output: schema of the output: passed-through columns, then the model's.
    """

    read: ReadSchema
    passthrough: tuple[str, ...]
    binding: Mapping[str, str | None]
    inputs: tuple[FeatureSpec, ...]
    optional: frozenset[str]
    output: pa.Schema


def plan_columns(
    request: BatchRequest,
    signature: ModelSignature,
    optional: frozenset[str],
    scans: Mapping[str, FileScan],
    reader: TableReader,
    *,
    partitions: Partitions = NO_PARTITIONS,
    outputs: pa.Schema | None = None,
) -> RunColumns:
    """
    Return the columns of a run.

    :param scans: a file's location → its scan, in the input's order.
    :param partitions: columns that the files' folders tell; they come after the files' own.
    :param outputs: the model's columns; None: as the signature says.
    :raises ColumnMissingError: the table lacks a column that is needed or asked for.
    :raises ColumnTypeError: a column of a type that cannot be read as the signature's.
    :raises InputFormatError: two files disagree.
    :raises InvalidRunOptionError: two columns of the output would have one name.
    """
    own_names = [name for name in _table_names(request, signature, optional, scans) if name not in partitions.types]
    names = [*own_names, *partitions.types]
    bound = bind_columns(signature.inputs, names, columns_map=request.columns, optional=optional)
    binding = {feature: None if column is None else str(column) for feature, column in bound.items()}
    passthrough = _passthrough(request, names)
    features = {column: arrow_type(f) for f in signature.inputs if (column := binding[f.name]) is not None}
    wanted = list(dict.fromkeys([*passthrough, *features]))
    if partitions.types.keys() >= set(wanted):
        wanted += own_names[:1]  # a file is read by one column at least, or nothing would tell how many rows it has
    own = [name for name in wanted if name not in partitions.types]
    types = {name: _joined_type(name, scans, reader) for name in own}
    if not isinstance(reader, ParquetReader):
        types |= {name: features[name] for name in own if name in features}  # no types of its own: the signature's hold
    # A column without any value is of every type: no value in it is a wrong one.
    types |= {name: features[name] for name in own if name in features and pa.types.is_null(types[name])}
    types |= {name: _partition_type(name, partitions, features) for name in wanted if name in partitions.types}
    read = pa.schema([(name, settled(types[name])) for name in wanted])
    _check_types(read, signature, binding, optional)
    output = _output_schema(request, read, passthrough, outputs or arrow_schema(signature.outputs))
    as_text = frozenset(wanted) - features.keys()
    return RunColumns(ReadSchema(read, as_text), passthrough, binding, signature.inputs, optional, output)


def _partition_type(name: str, partitions: Partitions, features: Mapping[str, pa.DataType]) -> pa.DataType:
    # A folder's name is text: a feature that wants text gets it as it stands, also where all values look like numbers.
    return features[name] if pa.types.is_string(features.get(name, pa.null())) else partitions.types[name]


def _table_names(
    request: BatchRequest, signature: ModelSignature, optional: frozenset[str], scans: Mapping[str, FileScan]
) -> list[str]:
    names = list(dict.fromkeys(name for scan in scans.values() for name in scan.columns))
    if names or not all(scan.is_open for scan in scans.values()):
        return names
    # No row and no header anywhere: the result has no row either, and the columns that one would have.
    required = [f.name for f in signature.inputs if f.name not in optional]
    mapped = [*request.columns.values(), *(name for name in required if name not in request.columns)]
    return list(dict.fromkeys([*(request.passthrough or ()), *mapped]))


def _passthrough(request: BatchRequest, names: Sequence[str]) -> tuple[str, ...]:
    if request.passthrough is None:
        return tuple(names)
    for name in request.passthrough:
        if name not in names:
            raise ColumnMissingError(
                f"passthrough names the column {name!r}, which the input does not have; it has "
                f"{', '.join(map(repr, names)) or 'no column'}. Correct the name or leave it out."
            )
    return tuple(request.passthrough)


def _joined_type(name: str, scans: Mapping[str, FileScan], reader: TableReader) -> pa.DataType:
    joined, first = pa.null(), ""
    for where, scan in scans.items():
        if name not in scan.columns:
            if not scan.is_open:
                having = next((other for other, its in scans.items() if name in its.columns), first)
                raise InputFormatError(
                    f"The files of the input disagree: {having} has the column {name!r}, {where} does not. Bring them "
                    "to the same columns, read them in two runs, or name the columns to keep in passthrough."
                )
            continue
        here = scan.columns[name]
        together = reader.join_columns(joined, here)
        if together is None:
            raise InputFormatError(
                f"The files of the input disagree: the column {name!r} is {joined} in {first} and {here} in {where}. "
                "Bring them to one type, read them in two runs, or leave the column out of passthrough."
            )
        joined, first = together, first or where
    return joined


def _check_types(
    read: pa.Schema, signature: ModelSignature, binding: Mapping[str, str | None], optional: frozenset[str]
) -> None:
    """Convert a table of no rows: raises now what every row would raise."""
    empty = {
        feature: None if column is None else pa.nulls(0, read.field(column).type) for feature, column in binding.items()
    }
    to_window(empty, signature.inputs, optional=optional, names=binding)


def _output_schema(request: BatchRequest, read: pa.Schema, passthrough: Sequence[str], outputs: pa.Schema) -> pa.Schema:
    prefixed = [column.with_name(f"{request.output_prefix}{column.name}") for column in outputs]
    clashes = sorted({column.name for column in prefixed} & set(passthrough))
    if clashes:
        raise InvalidRunOptionError(
            f"The output would have two columns {clashes[0]!r}: one of the input, one of the model. Give output_prefix "
            "(such as 'predicted_'), or list in passthrough the input columns to keep."
        )
    return pa.schema([*(read.field(name) for name in passthrough), *prefixed])
