"""
One part of an object by one GET: whole, of the state that was asked for, or an error.

What boto3 does not see is seen here: a body that breaks off, an answer of 206 with fewer bytes than were asked for
(both are asked for again), and an answer of 200 with the whole object where a part was meant (refused).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_hfreg.errors import ObjectChangedError, StorageError
from airflow_provider_hfreg.storage.s3.bucket import Bucket
from airflow_provider_hfreg.storage.s3.failures import ANY_FAILURE, BROKEN_BODY, check_length, status_of

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

_BODY_ATTEMPTS = 3  # a request that finds no server is repeated by boto3, a body that breaks off is not


@dataclass(frozen=True)
class Part:
    """Bytes of an object, and what the answer told of the whole."""

    content: bytes
    etag: str
    total_bytes: int


@dataclass(frozen=True)
class ObjectParts:
    """
    An object to read parts of; threads may share it.

    :param name: in the bucket.
    :param url: for messages.
    """

    bucket: Bucket
    name: str
    url: str

    def fetch(self, start: int = 0, length: int | None = None, *, etag: str | None = None) -> Part:
        """
        Return bytes from ``start``, ``length`` or fewer at the object's end.

        :param start: negative: so many bytes before the end; then no length is given.
        :param etag: only if the object still has it.
        :raises KeyNotFoundError: there is no object.
        :raises ObjectChangedError: it has another etag.
        """
        asked: Any = {"IfMatch": etag} if etag else {}
        if start < 0:
            asked["Range"] = f"bytes={start}"
        elif start or length is not None:
            asked["Range"] = f"bytes={start}-{'' if length is None else start + length - 1}"
        with self.bucket.request("reading", self.url):
            for attempts_left in reversed(range(_BODY_ATTEMPTS)):
                answer = self._find(asked, start, length)
                if answer is None:
                    self._check_unchanged(etag)  # a server may look at the range before it looks at If-Match
                    return Part(b"", etag or "", 0)
                try:
                    content = answer["Body"].read()
                    check_length(content, answer.get("ContentRange", ""), start, length)
                except BROKEN_BODY:
                    if not attempts_left:
                        raise
                else:
                    return Part(content, answer["ETag"], _total_bytes(answer))
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _check_unchanged(self, etag: str | None) -> None:
        if etag is None:
            return
        head = self.bucket.client.head_object(Bucket=self.bucket.name, Key=self.name)
        if head["ETag"] != etag:
            raise ObjectChangedError(f"{self.url} was changed by another writer since it was seen.")

    def _find(self, asked: Any, start: int, length: int | None) -> GetObjectOutputTypeDef | None:
        """Return the answer before its body is read; None if the object ends before the range begins."""
        try:
            answer = self.bucket.client.get_object(Bucket=self.bucket.name, Key=self.name, **asked)
        except ANY_FAILURE as failure:
            if status_of(failure) == 416:  # also any range of an empty object
                return None
            raise
        is_part = answer["ResponseMetadata"]["HTTPStatusCode"] == 206
        is_as_asked = start == 0 and (length is None or answer["ContentLength"] <= length)
        if not is_part and not is_as_asked:
            answer["Body"].close()  # 14 GB would come where 64 KB were meant, and the wrong ones
            raise StorageError(
                f"Reading a range of {self.url} failed: the server answered with the whole object. A proxy in between "
                "ignores byte ranges; reach the store without it."
            )
        return answer


def _total_bytes(answer: GetObjectOutputTypeDef) -> int:
    total = answer.get("ContentRange", "").rpartition("/")[2]
    return int(total) if total.isdigit() else answer["ContentLength"]
