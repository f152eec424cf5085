"""
Errors of this machine's disk, said to a person: which file, why, and what to do.

For folders that a person names, to log from or to export into, and for those that logging works in. A store that is a
folder has its own words (:mod:`.local`), and so have the files of the host's cache, because other places are to blame
there.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from airflow_provider_hfreg.errors import LocalFileError

_REMEDIES = {
    errno.EACCES: "Give this user the permission, or choose another folder.",
    errno.EPERM: "Give this user the permission, or choose another folder.",
    errno.EROFS: "Its disk is mounted to be read only: choose another folder.",
    errno.ENOSPC: "Its disk is full: make room there, or choose a folder on another disk.",
    errno.EDQUOT: "This user's share of the disk is used up: make room there, or choose a folder on another disk.",
    errno.EFBIG: "The file system, or a limit of this process (ulimit -f), allows no file as large.",
    errno.ENOENT: "It is not there, or a link that leads nowhere: check the name.",
    errno.ENOTDIR: "A file is where a folder should be: choose another folder.",
    errno.EEXIST: "A file is where a folder should be: choose another folder.",
    errno.EISDIR: "A folder is where a file should be: choose another folder.",
    errno.ENAMETOOLONG: "The file system allows no name as long: choose a shorter one.",
}


@contextmanager
def explained(action: str, place: Path, *, also: str = "") -> Iterator[None]:
    """
    Let an ``OSError`` be told as what it means.

    :param action: begins the message, such as ``Reading``.
    :param place: named where the error itself names no file.
    :param also: what else to do.
    :raises LocalFileError: in place of an ``OSError``.
    """
    try:
        yield
    except OSError as error:
        where = error.filename2 or error.filename or place
        remedy = _REMEDIES.get(error.errno or 0, "The disk may be unwell: try again, or choose another folder.")
        said = f"{action} {where} failed: {error.strerror or error}. {remedy}"
        raise LocalFileError(f"{said} {also}".rstrip()) from error


def is_of_disk(error: Exception) -> bool:
    """
    Tell whether a disk failed: connections and libraries raise ``OSError``, too.

    >>> is_of_disk(OSError(errno.ENOSPC, "No space left on device")), is_of_disk(ConnectionResetError(104, "reset"))
    (True, False)
    """
    return isinstance(error, OSError) and error.errno in _REMEDIES


def check_readable(path: Path) -> None:
    """
    Try to open a file.

    :raises LocalFileError: it cannot be read.
    """
    with explained("Reading", path), path.open("rb"):
        pass
