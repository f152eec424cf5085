"""Commands that put a registry to the proof: its blobs, and its store."""

from __future__ import annotations

from dataclasses import asdict

from airflow_provider_hfreg.commands.replies import Asked, Reply
from airflow_provider_hfreg.commands.tables import size_text, table
from airflow_provider_hfreg.registry.verification import Verification
from airflow_provider_hfreg.versions.layout import ModelReference, parse_reference


def verify(asked: Asked) -> Reply:
    """Read every blob of some versions, or of all, and compare digests."""
    registry = asked.registry
    if not asked.options.references:
        return _reply(registry.verify())
    named = [parse_reference(text) for text in asked.options.references]
    whole = [reference.model_name for reference in named if _is_bare(reference)]
    versions = [registry.resolve(str(reference)) for reference in named if not _is_bare(reference)]
    return _reply(registry.verify(versions, models=[registry.get_model(name).name for name in whole]))


def _is_bare(reference: ModelReference) -> bool:
    """Tell whether a reference is a model's name alone, which means all its versions here."""
    return reference.version_name is None and reference.alias is None


def _reply(verification: Verification) -> Reply:
    looked = (
        f"{verification.versions} versions, {verification.blobs} blobs, {size_text(verification.size_bytes)} read: "
    )
    if not verification.damages:
        return Reply(verification.to_json(), f"{looked}all as they were stored.")
    rows = [(damage.location, damage.problem, list(damage.needed_by)) for damage in verification.damages]
    text = (
        f"{looked}{len(verification.damages)} damaged.\n\n{table(('blob', 'problem', 'needed by'), rows)}\n\n"
        "Restore these objects from the bucket's versions or a copy; or delete each from the store and log the same "
        "model again under the same name, which uploads it anew. A document, which is a model's head or a version's "
        "manifest, can only be restored."
    )
    return Reply(verification.to_json(), text, failed=True)


def probe(asked: Asked) -> Reply:
    """Try conditional writes."""
    registry = asked.registry
    result = registry.probe()
    text = (
        f"{registry.url} keeps conditional writes: of {result.writers} writers of one new key one won (If-None-Match), "
    )
    return Reply(asdict(result), text + "a stale ETag was refused and a fresh one accepted (If-Match).")
