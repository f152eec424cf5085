"""
Planning: the input's files are scanned, its columns bound, its shards cut. Reads only; writes nothing.

The scan of a CSV or JSONL file reads it from end to end, a Parquet file's only its footer; some files are scanned at a
time. It happens once per run, since a resumed one has its plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from typing import TYPE_CHECKING

from airflow_provider_hfreg.runs.columns import plan_columns
from airflow_provider_hfreg.runs.inputs import InputFile, format_of
from airflow_provider_hfreg.runs.partitions import Partitions, find_partitions
from airflow_provider_hfreg.runs.plan import PinnedVersion, PlannedFile, RunDocument, pack_shards
from airflow_provider_hfreg.runs.spec import BatchRequest, Fingerprint, derived_seed
from airflow_provider_hfreg.runs.tables import READERS
from airflow_provider_hfreg.runs.tables.base import FileScan, TableReader
from airflow_provider_hfreg.storage.base import ObjectStore
from airflow_provider_hfreg.storage.urls import parse_url, split_glob

if TYPE_CHECKING:
    from airflow_provider_hfreg.registry.version import ModelVersion

_SCANNERS = 4


def plan_run(
    request: BatchRequest,
    version: ModelVersion,
    *,
    batch_run_id: str,
    identity: str,
    fingerprint: Fingerprint,
    registry_url: str,
    inputs: ObjectStore,
    files: Sequence[InputFile],
    replaces: Sequence[str] = (),
) -> RunDocument:
    """
    Return the plan of a run; see :func:`~airflow_provider_hfreg.runs.columns.plan_columns` for what it refuses.

    :param inputs: the store that the files' keys are relative to.
    """
    input_format = format_of(files, request.input_format)
    reader = READERS[input_format]
    partitions = _partitions(request, inputs, files)
    scans = scan_files(reader, inputs, files, rows_per_range=request.rows_per_shard)
    columns = plan_columns(
        request,
        version.signature(request.function_name),
        version.optional_inputs(request.function_name),
        {inputs.location(file.key): scan for file, scan in zip(files, scans, strict=True)},
        reader,
        partitions=partitions,
        outputs=version.output_schema(
            request.output_format, function_name=request.function_name, params=request.params
        ),
    )
    return RunDocument(
        batch_run_id=batch_run_id,
        identity=identity,
        fingerprint=fingerprint,
        request=request,
        version=PinnedVersion(registry_url, version.model_name, version.version_name, version.content_digest),
        input_root=inputs.url,
        input_format=input_format,
        files=planned_files(
            files, scans, partitions.values({column.name: column.type for column in columns.read.schema})
        ),
        shards=pack_shards([scan.ranges for scan in scans], request.rows_per_shard),
        columns=columns,
        seed=derived_seed(fingerprint) if request.seed is None else request.seed,
        replaces=tuple(replaces),
    )


def _partitions(request: BatchRequest, inputs: ObjectStore, files: Sequence[InputFile]) -> Partitions:
    _, key = split_glob(request.input)
    return find_partitions(files, key, root=parse_url(inputs.url).path, hive_partitioning=request.hive_partitioning)


def scan_files(
    reader: TableReader, inputs: ObjectStore, files: Sequence[InputFile], *, rows_per_range: int
) -> list[FileScan]:
    """Return the scans of all files, in their order."""
    with ThreadPoolExecutor(_SCANNERS) as threads:
        scans = [
            threads.submit(reader.scan, inputs, file.key, file.size_bytes, rows_per_range=rows_per_range)
            for file in files
        ]
        try:
            return [scan.result() for scan in scans]
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)  # of ten thousand files, not all after the first error
            raise


def planned_files(
    files: Sequence[InputFile], scans: Sequence[FileScan], partitions: Sequence[Mapping[str, int | str | None]] = ()
) -> tuple[PlannedFile, ...]:
    """
    Return the files with the numbers of their rows in the whole input.

    :param partitions: of each file, column → value; empty where there are none.
    """
    first_rows = accumulate((scan.rows for scan in scans), initial=0)
    return tuple(
        PlannedFile(file.key, file.size_bytes, file.etag, first_row, scan.rows, scan.header, partition)
        for file, scan, first_row, partition in zip(
            files, scans, first_rows, partitions or [{} for _ in files], strict=False
        )
    )
