"""The command that runs a table through a version, in this process."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from airflow_provider_hfreg.commands.places import url_of
from airflow_provider_hfreg.commands.replies import Asked, Reply
from airflow_provider_hfreg.commands.tables import facts
from airflow_provider_hfreg.runs.batch import run_batch
from airflow_provider_hfreg.runs.spec import BatchRequest

if TYPE_CHECKING:
    from airflow_provider_hfreg.runs.report import RunReport


def run(asked: Asked) -> Reply:
    """Run a table through a version."""
    options = asked.options
    version = asked.registry.resolve(options.reference)
    request = BatchRequest(
        input=url_of(options.input),
        output=url_of(options.output),
        columns=dict(options.column),
        params=dict(options.param),
        function_name=options.function,
        output_format=options.output_format,
        max_row_errors=options.max_row_errors,
        if_output_exists=options.if_output_exists,
        precision=options.precision,
        token_budget=options.token_budget,
        threads=options.threads,
        trust_remote_code=options.trust_remote_code,
    )
    report = run_batch(
        request,
        version=version,
        # The same for the same command, so that it goes on where it was interrupted; another version is another run,
        # which does not take this one's place unless it is told to.
        identity=json.dumps(["command line", version.reference, request.input, request.output]),
        registry_url=asked.registry.url,
        s3=asked.place.s3,
        rerun=options.rerun,
    )
    return Reply(report.to_json(), _reported(report))


def _reported(report: RunReport) -> str:
    return facts(
        {
            "run": f"{report.batch_run_id}, {report.status.replace('_', ' ')}",
            "version": f"{report.model_name}/{report.version_name} ({report.content_digest})",
            "rows in": report.rows_in,
            "rows ok": report.rows_ok,
            "quarantined": report.rows_quarantined,
            "cut": f"{report.rows_truncated} rows to what the model can read" if report.rows_truncated else None,
            "numbers": f"{report.precision}: {report.numerics}" if report.precision else None,
            "output": report.output,
            "errors": report.errors_url,
        }
    )
