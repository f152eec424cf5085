"""
How to reach an S3 server, as plain values: what a caller may hold without loading boto3.

Invariant: neither ``repr`` nor an error message ever shows a secret. What is left out falls back to boto3's own chain
(environment, profile, instance role), so nothing needs to be given on AWS.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from airflow_provider_hfreg.errors import StorageUrlError

_ENCRYPTIONS = ("AES256", "aws:kms", "aws:kms:dsse")
_MOST_BEFORE_NEXT_S = 20.0  # boto3's own limit of the wait before a repetition


@dataclass(frozen=True)
class S3Settings:
    """
    Endpoint, credentials, encryption and patience of an S3 client.

    >>> S3Settings(endpoint_url="http://127.0.0.1:8333", access_key_id="key", secret_access_key="secret")
    S3Settings(endpoint_url='http://127.0.0.1:8333')

    :param endpoint_url: of a server other than AWS, such as ``http://127.0.0.1:8333``.
    :param region_name: default: the session's, else ``us-east-1``.
    :param access_key_id: with ``secret_access_key`` (and ``session_token`` for temporary ones); default: boto3's chain.
    :param profile_name: of boto3's configuration, in place of keys; default: boto3's chain.
    :param session: a ready ``boto3.Session``, such as the amazon provider makes from a connection; wins over the keys
        and the profile.
    :param sse: server-side encryption asked for on every write: ``AES256``, ``aws:kms`` or ``aws:kms:dsse``.
    :param sse_kms_key_id: the KMS key; default: the account's own for S3.
    :param connect_timeout_s: for the connection, per attempt.
    :param read_timeout_s: of silence on an open connection. With dozens of writers on one key a server may need 15 s.
    :param max_attempts: of one request, the first included.
    :raises StorageUrlError: settings that cannot work together.
    """

    endpoint_url: str | None = None
    region_name: str | None = field(default=None, repr=False)
    access_key_id: str | None = field(default=None, repr=False)
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    profile_name: str | None = field(default=None, repr=False)
    session: Any = field(default=None, repr=False, compare=False)
    sse: str | None = field(default=None, repr=False)
    sse_kms_key_id: str | None = field(default=None, repr=False)
    connect_timeout_s: float = field(default=10.0, repr=False)
    read_timeout_s: float = field(default=60.0, repr=False)
    max_attempts: int = field(default=5, repr=False)

    def __post_init__(self) -> None:
        if self.sse is not None and self.sse not in _ENCRYPTIONS:
            raise StorageUrlError(
                f"sse={self.sse!r} is no server-side encryption; there are {', '.join(_ENCRYPTIONS)}."
            )
        if self.sse_kms_key_id is not None and not (self.sse or "").startswith("aws:kms"):
            raise StorageUrlError("sse_kms_key_id needs sse='aws:kms' (or 'aws:kms:dsse').")
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise StorageUrlError("access_key_id and secret_access_key are given together or not at all.")
        if self.profile_name is not None and self.access_key_id is not None:
            raise StorageUrlError("profile_name and access_key_id both say who asks: give one of them.")

    @property
    def request_s(self) -> float:
        """
        Return how long a request may last that is answered by silence, with all its repetitions.

        >>> S3Settings().request_s, S3Settings(read_timeout_s=600, max_attempts=2).request_s
        (430.0, 1240.0)
        """
        waits_s = _MOST_BEFORE_NEXT_S * (self.max_attempts - 1)
        return self.max_attempts * (self.connect_timeout_s + self.read_timeout_s) + waits_s

    def reach_as(self, other: S3Settings) -> bool:
        """
        Tell whether other settings reach the same server as the same account; encryption and patience may differ.

        >>> S3Settings(sse="AES256").reach_as(S3Settings()), S3Settings(region_name="eu-west-1").reach_as(S3Settings())
        (True, False)
        """
        keys = ("access_key_id", "secret_access_key", "session_token", "profile_name", "session")
        return all(getattr(self, name) == getattr(other, name) for name in ("endpoint_url", "region_name", *keys))

    def encryption(self) -> dict[str, str]:
        """
        Return the request parameters that ask for the encryption.

        >>> S3Settings(sse="aws:kms", sse_kms_key_id="k1").encryption()
        {'ServerSideEncryption': 'aws:kms', 'SSEKMSKeyId': 'k1'}
        """
        given = {"ServerSideEncryption": self.sse, "SSEKMSKeyId": self.sse_kms_key_id}
        return {name: value for name, value in given.items() if value is not None}
