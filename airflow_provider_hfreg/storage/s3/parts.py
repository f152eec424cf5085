"""
One part of an object by one GET: whole, of the state that was asked for, or an error.

What boto3 does not see is seen here: a body that breaks off, an answer of 206 with fewer bytes than were asked for
(both are asked for again), and an answer of 200 with the whole object where a part was meant (refused).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_hfreg.errors import ObjectChangedError, StorageError
from airflow_provider_hfreg.storage.s3.bucket import Bucket
from airflow_provider_hfreg.storage.s3.failures import ANY_FAILURE, BROKEN_BODY, check_length, status_of

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

_BLOCK_BYTES = 256 << 10  # stays in a core's own cache between the socket and the file
_BODY_ATTEMPTS = 3  # a request that finds no server is repeated by boto3, a body that breaks off is not


@dataclass(frozen=True)
class Seen:
    """What an answer told of the whole object."""

    etag: str
    total_bytes: int


@dataclass(frozen=True)
class Part:
    """Bytes of an object, and the state that they are of."""

    content: bytes
    etag: str


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
        part = Part(b"", etag or "")

        def take(answer: GetObjectOutputTypeDef) -> int:
            nonlocal part
            part = Part(answer["Body"].read(), answer["ETag"])
            return len(part.content)

        self._take_whole(start, length, etag, take)
        return part

    def fetch_to(
        self,
        write: Callable[[int, bytes], None],
        start: int,
        length: int,
        *,
        etag: str | None = None,
        on_answer: Callable[[Seen], None],
    ) -> int:
        """
        Write bytes from ``start`` to their places as they come, and return how many: ``length``, or fewer at the end.

        :param write: given a block and its place in the object; what broke off is written again from ``start``.
        :param etag: as for :meth:`fetch`, and so the errors.
        :param on_answer: may refuse an answer before its body is read.
        """

        def take(answer: GetObjectOutputTypeDef) -> int:
            on_answer(_seen(answer))
            came = 0
            while came <= length and (block := answer["Body"].read(_BLOCK_BYTES)):
                write(start + came, block[: length - came])  # never into the next part's place
                came += len(block)
            return came

        return self._take_whole(start, length, etag, take)

    def _take_whole(
        self, start: int, length: int | None, etag: str | None, take: Callable[[GetObjectOutputTypeDef], int]
    ) -> int:
        """Ask until a whole answer was taken; return how many bytes it had, 0 if the object ends before ``start``."""
        asked = _range_of(start, length) | ({"IfMatch": etag} if etag else {})
        with self.bucket.request("reading", self.url):
            for attempts_left in reversed(range(_BODY_ATTEMPTS)):
                answer = self._find(asked, start, length)
                if answer is None:
                    self._check_unchanged(etag)  # a server may look at the range before it looks at If-Match
                    return 0
                try:
                    came_bytes = take(answer)
                    check_length(came_bytes, answer.get("ContentRange", ""), start, length)
                except BaseException as failure:
                    answer["Body"].close()  # else the connection would be given to the next request, with what is left
                    if not attempts_left or not isinstance(failure, BROKEN_BODY):
                        raise
                else:
                    return came_bytes
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


def _range_of(start: int, length: int | None) -> dict[str, str]:
    """
    Return the parameter that asks for some bytes; none for the whole.

    >>> _range_of(8, 4), _range_of(8, None), _range_of(-8, None), _range_of(0, None)
    ({'Range': 'bytes=8-11'}, {'Range': 'bytes=8-'}, {'Range': 'bytes=-8'}, {})
    """
    if start < 0:
        return {"Range": f"bytes={start}"}
    if start or length is not None:
        return {"Range": f"bytes={start}-{'' if length is None else start + length - 1}"}
    return {}


def _seen(answer: GetObjectOutputTypeDef) -> Seen:
    total = answer.get("ContentRange", "").rpartition("/")[2]
    return Seen(answer["ETag"], int(total) if total.isdigit() else answer["ContentLength"])
