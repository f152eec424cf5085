"""
Making a version visible: everything first, then one conditional put, which is the commit.

The order, and why:

1. The name is looked at first: with other content, or deleted, it is refused before anything is uploaded. A version
   that exists with this very content is success, after a look at each of its blobs: one that is gone is uploaded again.
   So logging again heals a version, and moves no byte of a whole one.
2. Blobs, each looked for before it is sent. A crash leaves blobs that nobody names: harmless, and reused by the next
   attempt.
3. Their sizes, read back.
4. The manifest, if absent. It holds the tags, metrics and comment given at logging, so there is no moment, and no
   crash, that shows a version without them.

Step 4 has one winner. Who meets a manifest there reads it: his own nonce means that the answer to his own put was lost,
equal content that a twin was faster; both are success. Anything else is :class:`VersionExistsError`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from airflow_provider_hfreg.errors import (
    HfregError,
    KeyExistsError,
    KeyNotFoundError,
    PublishStateUnknownError,
    StorageUnavailableError,
    UnknownFormatError,
    VersionExistsError,
)
from airflow_provider_hfreg.storage.base import ObjectStore
from airflow_provider_hfreg.versions.layout import Layout
from airflow_provider_hfreg.versions.manifest import Manifest
from airflow_provider_hfreg.versions.refs import Head
from airflow_provider_hfreg.versions.swap import read

_PUT_ATTEMPTS = 3  # on top of the client's own retries
_PAUSE_S = 0.2


@dataclass(frozen=True)
class Published:
    """
    A version that is visible.

    :param manifest: as stored: the twin's where a twin was faster.
    :param created: this call made it visible; False where the very same content was there.
    """

    manifest: Manifest
    created: bool


def find_manifest(store: ObjectStore, model_name: str, version_name: str) -> Manifest | None:
    """
    Return a version's manifest, deleted or not, or None.

    :raises UnknownFormatError: the document there is no manifest, or that of another version.
    """
    key = Layout.manifest(model_name, version_name)
    try:
        manifest = Manifest.from_bytes(store.get(key), store.location(key))
    except KeyNotFoundError:
        return None
    if (manifest.model_name, manifest.version_name) != (model_name, version_name):
        raise UnknownFormatError(
            f"{store.location(key)} says that it is {manifest.model_name}/{manifest.version_name}: a manifest was "
            f"copied over, or to, the place of {model_name}/{version_name}. Restore the object from the bucket's "
            "versions, or delete it if it was never logged there."
        )
    return manifest


def publish(store: ObjectStore, manifest: Manifest, upload: Callable[[], None]) -> Published:
    """
    Make a version visible, exactly once.

    :param manifest: complete; its files hashed, not yet uploaded.
    :param upload: stores those of the manifest's blobs that are not stored, and verifies them.
    :raises VersionExistsError: the name holds other content, or was deleted.
    :raises PublishStateUnknownError: the commit's answer was lost and could not be asked for; logging again settles it.
    """
    _check_not_deleted(store, manifest)
    existing = find_manifest(store, manifest.model_name, manifest.version_name)
    if existing is not None:
        published = _judge(existing, manifest)
        upload()  # what the store has lost since; nothing for a whole version
        return published
    upload()
    return _commit(store, manifest)


def _check_not_deleted(store: ObjectStore, manifest: Manifest) -> None:
    head = read(store, Layout.head(manifest.model_name), Head.from_plain, Head())
    if when := head.tombstones.get(manifest.version_name):
        raise VersionExistsError(
            f"Version {manifest.version_name!r} of model {manifest.model_name!r} was deleted at {when}; its name is "
            "not used again, so that what refers to it never means something else. Choose another version name."
        )


def _commit(store: ObjectStore, manifest: Manifest) -> Published:
    key = Layout.manifest(manifest.model_name, manifest.version_name)
    lost: StorageUnavailableError | None = None
    for attempt in range(_PUT_ATTEMPTS):
        try:
            store.put_if_absent(key, manifest.to_bytes())
        except KeyExistsError:
            return _judge(_read_back(store, manifest), manifest)
        except StorageUnavailableError as error:
            lost = error  # putting again is safe: the same bytes under the same condition
            time.sleep(_PAUSE_S * 2**attempt)
        else:
            return Published(manifest, created=True)
    # The last put may have been done after all.
    return _judge(_read_back(store, manifest, lost), manifest)


def _read_back(store: ObjectStore, manifest: Manifest, lost: HfregError | None = None) -> Manifest:
    """
    Return the manifest that is there under the name.

    :param lost: the error in place of the put's answer.
    """
    try:
        existing = find_manifest(store, manifest.model_name, manifest.version_name)
    except StorageUnavailableError as error:
        raise _unknown(store, manifest) from error
    if existing is None:
        raise _unknown(store, manifest) from lost
    return existing


def _unknown(store: ObjectStore, manifest: Manifest) -> PublishStateUnknownError:
    key = Layout.manifest(manifest.model_name, manifest.version_name)
    return PublishStateUnknownError(
        f"{store.location(key)} was written and the store gave no answer, nor could it be asked. The version is there "
        "whole, or not at all. Log the same model under the same name again: that is safe and settles it."
    )


def _judge(existing: Manifest, manifest: Manifest) -> Published:
    """
    Decide what an existing manifest means for the one that was to be published.

    :raises VersionExistsError: it is somebody else's.
    """
    if existing.nonce == manifest.nonce:
        return Published(existing, created=True)
    if existing.content_digest == manifest.content_digest:
        return Published(existing, created=False)
    who = ", ".join(f"{key} {value}" for key, value in existing.logged_by.items()) or "an unknown writer"
    raise VersionExistsError(
        f"Version {manifest.version_name!r} of model {manifest.model_name!r} exists with other content: logged at "
        f"{existing.created} by {who}, digest {existing.content_digest[:19]}…; yours has "
        f"{manifest.content_digest[:19]}…. Versions never change: choose another version name, or give none to have "
        "one made."
    )
