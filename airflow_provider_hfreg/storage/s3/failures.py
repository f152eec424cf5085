"""
From boto3's exceptions to ours; and what to do about 409.

An exception is either a refusal (the server answered; see :mod:`.refusals`) or a request that got no answer or was
never sent.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from boto3.exceptions import Boto3Error
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)
from botocore.exceptions import ConnectionError as NoConnectionError

from airflow_provider_hfreg.errors import (
    ConflictError,
    HfregError,
    StorageDeniedError,
    StorageError,
    StorageUnavailableError,
    StorageUrlError,
)
from airflow_provider_hfreg.storage.s3.refusals import Refusal, error_of

ANY_FAILURE = (ClientError, BotoCoreError, Boto3Error)
"""Everything that boto3 raises on purpose."""

BROKEN_BODY = (HTTPClientError, IncompleteReadError)
"""A connection that broke inside a body: beyond boto3's own retries."""

_BUSY_ATTEMPTS = 10


def failure_of(
    failure: BaseException, action: str, url: str, precondition: type[ConflictError] | None, endpoint: str
) -> HfregError:
    """
    Return the error to raise for one of :data:`ANY_FAILURE`.

    :param action: a gerund: "reading".
    :param precondition: what a failed condition means to the caller.
    """
    cause = root_of(failure)
    if isinstance(cause, ClientError):
        message = str(cause.response.get("Error", {}).get("Message", ""))
        return error_of(Refusal(code_of(cause), status_of(cause), message, action, url, precondition))
    return _without_answer(cause, f"{action.capitalize()} {url} failed", endpoint)


def root_of(failure: BaseException) -> BaseException:
    """Return what a transfer's own error wraps: boto3 keeps only its text, Python the exception itself."""
    return failure.__context__ if isinstance(failure, Boto3Error) and failure.__context__ else failure


def status_of(error: BaseException) -> int:
    """Return the HTTP status of a refusal; 0 if there was no answer."""
    if not isinstance(error, ClientError):
        return 0
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def code_of(error: BaseException | None) -> str:
    """Return the error code of a refusal; ``""`` if there was no answer."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def check_length(came_bytes: int, content_range: str, start: int, length: int | None) -> None:
    """
    Refuse a part of which fewer bytes came than were asked for, although the object goes on; as a body that broke off.

    >>> check_length(2, "bytes 8-9/10", 8, 100)
    >>> check_length(2, "bytes 8-9/10", -2, None)

    :param content_range: the answer's header, ``bytes 8-9/10``; anything else is not judged.
    """
    total = content_range.rpartition("/")[2]
    if not total.isdigit():
        return
    if start < 0:
        expected = min(int(total), -start)
    else:
        expected = (int(total) if length is None else min(int(total), start + length)) - start
    if came_bytes != expected:
        raise IncompleteReadError(actual_bytes=came_bytes, expected_bytes=expected)


def repeat_while_busy(send: Callable[[], str]) -> str:
    """Return what ``send`` gave once it is no 409: S3's word for "another conditional write is under way, repeat"."""
    for attempt in range(_BUSY_ATTEMPTS - 1):
        try:
            return send()
        except ClientError as error:
            if status_of(error) != 409:
                raise
        time.sleep(random.uniform(0.5, 1.0) * min(2.0, 0.05 * 2**attempt))  # noqa: S311 - no secret, only jitter
    return send()


def _without_answer(cause: BaseException, what: str, endpoint: str) -> StorageError:
    if isinstance(cause, (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError)):
        return StorageDeniedError(
            f"{what}: {cause}. Give credentials in the connection, the environment or a profile of boto3."
        )
    if isinstance(cause, ParamValidationError):
        return StorageUrlError(f"{what}: S3 allows no such bucket name or key; correct the URL.")
    if isinstance(cause, (NoConnectionError, *BROKEN_BODY, Boto3Error)):
        return StorageUnavailableError(
            f"{what}: {cause} The endpoint {endpoint} does not answer as it should; check that it is right, running "
            "and reachable from here, then try again."
        )
    return StorageError(f"{what}: {cause}. Check the configuration of boto3 (profile, region, endpoint).")
