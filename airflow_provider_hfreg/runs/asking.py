"""
A request made concrete, and why it is refused: the last step before a run exists.

All of it is reading, but for rows that no file holds: those are staged here, when nothing else can be refused. Before a
query reads a table, also whoever is to execute the run is asked whether it can.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from airflow_provider_hfreg.errors import (
    InputChangedError,
    InvalidRunOptionError,
    OutputExistsError,
)
from airflow_provider_hfreg.pipelines.catalog import find_column_task
from airflow_provider_hfreg.pipelines.precisions import find_precision
from airflow_provider_hfreg.runs import layout, outputs
from airflow_provider_hfreg.runs.decide import Action, Decision, decide
from airflow_provider_hfreg.runs.inputs import InputFile, is_hidden, is_listed, list_input
from airflow_provider_hfreg.runs.progress import Log
from airflow_provider_hfreg.runs.row_sources import RowSource
from airflow_provider_hfreg.runs.spec import BatchRequest, Fingerprint, check_request, identity_prefix
from airflow_provider_hfreg.runs.staging import Staged, find_staged, stage
from airflow_provider_hfreg.signatures.params import check_params
from airflow_provider_hfreg.storage.base import ObjectStore
from airflow_provider_hfreg.storage.probe import probe_conditional_writes
from airflow_provider_hfreg.storage.urls import open_store, split_glob

if TYPE_CHECKING:
    from airflow_provider_hfreg.registry.version import ModelVersion
    from airflow_provider_hfreg.runs.execution import Execution
    from airflow_provider_hfreg.storage.settings import S3Settings

_ANY_RUN = "0123456789-0123456789"  # a part's name matches what it matches, whatever the run


@dataclass(frozen=True)
class Ask:
    """
    A request made concrete: checked, its stores opened, its files listed or staged.

    :param fingerprint: what the results depend on.
    """

    request: BatchRequest
    version: ModelVersion
    identity: str
    registry_url: str
    inputs: ObjectStore
    output: ObjectStore
    files: tuple[InputFile, ...]
    fingerprint: Fingerprint
    rerun: bool
    log: Log


def prepare(
    request: BatchRequest,
    *,
    version: ModelVersion,
    identity: str,
    registry_url: str,
    s3: S3Settings | None,
    rerun: bool,
    log: Log,
    source: RowSource | None = None,
    execution: Execution | None = None,
) -> Ask:
    """
    Check a request, open its stores, and list its files or stage its rows.

    :param source: of the rows, in place of files; the request's ``input`` is empty then.
    :param execution: of the run to be; asked before rows are staged whether it can. None: nobody is asked.
    :raises HfregError: see :func:`~airflow_provider_hfreg.runs.batch.run_batch`.
    """
    request = _for_version(check_request(request if source is None else _for_source(request, source)), version)
    _check_by_columns(request, version)
    signature = version.signature(request.function_name)
    params = check_params(request.params, signature.params, f"{version.model_name}/{version.version_name}")
    request = replace(request, params=params)
    output = open_store(request.output, s3)
    inputs, files = (output, ()) if source is not None else _listed(request, output, s3)
    ask = Ask(
        request=request,
        version=version,
        identity=identity,
        registry_url=registry_url,
        inputs=inputs,
        output=output,
        files=files,
        fingerprint=Fingerprint.of(version.content_digest, request, files),
        rerun=rerun,
        log=log,
    )
    return ask if source is None else _with_rows(ask, source, execution)


def _listed(
    request: BatchRequest, output: ObjectStore, s3: S3Settings | None
) -> tuple[ObjectStore, tuple[InputFile, ...]]:
    root, key = split_glob(request.input)
    inputs = open_store(root, s3)
    _check_apart(inputs, key, output)
    return inputs, tuple(list_input(inputs, key))


def _for_source(request: BatchRequest, source: RowSource) -> BatchRequest:
    """Return the request with what stands for its input: not where the rows lie, but what was asked for."""
    options = (("input", ""), ("input_format", None), ("hive_partitioning", None))
    given = [name for name, absent in options if getattr(request, name) != absent]
    if given:
        raise InvalidRunOptionError(
            f"{given[0]} is given, and the input is {source.what}, which no file holds. Leave one of them out."
        )
    return replace(request, input=f"staged:{source.question}", hive_partitioning=False)


def _with_rows(ask: Ask, source: RowSource, execution: Execution | None) -> Ask:
    """
    Return the ask with the rows that were staged for it, staging them where there are none.

    The output folder is looked at first: what is refused whatever the rows are is refused before they are read.
    """
    found = find_staged(ask.output, identity_prefix(ask.identity), source.question)
    told = _with_staged(ask, found.staged) if found.staged else ask
    decision = decided(told)
    refuse(decision, told)
    is_lost = ask.rerun and decision.action is Action.RESUME and not found.is_whole and _needs_rows(decision, ask)
    if found.staged is not None and not is_lost and (found.is_whole or decision.action is not Action.BEGIN):
        ask.log.info("staged before: %d rows of %s, read at %s", found.staged.rows, source.what, found.staged.staged_at)
        return told
    if execution is not None:
        execution.check_ahead(ask)
    if is_lost:  # nobody can go on without the rows
        outputs.abandon(ask.output, [decision.batch_run_id], successor=None)
    probe_conditional_writes(ask.output, layout.RUNS_FOLDER)
    return _with_staged(ask, stage(source, ask.output, found.next_folder, log=ask.log))


def _needs_rows(decision: Decision, ask: Ask) -> bool:
    """Tell whether a run cannot be finished without its rows; they go a step before the report is written."""
    if not outputs.is_readable(ask.output, decision.batch_run_id):
        return True
    return bool(outputs.missing_parts(ask.output, outputs.read_document(ask.output, decision.batch_run_id)))


def _with_staged(ask: Ask, staged: Staged) -> Ask:
    return replace(
        ask,
        request=replace(ask.request, input=ask.output.location(staged.folder)),
        files=staged.files,
        fingerprint=Fingerprint.of(ask.version.content_digest, ask.request, staged.content),
    )


def decided(ask: Ask) -> Decision:
    """Look at the output folder and decide what is to be done."""
    state = outputs.look(ask.output, own_prefix=identity_prefix(ask.identity))
    return decide(ask.identity, ask.fingerprint, state, if_output_exists=ask.request.if_output_exists, rerun=ask.rerun)


def _for_version(request: BatchRequest, version: ModelVersion) -> BatchRequest:
    """Return the request without what changes nothing for this version, so that it is the same run with and without."""
    precision = find_precision(request.precision)
    return replace(
        request,
        precision=None if precision == version.spec.dtype else precision,
        trust_remote_code=request.trust_remote_code and version.spec.remote_code,
    )


def _check_by_columns(request: BatchRequest, version: ModelVersion) -> None:
    """Refuse what only a task that is run by columns can be told."""
    method = version.manifest.function(request.function_name).target_method
    if find_column_task(version.task, method) is not None:
        return
    if request.token_budget is not None:
        raise InvalidRunOptionError(
            f"token_budget is {request.token_budget}, and {method!r} of {version.reference} is called with rows whose "
            "tokens nobody here counts. Leave it out; a parameter batch_size in the function's signature says how many "
            "rows make a call."
        )
    if request.precision is not None:
        raise InvalidRunOptionError(
            f"precision is {request.precision}, and {method!r} of {version.reference} is a method with a signature of "
            f"its own: it computes in the {version.spec.dtype} that it was logged with. Leave it out."
        )


def _check_apart(inputs: ObjectStore, key: str, output: ObjectStore) -> None:
    below = output.url.removeprefix(f"{inputs.url.rstrip('/')}/")
    if below != output.url or output.url == inputs.url:
        part = layout.part_key(0, _ANY_RUN) if below == output.url else f"{below}/{layout.part_key(0, _ANY_RUN)}"
        if not is_hidden(part) and is_listed(key, part):
            raise InvalidRunOptionError(
                f"The output folder {output.url} lies inside the input {inputs.location(key)}: the next try would read "
                "this run's own output as input. Give the output a folder of its own."
            )


def refuse(decision: Decision, ask: Ask) -> None:
    """Raise if the decision is a refusal."""
    if decision.action is Action.REFUSE_CHANGED:
        earlier = outputs.read_document(ask.output, decision.batch_run_id)
        what = " and ".join(ask.fingerprint.differences(earlier.fingerprint))
        raise InputChangedError(
            f"This task's run {decision.batch_run_id} in {ask.output.url} is unfinished, and {what} changed since it "
            "began. Rows of two states must not mix: bring back what changed and run again to finish it, or set "
            "rerun=True to abandon it and begin anew."
        )
    if decision.action is Action.REFUSE_OUTPUT:
        raise OutputExistsError(_output_in_use(decision, ask))


def _output_in_use(decision: Decision, ask: Ask) -> str:
    more = f" and {len(decision.blocking) - 1} more" if len(decision.blocking) > 1 else ""
    what = f"The output folder {ask.output.url} holds {decision.blocking[0]}{more}"
    if ask.request.if_output_exists == "replace":
        return (
            f"{what}, which no batch run wrote; 'replace' removes only what batch runs wrote. Give the run a folder of "
            "its own, or remove them."
        )
    return (
        f"{what}, which this run did not write. Give the run a folder of its own, or set if_output_exists to 'replace' "
        "(earlier runs' parts go when this run is complete) or to 'append' (they stay beside each other)."
    )
