"""
The document at a registry's root: its format version, and the proof that its store keeps conditional writes.

The store is tried on the first write below a prefix and never again. Reading an empty prefix writes nothing, so a
reader needs no permission to write.
"""

from __future__ import annotations

from dataclasses import asdict

from airflow_provider_hfreg.errors import KeyExistsError, KeyNotFoundError
from airflow_provider_hfreg.storage.base import ObjectStore
from airflow_provider_hfreg.storage.probe import probe_conditional_writes
from airflow_provider_hfreg.versions.documents import document_json, read_document
from airflow_provider_hfreg.versions.layout import Layout


def check_format(store: ObjectStore) -> bool:
    """
    Tell whether a registry was begun below the store's root.

    :raises UnknownFormatError: by a newer version of this package, or something else lies there.
    """
    try:
        content = store.get(Layout.FORMAT)
    except KeyNotFoundError:
        return False
    read_document(content, store.location(Layout.FORMAT))
    return True


def ensure_format(store: ObjectStore, *, created: str) -> None:
    """
    Begin a registry below the store's root, unless that was done.

    :param created: ISO 8601.
    :raises ConditionalWritesUnsupportedError: two loggers could both win on this store; nothing is left behind.
    """
    if check_format(store):
        return
    probe = asdict(probe_conditional_writes(store))
    try:
        store.put_if_absent(Layout.FORMAT, document_json({"created": created, "probe": probe}))
    except KeyExistsError:
        check_format(store)  # another first writer was faster
