"""
A version's folder on this host: links to blobs, mended link by link while others may read it.

Invariants:

- A link is relative. One cache is reached by several paths (a bind mount, a home that is a link), and what one user
  makes must be right for all of them: with absolute links each side would take the other's for damaged, for ever.
- A link that is right is never touched, and one that is wrong is replaced by a rename. So the folder is never without
  a name, and whoever reads it meets no moment in which a file that was there is not.

Not here: a foreign file among the links. It is left alone, for whoever put it there may still want it.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from airflow_provider_hfreg.versions.cache.places import Places


def link_text(path: str, blob_name: str) -> str:
    """
    Return what the link at a path of a version's folder reads.

    >>> link_text("config.json", "ab12"), link_text("onnx/model.onnx", "cd34")
    ('../../sha256/ab12', '../../../sha256/cd34')
    """
    return f"{'../' * (2 + path.count('/'))}sha256/{blob_name}"


def find_links(folder: Path) -> dict[str, str]:
    """Return the links of a folder by path, with what each reads; none of one that is not there."""
    return {str(link.relative_to(folder)): str(link.readlink()) for link in folder.rglob("*") if link.is_symlink()}


def mend(places: Places, folder: Path, wanted: Mapping[str, str]) -> None:
    """
    Make a folder's links the wanted ones, unless another process does while this one waits for the lock.

    :param wanted: path → what the link reads.
    """
    if _is_as(folder, wanted):
        return
    places.made("folders")
    with places.locked(f"{folder.name}.lock"), places.scratch() as scratch:
        _make_folder(places, scratch, folder)
        found = find_links(folder)
        for path in found.keys() - wanted.keys():
            (folder / path).unlink()
        for path, text in wanted.items():
            if found.get(path) != text:
                _put_link(places, scratch, folder, path, text)


def _is_as(folder: Path, wanted: Mapping[str, str]) -> bool:
    try:
        return find_links(folder) == wanted
    except OSError:  # changed by another process while it was looked at
        return False


def _put_link(places: Places, scratch: Path, folder: Path, path: str, text: str) -> None:
    for parent in reversed(Path(path).parents[:-1]):
        _make_folder(places, scratch, folder / parent)
    made, link = scratch / "link", folder / path
    made.symlink_to(text)
    if link.is_dir() and not link.is_symlink():
        shutil.rmtree(link)
    made.replace(link)


def _make_folder(places: Places, scratch: Path, folder: Path) -> None:
    """Make a folder that others meet with its mode at once: one that a kill left closed would stay so."""
    if folder.is_dir() and not folder.is_symlink():
        return
    folder.unlink(missing_ok=True)
    made = scratch / "folder"
    made.mkdir()
    places.open_up(made)
    made.rename(folder)
