"""
SHA-256 checksums that the server computes for itself over what it received, and compares.

A server that has them refuses a part whose bytes changed on their way or while it stored them. Not every one has: a
refusal of the first checksum is remembered for the connection, and the same is sent without. The signature then still
covers the bytes, except on AWS, which has checksums. An answer that names another checksum than ours is refused here.
"""

from __future__ import annotations

import base64
import hashlib
import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from botocore.exceptions import ClientError

from airflow_provider_hfreg.errors import StorageError
from airflow_provider_hfreg.storage.s3.client import Connection
from airflow_provider_hfreg.storage.s3.failures import code_of

_T = TypeVar("_T")
_log = logging.getLogger(__name__)
_NOT_KNOWN = {"NotImplemented", "InvalidArgument", "InvalidRequest"}


def as_server_can(connection: Connection, send: Callable[[bool], _T]) -> _T:
    """
    Return what ``send`` gives when told to ask for checksums, or not to.

    :param send: sends everything anew at each call.
    """
    if connection.has_checksums:
        try:
            return send(True)  # noqa: FBT003
        except ClientError as refusal:
            if code_of(refusal) not in _NOT_KNOWN:
                raise
            connection.has_checksums = False
            _log.warning(
                "%s computes no SHA-256 checksums (%s): of what is stored there, sizes alone are confirmed.",
                *(connection.endpoint, code_of(refusal)),
            )
    return send(False)  # noqa: FBT003


def checksum_of(content: bytes) -> str:
    """
    Return the checksum as S3 writes it.

    >>> checksum_of(b"")
    '47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='
    """
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


def checksum_of_parts(checksums: list[str]) -> str:
    """
    Return the checksum of an upload in parts: that of the parts' checksums, and their number.

    >>> checksum_of_parts([checksum_of(b"")])
    'Xfbg4nYTWdMKgnUFjimfzAOBU0VF9Vz0PkGYP11MlFY=-1'
    """
    joined = b"".join(map(base64.b64decode, checksums))
    return f"{checksum_of(joined)}-{len(checksums)}"


def check_answer(answer: Mapping[str, Any], checksum: str | None, url: str) -> None:
    """
    Compare what the server says that it received.

    :raises StorageError: other bytes.
    """
    shown = answer.get("ChecksumSHA256")
    if checksum is not None and shown is not None and shown != checksum:
        raise StorageError(
            f"{url} was written, and the server shows another checksum than was sent: expected {checksum}, got "
            f"{shown}. Write it again; if it repeats, the server is at fault."
        )
