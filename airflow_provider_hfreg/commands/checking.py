"""Commands that put a registry to the proof: its blobs, and its store."""

from __future__ import annotations

from dataclasses import asdict

from airflow_provider_hfreg.commands.replies import Asked, Reply
from airflow_provider_hfreg.commands.tables import size_text, table
from airflow_provider_hfreg.registry.registry import Registry
from airflow_provider_hfreg.registry.verification import Verification
from airflow_provider_hfreg.registry.version import ModelVersion
from airflow_provider_hfreg.storage.probe import probe_conditional_writes
from airflow_provider_hfreg.storage.read_only import ReadOnlyStore
from airflow_provider_hfreg.storage.urls import open_store
from airflow_provider_hfreg.versions.layout import parse_reference


def verify(asked: Asked) -> Reply:
    """Read every blob of some versions, or of all, and compare digests."""
    references = asked.options.references
    chosen = [version for text in references for version in _versions(asked.registry, text)]
    return _reply(asked.registry.verify(chosen if references else None))


def _versions(registry: Registry, text: str) -> list[ModelVersion]:
    """Return the versions that a reference means here, where a bare name is all versions of the model."""
    reference = parse_reference(text)
    if reference.version_name is None and reference.alias is None:
        return registry.get_model(reference.model_name).versions()
    return [registry.resolve(text)]


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
        "model again under the same name, which uploads it anew."
    )
    return Reply(verification.to_json(), text, failed=True)


def probe(asked: Asked) -> Reply:
    """Try conditional writes."""
    place = asked.place
    store = open_store(place.url, place.s3)
    if place.read_only:
        store = ReadOnlyStore(store)  # trying writes is writing
    result = probe_conditional_writes(store)
    text = f"{store.url} keeps conditional writes: of {result.writers} writers of one new key one won (If-None-Match), "
    return Reply(asdict(result), text + "a stale ETag was refused and a fresh one accepted (If-Match).")
