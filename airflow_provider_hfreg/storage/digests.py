"""
The digest of bytes that pass by: hashed while they are moved, so that no file is read a second time for it.

Knows no store and no model. Hashing runs outside the interpreter's lock, so it costs a thread its time and the others
nothing as long as a core is free.
"""

from __future__ import annotations

import hashlib

from airflow_provider_hfreg.errors import DigestMismatchError


class PassingDigest:
    """
    SHA-256 of bytes that come in order, and the judgement at the end.

    >>> passing = PassingDigest("sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae")
    >>> passing.update(b"foo")
    >>> passing.check("s3://bucket/key")

    :param expected: ``sha256:<hex>``; None hashes nothing and accepts everything.
    """

    def __init__(self, expected: str | None) -> None:
        self._expected = expected
        self._hash = hashlib.sha256()

    def update(self, block: bytes | memoryview) -> None:
        """Take the next bytes."""
        if self._expected is not None:
            self._hash.update(block)

    def check(self, what: str) -> None:
        """
        Judge, after the last byte.

        :param what: the object or file, for the message.
        :raises DigestMismatchError: the bytes were others.
        """
        found = f"sha256:{self._hash.hexdigest()}"
        if self._expected is not None and found != self._expected:
            raise DigestMismatchError(
                f"{what} holds other bytes than it should: expected {self._expected}, got {found}."
            )
