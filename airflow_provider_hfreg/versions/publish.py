"""
Making a version visible: everything first, then one conditional put, which is the commit.

The order, and why:

1. The name is looked at first: with other content, or deleted, it is refused before anything is uploaded. A version
   that exists with this very content is success, after a look at each of its blobs: one that is gone is uploaded again.
   So logging again heals a version, and moves no byte of a whole one. Its manifest protects its blobs: no lease.
2. A lease on all digests, before any blob is looked for; from here on no collector deletes what is relied upon.
3. The condemned digests, then the blobs: what is there is reused, what is missing or condemned is uploaded. A crash
   leaves blobs that nobody names: harmless, reused by the next attempt, and at last collected.
4. Their sizes and digests, read back.
5. The manifest, if absent, unless the lease has lapsed. It holds the tags, metrics and comment given at logging, so
   there is no moment, and no crash, that shows a version without them.
6. The head again: somebody may have published and deleted this name since step 1, and a collector removed its manifest.
   Tombstones are for ever, so a version of such a name was never visible, and its writer is told.

Step 5 has one winner. Who meets a manifest there reads it: his own nonce means that the answer to his own put was lost,
equal content that a twin was faster; both are success. Anything else is :class:`VersionExistsError`.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace

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
from airflow_provider_hfreg.versions.blobs import check_stored, find_missing, place
from airflow_provider_hfreg.versions.layout import Layout
from airflow_provider_hfreg.versions.leases import Lease
from airflow_provider_hfreg.versions.manifest import Manifest, VersionFile
from airflow_provider_hfreg.versions.refs import Head
from airflow_provider_hfreg.versions.swap import read
from airflow_provider_hfreg.versions.terms import Terms, terms_of

_PUT_ATTEMPTS = 3  # on top of the client's own retries
_PAUSE_S = 0.2

_log = logging.getLogger(__name__)

Upload = Callable[[tuple[VersionFile, ...]], None]


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


def publish(store: ObjectStore, manifest: Manifest, upload: Upload, *, terms: Terms | None = None) -> Published:
    """
    Make a version visible, exactly once.

    :param manifest: complete; its files hashed, not yet uploaded. The keys of its files are decided here.
    :param upload: is given files that are not stored, and stores each under its key; what the store then shows of
        them is checked here.
    :param terms: how long the lease is good; default: a quarter of an hour, or longer where the store's requests may
        last longer.
    :raises VersionExistsError: the name holds other content, or was deleted.
    :raises LeaseLapsedError: the store did not take a renewal of the lease in time; nothing was published.
    :raises PublishStateUnknownError: the commit's answer was lost and could not be asked for; logging again settles it.
    """
    _check_not_deleted(store, manifest)
    existing = find_manifest(store, manifest.model_name, manifest.version_name)
    if existing is None:
        published = _publish_new(store, manifest, upload, terms or terms_of(store))
    else:
        published = _judge(existing, manifest)
        _upload_missing(store, existing.files, find_missing(store, existing.files), upload)
    _check_not_deleted(store, manifest)
    return published


def _publish_new(store: ObjectStore, manifest: Manifest, upload: Upload, terms: Terms) -> Published:
    transaction = uuid.uuid4().hex
    digests = [file.digest for file in manifest.files]
    with Lease(store, transaction, digests, terms.lease_s) as lease:
        placement = place(store, manifest.files, generation=transaction[:16])
        _upload_missing(store, placement.files, placement.missing, upload)
        return _commit(store, replace(manifest, files=placement.files), lease)


def _upload_missing(
    store: ObjectStore, files: tuple[VersionFile, ...], missing: tuple[VersionFile, ...], upload: Upload
) -> None:
    if missing:
        upload(missing)
        check_stored(store, missing)
    size_bytes = sum(file.size_bytes for file in missing)
    _log.info(
        "Uploaded %d of %d files, %s; the others were stored.", len(missing), len(files), f"{size_bytes / 1e6:,.1f} MB"
    )


def _check_not_deleted(store: ObjectStore, manifest: Manifest) -> None:
    head = read(store, Layout.head(manifest.model_name), Head.from_plain, Head())
    if when := head.tombstones.get(manifest.version_name):
        raise VersionExistsError(
            f"Version {manifest.version_name!r} of model {manifest.model_name!r} was deleted at {when}; its name is "
            "not used again, so that what refers to it never means something else. Choose another version name."
        )


def _commit(store: ObjectStore, manifest: Manifest, lease: Lease) -> Published:
    key = Layout.manifest(manifest.model_name, manifest.version_name)
    lost: StorageUnavailableError | None = None
    for attempt in range(_PUT_ATTEMPTS):
        if attempt and not lease.is_good:
            break  # an earlier put may have been done: not a lapsed lease is to be told, but what is there
        lease.check()
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
