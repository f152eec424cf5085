"""Commands that delete: a version or a model, and what nobody needs any more. Without ``--yes`` they only tell."""

from __future__ import annotations

from functools import partial
from typing import Protocol

from airflow_provider_hfreg.commands.replies import Asked, Reply
from airflow_provider_hfreg.commands.tables import facts, size_text, table
from airflow_provider_hfreg.errors import ModelReferenceError, VersionInUseError
from airflow_provider_hfreg.versions.garbage import GarbageReport
from airflow_provider_hfreg.versions.layout import parse_reference

_NOT_DONE = "Nothing was deleted. Give --yes to do it."
_FREED_LATER = "Its files stay until `gc` frees what no other version holds."


def delete(asked: Asked) -> Reply:
    """Delete a version, or with ``--all-versions`` a model."""
    reference = parse_reference(asked.options.reference)
    model = asked.registry.get_model(reference.model_name)
    if reference.alias is not None or (reference.version_name is None) != asked.options.all_versions:
        raise ModelReferenceError(
            f"{asked.options.reference!r} is not deleted: name one version, MODEL/VERSION (an alias may be moved at "
            "this moment), or a MODEL with --all-versions."
        )
    if reference.version_name is None:
        return _deleted(asked, model.version_names(), model.name, model.delete)
    name = reference.version_name  # it is not looked into: a damaged one is deleted, too
    return _deleted(asked, [name], f"{model.name}/{name}", partial(model.delete_version, name))


class _Delete(Protocol):
    """Deletes, or with ``dry_run`` only raises what deleting would raise."""

    def __call__(self, *, dry_run: bool) -> object: ...


def _deleted(asked: Asked, names: list[str], what: str, delete: _Delete) -> Reply:
    plain = {"reference": what, "versions": names, "deleted": asked.options.yes}
    counted = f"{what} ({len(names)} version(s))"
    if asked.options.yes:
        delete(dry_run=False)
        return Reply(plain, f"Deleted {counted}; the name is not used again.\n{_FREED_LATER}")
    refusal = _refusal(delete)
    plain |= {"refused": refusal}
    if refusal is not None:
        return Reply(plain, f"Would refuse to delete {counted}: {refusal}\nNothing was deleted.")
    return Reply(plain, f"Would delete {counted}: {', '.join(names)}.\n{_NOT_DONE}")


def _refusal(delete: _Delete) -> str | None:
    """Return why deleting is refused at this moment, or None."""
    try:
        delete(dry_run=True)
    except VersionInUseError as error:
        return str(error)
    return None


def gc(asked: Asked) -> Reply:
    """Free what no version needs."""
    report = asked.registry.collect_garbage(dry_run=not asked.options.yes)
    return Reply(report.to_json(), _collected(report))


def _collected(report: GarbageReport) -> str:
    done = "Would free" if report.dry_run else "Freed"
    counted = f"{done} {size_text(report.size_bytes)} in {len(report.blobs)} blob(s)."
    blobs = table(("blob", "size"), [(key, size_text(size)) for key, size in sorted(report.blobs.items())])
    more = facts(
        {
            "deleted versions": list(report.deleted_versions),
            "spared for writers": f"{report.leased} blob(s)" if report.leased else None,
            "leases of dead writers": list(report.leases),
            "markers of dead collectors": list(report.markers),
            "not ours, left alone": list(report.strange),
            "not complete": None if report.is_complete else "the time ran out; the next collection goes on",
        }
    )
    last = _NOT_DONE if report.dry_run else ""
    return "\n\n".join(part for part in (counted, blobs if report.blobs else "", more, last) if part)
