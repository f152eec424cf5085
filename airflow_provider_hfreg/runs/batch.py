"""
A batch run, from a request to a report: begin or resume, execute the missing shards, finish.

What is decided is decided elsewhere, by pure functions; here the stores are asked and told, in this order:

1. everything that can be refused is refused while only reading: options, inputs, columns, parameters, the output
   folder, a model too large, a store that ignores conditions; what needs no row, before rows are staged;
2. ``run.json`` is put; from now on the run exists, and a retry resumes it;
3. the missing shards are executed, here or on an executor pool, each committed by its part;
4. the run is finished, its report last.

A kill anywhere leaves a state from which the same call goes on. Between 2 and 3, and between 3 and 4, another process
may go on: what it needs is a :class:`~airflow_provider_hfreg.runs.begun.BegunRun`.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from airflow_provider_hfreg.errors import InputChangedError
from airflow_provider_hfreg.runs import layout, outputs
from airflow_provider_hfreg.runs.asking import Ask, decided, prepare, refuse
from airflow_provider_hfreg.runs.begun import BegunRun, total
from airflow_provider_hfreg.runs.commit import Marker, committed_shards
from airflow_provider_hfreg.runs.decide import Action, Decision
from airflow_provider_hfreg.runs.execution import Execution, InProcess
from airflow_provider_hfreg.runs.plan import RunDocument
from airflow_provider_hfreg.runs.planning import plan_run
from airflow_provider_hfreg.runs.progress import Log
from airflow_provider_hfreg.runs.report import (
    ALREADY_COMPLETED,
    COMPLETED,
    RowCounts,
    RunReport,
    check_conserved,
    told_numerics,
)
from airflow_provider_hfreg.runs.row_errors import check_outcome
from airflow_provider_hfreg.runs.row_sources import RowSource
from airflow_provider_hfreg.runs.spec import BatchRequest
from airflow_provider_hfreg.runs.tally import Tally
from airflow_provider_hfreg.storage.probe import probe_conditional_writes

if TYPE_CHECKING:
    from airflow_provider_hfreg.registry.version import ModelVersion
    from airflow_provider_hfreg.storage.settings import S3Settings


@dataclass(frozen=True)
class Executed:
    """
    What one try came to.

    :param markers: of all shards.
    :param resumed: how many were committed before it.
    :param rows_per_s: of the rows computed by it.
    :param elapsed_s: since it began.
    """

    markers: Mapping[int, Marker]
    resumed: int
    rows_per_s: float
    elapsed_s: float


def run_batch(
    request: BatchRequest,
    *,
    version: ModelVersion,
    identity: str,
    registry_url: str,
    s3: S3Settings | None = None,
    rerun: bool = False,
    source: RowSource | None = None,
    execution: Execution | None = None,
    log: Log | None = None,
    progress_interval_s: float = 10.0,
) -> RunReport:
    """
    Run a table through a model version, each row once, and return what came of it.

    The same call again returns the finished run, or goes on with an unfinished one.

    :param version: pinned; what a run did is told by its content digest.
    :param identity: who asks, the same at every try: in Airflow the DAG, task, run and map index.
    :param registry_url: kept in ``run.json``, for whoever executes a shard elsewhere.
    :param s3: how to reach input and output on ``s3://``.
    :param rerun: do a finished run over, or abandon an unfinished one that differs. An unfinished run that does not
        differ is resumed nevertheless. With or without it, a new run replaces what this identity wrote before.
    :param source: rows that no file holds, such as :class:`~airflow_provider_hfreg.runs.row_sources.GivenRows`; the
        request's ``input`` is ``""`` then. They are staged in the output folder, and a retry finds them there.
    :param execution: where the shards are executed; default: in this process.
    :param log: gets the progress, about every ``progress_interval_s``.
    :raises InvalidRunOptionError: an option that cannot be.
    :raises InputNotFoundError: no input file.
    :raises InputFormatError: a file that is not of its format, or two that disagree.
    :raises ColumnMissingError: the input lacks a column.
    :raises InputChangedError: an unfinished run of this identity differs, or a file changed under the run.
    :raises OutputExistsError: the output folder holds something else.
    :raises UnsafeModelError: the version runs Python files of its own, and the request does not consent to it.
    :raises TooManyRowErrorsError: more rows failed than may.
    :raises RowsNotConservedError: rows were lost or doubled; nothing is marked as finished.
    :raises RunCancelledError: the execution was asked to stop.
    :raises RunAbandonedError: another run took this one's place.
    :raises UnknownFormatError: the plan of an unfinished run cannot be read; ``rerun`` abandons it.
    """
    execution = execution or InProcess()
    ask = prepare(
        request,
        version=version,
        identity=identity,
        registry_url=registry_url,
        s3=s3,
        rerun=rerun,
        log=log or logging.getLogger(__name__),
        source=source,
        execution=execution,
    )
    return run_prepared(ask, execution=execution, progress_interval_s=progress_interval_s)


def run_prepared(ask: Ask, *, execution: Execution | None = None, progress_interval_s: float = 10.0) -> RunReport:
    """Run what :func:`~airflow_provider_hfreg.runs.asking.prepare` gave, on the stores that it holds."""
    execution = execution or InProcess()
    began_s = time.monotonic()
    begun = begin_run(ask, execution)
    if isinstance(begun, RunReport):
        return begun
    tally = Tally(begun, interval_s=progress_interval_s)
    # Closed here, not by the garbage collector: whatever stops the run, what it holds open is let go first.
    with contextlib.closing(execution.execute(begun, ask, tally.observe)) as done:
        for marker in done:
            tally.commit(marker)
    elapsed_s = time.monotonic() - began_s
    return finish_run(begun, Executed(tally.markers, len(begun.markers), tally.rows_per_s, elapsed_s))


def begin_run(ask: Ask, execution: Execution) -> BegunRun | RunReport:
    """
    Begin a run, or find the one that was begun, or its report where it is finished.

    :param execution: is asked whether it can execute what is missing, before anything is written.
    """
    decision = decided(ask)
    if decision.action is Action.RESUME and ask.rerun and not outputs.is_readable(ask.output, decision.batch_run_id):
        # Nobody can go on with it: without this, rerun would resume it for ever.
        outputs.abandon(ask.output, [decision.batch_run_id], successor=None)
        decision = decided(ask)
    refuse(decision, ask)
    if decision.action is Action.RETURN:
        return _finished_before(decision, ask)
    begun = _resumed(decision, ask, execution) if decision.action is Action.RESUME else _begun(decision, ask, execution)
    # Repeated when resumed: the run that began may have died before it could mark them.
    outputs.abandon(ask.output, begun.document.replaces, successor=begun.document.batch_run_id)
    return begun


def _finished_before(decision: Decision, ask: Ask) -> RunReport:
    report = outputs.find_report(ask.output, decision.batch_run_id)
    if report is None:
        raise InputChangedError(
            f"The report of the run {decision.batch_run_id} was there and is gone from {ask.output.url}. Run again."
        )
    check_outcome(ask.request, RowCounts(report.rows_in, report.rows_ok, report.rows_quarantined))
    ask.log.info(
        "already completed: run %s has %d rows in %s; rerun=True does it over",
        report.batch_run_id,
        report.rows_ok,
        report.output,
    )
    return replace(report, status=ALREADY_COMPLETED)


def _resumed(decision: Decision, ask: Ask, execution: Execution) -> BegunRun:
    document = outputs.read_document(ask.output, decision.batch_run_id)
    begun = _as_this_try(document, ask)
    if begun.missing:  # a run that lacks nothing needs no model and no worker to be finished
        execution.check(document, ask)
    return begun


def _as_this_try(document: RunDocument, ask: Ask) -> BegunRun:
    return BegunRun(document, ask.request, ask.output, ask.log, committed_shards(ask.output, document))


def _begun(decision: Decision, ask: Ask, execution: Execution) -> BegunRun:
    document = plan_run(
        ask.request,
        ask.version,
        batch_run_id=decision.batch_run_id,
        identity=ask.identity,
        fingerprint=ask.fingerprint,
        registry_url=ask.registry_url,
        inputs=ask.inputs,
        files=ask.files,
        replaces=decision.replaces,
    )
    execution.check(document, ask)
    probe_conditional_writes(ask.output, layout.RUNS_FOLDER)
    ask.log.info(
        "planned: %d rows of %d files in %d shards, run %s",
        document.rows,
        len(document.files),
        len(document.shards),
        document.batch_run_id,
    )
    document = outputs.begin(ask.output, document, alone=ask.request.if_output_exists != "append")
    return _as_this_try(document, ask)  # an equal run may have begun at the same moment, and be further


def finish_run(begun: BegunRun, executed: Executed) -> RunReport:
    """
    Finish a run whose shards are all committed, and return its report.

    :raises TooManyRowErrorsError: more rows failed than may.
    :raises RowsNotConservedError: rows were lost or doubled; nothing is marked as finished.
    :raises RunAbandonedError: another run took this one's place.
    """
    document, output = begun.document, begun.output
    counts = check_conserved(
        total(executed.markers), planned_rows=document.rows, where=f"The run {document.batch_run_id}"
    )
    check_outcome(begun.request, counts)
    report = RunReport(
        status=COMPLETED,
        batch_run_id=document.batch_run_id,
        model_name=document.version.model_name,
        version_name=document.version.version_name,
        content_digest=document.version.content_digest,
        output=output.url,
        parts=len(document.shards),
        rows_in=counts.rows_in,
        rows_ok=counts.rows_ok,
        rows_quarantined=counts.rows_quarantined,
        rows_truncated=counts.rows_truncated,
        shards_total=len(document.shards),
        shards_resumed=executed.resumed,
        rows_per_s=executed.rows_per_s,
        elapsed_s=executed.elapsed_s,
        errors_url=_errors_url(begun) if counts.rows_quarantined else None,
        report_url=output.location(layout.report_key(document.batch_run_id)),
        seed=document.seed,
        **told_numerics(marker.numerics for marker in executed.markers.values()),
    )
    outputs.finish(output, document, executed.markers, report)
    begun.log.log(
        logging.WARNING if counts.rows_quarantined else logging.INFO,
        "completed: %d rows in, %d ok, %d quarantined%s",
        counts.rows_in,
        counts.rows_ok,
        counts.rows_quarantined,
        f" in {report.errors_url}" if report.errors_url else "",
    )
    return report


def _errors_url(begun: BegunRun) -> str:
    return begun.output.location(layout.errors_folder(begun.document.batch_run_id).rstrip("/"))
