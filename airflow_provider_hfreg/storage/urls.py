"""
What a URL means: ``s3://bucket/prefix`` or ``file:///folder``, and which store it opens.

An S3 URL is taken letter by letter, as by ``aws s3``. A file URL is percent-decoded, so that ``Path.as_uri()`` works;
written back, only ``%`` is encoded, so that messages stay readable. Opening a folder never loads boto3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from airflow_provider_hfreg.errors import StorageUrlError
from airflow_provider_hfreg.storage.base import ObjectStore

if TYPE_CHECKING:
    from airflow_provider_hfreg.storage.settings import S3Settings

_GLOB = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class StoreUrl:
    """
    A parsed URL.

    >>> print(StoreUrl("file", "", "/data/100% sure"))
    file:///data/100%25 sure
    """

    scheme: str  # "s3" or "file"
    bucket: str  # "" for a file
    path: str  # of S3: relative, no slash at either end; of a file: absolute

    def __str__(self) -> str:
        if self.scheme == "file":
            return f"file://{self.path.replace('%', '%25')}"
        return f"s3://{self.bucket}/{self.path}".rstrip("/")


def parse_url(url: str) -> StoreUrl:
    """
    Parse a URL, or refuse it.

    >>> parse_url("s3://models/team a/")
    StoreUrl(scheme='s3', bucket='models', path='team a')
    >>> parse_url("file:///srv/my%20models")
    StoreUrl(scheme='file', bucket='', path='/srv/my models')

    :raises StorageUrlError: another scheme, no bucket, a relative folder, ``..``.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in ("s3", "file"):
        raise StorageUrlError(
            f"{_without_user(url)!r} is no storage URL: write s3://bucket/prefix or file:///folder.{_hint(url)}"
        )
    if scheme == "file":
        return _parse_file(url, rest)
    bucket, _, path = rest.partition("/")
    path = path.strip("/")
    if not bucket or "@" in bucket:  # the second is a place for credentials, which would end in logs
        raise StorageUrlError(f"{_without_user(url)!r} names no bucket: write s3://bucket/prefix.")
    if any(segment in ("", ".", "..") for segment in path.split("/")) and path:
        raise StorageUrlError(f"{_without_user(url)!r} has an empty, '.' or '..' segment: write s3://bucket/prefix.")
    return StoreUrl("s3", bucket, path)


def open_store(url: str, s3: S3Settings | None = None) -> ObjectStore:
    """
    Return the store at ``url``. Asks nothing of it yet.

    :param s3: how to reach S3; ignored for a folder.
    :raises StorageUrlError: no such URL.
    """
    parsed = parse_url(url)
    if parsed.scheme == "file":
        from airflow_provider_hfreg.storage.local import LocalStore  # noqa: PLC0415 - not needed for S3

        return LocalStore(url)
    from airflow_provider_hfreg.storage.s3 import S3Store  # noqa: PLC0415 - boto3 takes a quarter of a second

    return S3Store(url, s3)


def local_path(place: str | Path) -> Path | None:
    """
    Return the path of a place on this machine, given as a path or as a file URL; None for a URL of another place.

    >>> local_path("file:///srv/my%20models"), local_path("out/v1"), local_path("s3://models")
    (PosixPath('/srv/my models'), PosixPath('out/v1'), None)

    :raises StorageUrlError: a file URL that names no absolute folder.
    """
    if isinstance(place, Path) or "://" not in place:
        return Path(place).expanduser()
    return Path(parse_url(place).path) if place.startswith("file://") else None


def split_glob(url: str) -> tuple[str, str]:
    """
    Split a URL of inputs into a root to open and what to look for below it.

    The second part is ``""`` for a folder (a trailing slash, or a bare bucket), has ``*``, ``?`` or ``[`` if it is a
    pattern (see :func:`key_matches`), and else is one name: of an object or of a folder; only the store knows.

    >>> split_glob("s3://b/in/day=*/*.parquet")
    ('s3://b/in', 'day=*/*.parquet')
    >>> split_glob("s3://b/in/rows.csv"), split_glob("file:///data/in/"), split_glob("s3://b")
    (('s3://b/in', 'rows.csv'), ('file:///data/in', ''), ('s3://b', ''))

    :raises StorageUrlError: no such URL.
    """
    parsed = parse_url(url)
    if url.endswith("/") or not parsed.path.strip("/"):
        return str(parsed), ""
    glob = _GLOB.search(parsed.path)
    cut = parsed.path.rfind("/", 0, glob.start() if glob else None)
    root, name = parsed.path[: max(cut, 0)], parsed.path[cut + 1 :]
    if parsed.scheme == "file":
        root = root or "/"
    return str(StoreUrl(parsed.scheme, parsed.bucket, root)), name


def key_matches(pattern: str, key: str) -> bool:
    """
    Tell whether a key matches a pattern: ``*`` and ``?`` stay within a segment, ``**`` is any number of segments.

    >>> key_matches("*.csv", "a.csv"), key_matches("*.csv", "x/a.csv"), key_matches("**/*.csv", "x/y/a.csv")
    (True, False, True)
    >>> key_matches("part-[0-4]*", "part-7")
    False
    """
    return re.fullmatch(_regex(pattern), key, flags=re.DOTALL) is not None


def _regex(pattern: str) -> str:
    translations = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^]]+\])", pattern)
    return "".join(translations.get(part) or _character_set(part) for part in parts)


def _character_set(part: str) -> str:
    if not (part.startswith("[") and part.endswith("]")):
        return re.escape(part)
    negated = part.startswith("[!")
    inside = re.sub(r"([\\\[\]^&~|])", r"\\\1", part[2 if negated else 1 : -1])
    return f"[^/{inside}]" if negated else f"[{inside}]"


def _parse_file(url: str, rest: str) -> StoreUrl:
    path = unquote(rest.removeprefix("localhost"))
    if not path.startswith("/"):
        raise StorageUrlError(
            f"{_without_user(url)!r} names no absolute folder: a file URL has three slashes, file:///folder."
        )
    if ".." in path.split("/") or "\0" in path:
        raise StorageUrlError(f"{_without_user(url)!r} has a '..' segment: write the folder it means.")
    return StoreUrl("file", "", Path(path).as_posix().replace("//", "/"))


def _without_user(url: str) -> str:
    """
    Return a URL for a message, without a place where credentials may stand.

    >>> _without_user("s3a://key:secret@bucket/a@b")
    's3a://bucket/a@b'
    """
    return re.sub(r"//[^/]*@", "//", url)


def _hint(url: str) -> str:
    """Return the URL that a plain path means."""
    return "" if "://" in url or not url else f" Did you mean {Path(url).absolute().as_uri()}?"
