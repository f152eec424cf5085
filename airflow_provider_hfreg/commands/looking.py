"""Commands that only look: models, versions, one version, search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_hfreg.commands.replies import Asked, Reply
from airflow_provider_hfreg.commands.tables import facts, size_text, table
from airflow_provider_hfreg.registry.search import make_query

if TYPE_CHECKING:
    from airflow_provider_hfreg.registry.summaries import VersionSummary
    from airflow_provider_hfreg.registry.version import ModelVersion
    from airflow_provider_hfreg.runs.uses import Uses
    from airflow_provider_hfreg.signatures.signature import ModelSignature

_MODEL_COLUMNS = ("model", "versions", "default", "aliases", "metrics", "tags", "last logged", "comment")
_VERSION_COLUMNS = ("version", "logged", "task", "aliases", "metrics", "tags", "size", "comment")


def models(asked: Asked) -> Reply:
    """List the models."""
    found = [summary.plain() for summary in asked.registry.model_summaries()]
    if not found:
        return Reply([], f"No model in {asked.registry.url}. Log one, or check the registry's URL.")
    rows = [
        (
            model["name"],
            model["versions"],
            model["default_version_name"],
            {f"@{alias}": version for alias, version in sorted(model["aliases"].items())},
            model["metrics"],
            model["tags"],
            when_text(model["last_logged"]),
            model["comment"],
        )
        for model in found
    ]
    return Reply(found, table(_MODEL_COLUMNS, rows))


def versions(asked: Asked) -> Reply:
    """List the versions of a model."""
    found = asked.registry.get_model(asked.options.model).summaries()
    rows = [(summary.manifest.version_name, *_row(summary)) for summary in found]
    return Reply([summary.plain() for summary in found], table(_VERSION_COLUMNS, rows))


def search(asked: Asked) -> Reply:
    """Find versions."""
    options = asked.options
    query = make_query(task=options.task, tags=dict(options.tag), metrics=options.metric, models=options.models)
    found = asked.registry.search_summaries(query)
    plain = [{"model_name": summary.manifest.model_name, **summary.plain()} for summary in found]
    if not found:
        return Reply([], "No version fits.")
    rows = [(summary.manifest.reference, *_row(summary)) for summary in found]
    return Reply(plain, table(_VERSION_COLUMNS, rows))


def show(asked: Asked) -> Reply:
    """Show one version."""
    version = asked.registry.resolve(asked.options.reference)
    plain = described(version, asked.registry.get_model(version.model_name).pointers_to(version.version_name))
    uses = _uses(asked, version)
    text = _shown(plain, version) if uses is None else f"{_shown(plain, version)}\n\n{_uses_text(uses)}"
    return Reply(plain if uses is None else plain | {"used_by": _plain_uses(uses), "runs_looked_at": uses.runs}, text)


def described(version: ModelVersion, pointers: Sequence[str]) -> dict[str, Any]:
    """
    Return what there is to say about a version, as JSON values.

    :param pointers: the aliases that point to it, the system's among them.
    """
    annotations, manifest = version.annotations(), version.manifest
    return {
        "reference": version.reference,
        "registry": version.registry_url,
        "content_digest": version.content_digest,
        "created": manifest.created,
        "task": version.task,
        "architecture": version.spec.architecture,
        "parameter_count": version.spec.parameter_count,
        "dtype": version.spec.dtype,
        "pipeline_parameters": dict(version.spec.parameters),
        "options": dict(manifest.options),
        "remote_code": version.spec.remote_code,
        "code_digest": manifest.code_digest,
        "aliases": list(pointers),
        "tags": dict(annotations.tags),
        "metrics": dict(annotations.metrics),
        "comment": annotations.comment,
        "functions": [function.to_json() for function in manifest.functions],
        "files": [file.to_json() for file in manifest.files],
        "size_bytes": manifest.size_bytes,
        "lineage": version.lineage().to_json(),
    }


def when_text(moment: str) -> str:
    """
    Return a time for people, to the second.

    >>> when_text("2026-01-02T04:57:01.599226Z")
    '2026-01-02 04:57:01 UTC'
    """
    return f"{moment[:10]} {moment[11:19]} UTC"


def _row(summary: VersionSummary) -> tuple[Any, ...]:
    aliases = [*(["DEFAULT"] if summary.is_default else []), *summary.aliases]
    return (
        when_text(summary.manifest.created),
        summary.manifest.spec.task,
        [f"@{alias}" for alias in aliases],
        summary.annotations.metrics,
        summary.annotations.tags,
        size_text(summary.manifest.size_bytes),
        summary.annotations.comment,
    )


def _shown(plain: Mapping[str, Any], version: ModelVersion) -> str:
    lineage = plain["lineage"]
    head = facts(
        {
            "version": plain["reference"],
            "digest": plain["content_digest"],
            "registry": plain["registry"],
            "logged": when_text(plain["created"]),
            "by": lineage["logged_by"],
            "aliases": [f"@{alias}" for alias in plain["aliases"]],
            "comment": plain["comment"],
            "tags": plain["tags"],
            "metrics": plain["metrics"],
            "task": plain["task"],
            "parameters": plain["pipeline_parameters"],
            "network": _network(plain),
            "options": plain["options"],
            "source": lineage["source"],
            "trained on": lineage["training_data"],
            "lineage": lineage["further"],
            "copied from": "\n".join(map(_origin, lineage["copied_from"])),
            "logged with": lineage["environment"],
        }
    )
    functions = "\n".join(_signed(function.name, function.signature) for function in version.manifest.functions)
    files = table(
        ("file", "size", "digest"),
        [(file.path, size_text(file.size_bytes), file.digest) for file in version.manifest.files],
    )
    return f"{head}\n\n{functions}\n\n{files}"


def _network(plain: Mapping[str, Any]) -> str:
    count = plain["parameter_count"]
    told = [plain["architecture"], f"{count:,} parameters" if count else None, plain["dtype"]]
    code = plain["code_digest"] or "none of which it holds"
    remote = [f"runs Python files of its own ({code})"] if plain["remote_code"] else []
    return ", ".join([text for text in told if text] + remote)


def _signed(name: str, signature: ModelSignature) -> str:
    params = [f"{param.name}={param.default_value!r}" for param in signature.params]
    return facts(
        {
            "function": name,
            "  in": [_column(feature.to_json()) for feature in signature.inputs],
            "  out": [_column(feature.to_json()) for feature in signature.outputs],
            "  parameters": params,
        }
    )


def _column(feature: Mapping[str, Any]) -> str:
    """
    Return a column with its type, and its shape if it holds lists.

    >>> _column({"name": "labels", "dtype": "STRING", "shape": [-1]})
    'labels STRING[-1]'
    """
    shape = feature.get("shape")
    return f"{feature['name']} {feature['dtype']}" + (f"[{','.join(map(str, shape))}]" if shape else "")


def _origin(origin: Mapping[str, Any]) -> str:
    place = origin["registry"] or "an exported folder"
    return f"{origin['model_name']}/{origin['version_name']} of {when_text(origin['created'])} in {place}"


def _uses(asked: Asked, version: ModelVersion) -> Uses | None:
    """Return the batch runs that used a version, or None if nobody asked."""
    if not asked.options.used_in:
        return None
    from airflow_provider_hfreg.commands.places import url_of  # noqa: PLC0415 - only here
    from airflow_provider_hfreg.runs.uses import Uses, find_uses  # noqa: PLC0415 - only here

    folders = map(url_of, asked.options.used_in)
    looked = [find_uses(version.content_digest, folder, s3=asked.place.s3) for folder in folders]
    return Uses(sum(uses.runs for uses in looked), tuple(use for uses in looked for use in uses.found))


def _plain_uses(uses: Uses) -> list[dict[str, Any]]:
    return [use.to_json() for use in uses.found]


def _uses_text(uses: Uses) -> str:
    if not uses.found:
        return f"None of the {uses.runs} batch run(s) there used it."
    columns = ("used by run", "as", "rows", "finished", "input", "output")
    rows = [
        (use["batch_run_id"], use["reference"], use["rows"], use["is_finished"], use["input"], use["output"])
        for use in _plain_uses(uses)
    ]
    return table(columns, rows)
