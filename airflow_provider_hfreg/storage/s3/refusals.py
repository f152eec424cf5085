"""
What an S3 server's refusal means, as a decision without I/O: error code and HTTP status in, one of our errors out.

Servers disagree on codes (a missing bucket is ``NoSuchBucket``, or on HEAD a bare 404), so both are looked at. A
message names the URL, what was being done and what to do, and never a credential.
"""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_hfreg.errors import (
    BucketNotFoundError,
    CompareAndSwapLostError,
    ConditionalWritesUnsupportedError,
    ConflictError,
    HfregError,
    KeyExistsError,
    KeyNotFoundError,
    ObjectChangedError,
    StorageDeniedError,
    StorageError,
    StorageUnavailableError,
    StorageUrlError,
)

_DENIED = {
    "AccessDenied",
    "AllAccessDisabled",
    "AccountProblem",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
}
_BUSY = {"ConditionalRequestConflict", "OperationAborted", "RequestTimeout", "SlowDown", "ThrottlingException"}
_BAD_NAME = {"InvalidBucketName", "InvalidURI", "KeyTooLongError"}
_DAMAGED = {"BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"}
_WRONG_REGION = {"AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect"}


@dataclass(frozen=True)
class Refusal:
    """What the server answered, and to what."""

    code: str
    status: int
    message: str
    action: str  # a gerund for the message: "reading", "writing"
    url: str
    precondition: type[ConflictError] | None = None  # what a failed If-Match or If-None-Match means to this caller

    def __str__(self) -> str:
        said = f": {self.message}" if self.message else ""
        return f"{self.action.capitalize()} {self.url} failed ({self.code}, HTTP {self.status}{said})."


def error_of(refusal: Refusal) -> HfregError:
    """
    Return the error to raise.

    >>> type(error_of(Refusal("NoSuchKey", 404, "", "reading", "s3://b/k"))).__name__
    'KeyNotFoundError'
    >>> print(error_of(Refusal("SlowDown", 503, "Reduce your rate.", "writing", "s3://b/k")))
    Writing s3://b/k failed (SlowDown, HTTP 503: Reduce your rate.). The server is busy or unwell; try again later.
    """
    code, status = refusal.code, refusal.status
    if code == "NoSuchBucket":
        return bucket_not_found(refusal.url)
    if code in _DENIED or status in (401, 403):
        return StorageDeniedError(
            f"{refusal} The credentials are wrong or expired, or they do not permit this; check the connection, and "
            f"the policy of {bucket_url(refusal.url)}."
        )
    if code == "PreconditionFailed" or status == 412:
        return _precondition_failed(refusal)
    if code in _BUSY or status in (409, 429):
        return StorageUnavailableError(f"{refusal} The server is busy or unwell; try again later.")
    if code in _DAMAGED:
        return StorageUnavailableError(f"{refusal} The bytes were changed on their way; try again.")
    if code == "NotImplemented" or status == 501:
        return _unsupported(refusal)
    if status >= 500:
        return StorageUnavailableError(f"{refusal} The server is busy or unwell; try again later.")
    if status == 404:
        return KeyNotFoundError(f"There is no object {refusal.url}. Check the name, and whether it was deleted.")
    if code in _WRONG_REGION:
        return StorageError(f"{refusal} The bucket lives in another region or at another endpoint; set region_name.")
    if code in _BAD_NAME:
        return StorageUrlError(f"{refusal} The server does not accept this name.")
    return StorageError(f"{refusal} The server does not accept this request; check the URL and the endpoint.")


def bucket_not_found(url: str) -> BucketNotFoundError:
    """Return the error for a URL whose bucket is missing."""
    bucket = bucket_url(url)
    return BucketNotFoundError(
        f"The bucket {bucket} does not exist (needed for {url}). Create it (aws s3 mb {bucket}), or correct the URL."
    )


def bucket_url(url: str) -> str:
    """
    Return the bucket's part of an object's URL.

    >>> bucket_url("s3://models/prefix/head.json")
    's3://models'
    """
    return "/".join(url.split("/")[:3])


def _precondition_failed(refusal: Refusal) -> ConflictError:
    if refusal.precondition is KeyExistsError:
        return KeyExistsError(f"{refusal.url} exists already; nothing was changed.")
    if refusal.precondition is CompareAndSwapLostError:
        return CompareAndSwapLostError(
            f"{refusal.url} was changed by another writer since it was read. Read it again and repeat the change."
        )
    return ObjectChangedError(f"{refusal.url} was changed by another writer since it was seen. Read it again.")


def _unsupported(refusal: Refusal) -> StorageError:
    if refusal.precondition is None:
        return StorageError(f"{refusal} The server lacks this operation; use another S3 server.")
    return ConditionalWritesUnsupportedError(
        f"{refusal} The server lacks conditional writes, without which two writers can both believe they won; use a "
        "server that has them (AWS S3, SeaweedFS from 4.48, MinIO, Ceph from Squid), or a folder (file://)."
    )
