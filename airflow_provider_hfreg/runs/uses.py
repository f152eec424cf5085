"""
Which batch runs used a version: read from the outputs, where each run has said it.

A run writes ``run.json``, with the version's digest, before any of its results; and it writes into its output only,
because on the registry it has no right but to read. So the outputs hold the one complete record, and this module looks
it up: it needs to be told where outputs lie, and it does not see those that somebody deleted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_hfreg.errors import KeyNotFoundError
from airflow_provider_hfreg.runs import layout
from airflow_provider_hfreg.runs.plan import RunDocument
from airflow_provider_hfreg.storage.base import ObjectStore
from airflow_provider_hfreg.storage.urls import open_store

if TYPE_CHECKING:
    from airflow_provider_hfreg.storage.settings import S3Settings

_READERS = 8
_RUN_DOCUMENT = re.compile(rf"(?P<folder>(?:.*/)?){layout.RUNS_FOLDER}(?P<run>[^/]+)/run\.json")


@dataclass(frozen=True)
class Use:
    """
    One batch run of a version.

    :param identity: who asked for it: in Airflow dag, task, run and map index, as JSON.
    :param reference: ``model/version`` as the run called it; a copy of one content may have several names.
    :param is_finished: its report is there.
    """

    batch_run_id: str
    identity: str
    reference: str
    registry_url: str
    input: str
    output: str
    rows: int
    is_finished: bool

    def to_json(self) -> dict[str, Any]:
        """Return the use as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Uses:
    """
    What looking below a folder found.

    :param runs: how many batch runs lie there, of whatever version; none mostly means another folder.
    :param found: those of the version.
    """

    runs: int
    found: tuple[Use, ...]


def find_uses(content_digest: str, outputs_url: str, *, s3: S3Settings | None = None) -> Uses:
    """
    Return the batch runs of a version whose outputs lie in a folder or anywhere below it, by output and run.

    Requests: a listing of everything below the folder, one per thousand objects, and one for each run found. A plan
    that this version of the package cannot read is passed over if it names another version.

    :param content_digest: of the version.
    :param outputs_url: of an output folder, or of a folder that holds many.
    :param s3: how to reach it.
    :raises KeyNotFoundError: nothing lies below the folder: it is another one that was meant.
    :raises UnknownFormatError: a run's plan cannot be read.
    """
    store = open_store(outputs_url, s3)
    keys = {info.key for info in store.list_infos()}
    if not keys:
        raise KeyNotFoundError(f"Nothing lies below {store.url}: no batch run wrote there. Check the folder's name.")
    plans = [match for key in sorted(keys) if (match := _RUN_DOCUMENT.fullmatch(key))]
    with ThreadPoolExecutor(_READERS) as readers:
        contents = list(readers.map(lambda plan: _found(store, plan[0]), plans))
    found = (
        _use(document, is_finished=plan["folder"] + layout.report_key(plan["run"]) in keys)
        for plan, content in zip(plans, contents, strict=True)
        for document in _read(content, content_digest, store.location(plan[0]))
    )
    return Uses(len(plans), tuple(found))


def _found(store: ObjectStore, key: str) -> bytes:
    """Return a plan's bytes; none where it was deleted since the listing."""
    try:
        return store.get(key)
    except KeyNotFoundError:
        return b""


def _read(content: bytes, content_digest: str, where: str) -> Iterator[RunDocument]:
    """Give the plan, if it is one of this version."""
    if content_digest.encode() in content:  # the digest stands in it as it is: others need not be read
        document = RunDocument.from_bytes(content, where=where)
        if document.version.content_digest == content_digest:
            yield document


def _use(document: RunDocument, *, is_finished: bool) -> Use:
    version = document.version
    return Use(
        batch_run_id=document.batch_run_id,
        identity=document.identity,
        reference=f"{version.model_name}/{version.version_name}",
        registry_url=version.registry_url,
        input=document.request.input,
        output=document.request.output,
        rows=document.rows,
        is_finished=is_finished,
    )
