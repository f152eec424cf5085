"""A request made concrete, and why it is refused: the last step before anything is written, and all of it reading."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from airflow_provider_hfreg.errors import (
    InputChangedError,
    InvalidRunOptionError,
    OutputExistsError,
)
from airflow_provider_hfreg.pipelines.catalog import find_column_task
from airflow_provider_hfreg.runs import layout, outputs
from airflow_provider_hfreg.runs.decide import Action, Decision
from airflow_provider_hfreg.runs.inputs import InputFile, is_hidden, is_listed, list_input
from airflow_provider_hfreg.runs.progress import Log
from airflow_provider_hfreg.runs.spec import BatchRequest, Fingerprint, check_request
from airflow_provider_hfreg.signatures.params import check_params
from airflow_provider_hfreg.storage.base import ObjectStore
from airflow_provider_hfreg.storage.urls import open_store, split_glob

if TYPE_CHECKING:
    from airflow_provider_hfreg.registry.version import ModelVersion
    from airflow_provider_hfreg.storage.settings import S3Settings

_ANY_RUN = "0123456789-0123456789"  # a part's name matches what it matches, whatever the run


@dataclass(frozen=True)
class Ask:
    """A request made concrete: checked, its stores opened, its files listed."""

    request: BatchRequest
    version: ModelVersion
    identity: str
    registry_url: str
    inputs: ObjectStore
    output: ObjectStore
    files: tuple[InputFile, ...]
    rerun: bool
    log: Log

    @property
    def fingerprint(self) -> Fingerprint:
        """What the results depend on."""
        return Fingerprint.of(self.version.content_digest, self.request, self.files)


def prepare(
    request: BatchRequest,
    *,
    version: ModelVersion,
    identity: str,
    registry_url: str,
    s3: S3Settings | None,
    rerun: bool,
    log: Log,
) -> Ask:
    """
    Check a request, open its stores and list its files.

    :raises HfregError: see :func:`~airflow_provider_hfreg.runs.batch.run_batch`.
    """
    check_request(request)
    _check_budget(request, version)
    signature = version.signature(request.function_name)
    params = check_params(request.params, signature.params, f"{version.model_name}/{version.version_name}")
    root, key = split_glob(request.input)
    inputs, output = open_store(root, s3), open_store(request.output, s3)
    _check_apart(inputs, key, output)
    return Ask(
        request=replace(request, params=params),
        version=version,
        identity=identity,
        registry_url=registry_url,
        inputs=inputs,
        output=output,
        files=tuple(list_input(inputs, key)),
        rerun=rerun,
        log=log,
    )


def _check_budget(request: BatchRequest, version: ModelVersion) -> None:
    method = version.manifest.function(request.function_name).target_method
    if request.token_budget is not None and find_column_task(version.task, method) is None:
        raise InvalidRunOptionError(
            f"token_budget is {request.token_budget}, and {method!r} of {version.reference} is called with rows whose "
            "tokens nobody here counts. Leave it out; a parameter batch_size in the function's signature says how many "
            "rows make a call."
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
