"""
Staging: the rows of a :class:`~airflow_provider_hfreg.runs.row_sources.RowSource` become input files, once.

They lie in the run's own output folder, hidden as all of its own objects are, in a folder of who asks and what is asked
(``layout.staged_folder``). ``docs/decisions/0013`` tells why there, and why then.

Invariants:

- ``staged.json`` is put if absent when all pieces are stored: a staging is committed whole, by one of any number of
  tries, and never changed. Who finds it never asks the source again, so a retry runs the rows that its first try read.
- A piece has its attempt's name. What an attempt that was killed left behind is never read, and goes when another one
  commits, or when the run is finished.
- The rows go when the run is finished, before its report; ``staged.json`` stays, with the digest by which the finished
  run is known again. A staging whose rows are gone served its purpose: another run stages anew, as the next generation.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
import time
import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from airflow_provider_hfreg.errors import HfregError, KeyExistsError, KeyNotFoundError, UnknownFormatError
from airflow_provider_hfreg.runs import layout
from airflow_provider_hfreg.runs.inputs import InputFile
from airflow_provider_hfreg.runs.progress import Log
from airflow_provider_hfreg.runs.read_ahead import ReadAhead
from airflow_provider_hfreg.runs.row_sources import Piece, RowSource, cast_batch
from airflow_provider_hfreg.runs.spec import known_fields
from airflow_provider_hfreg.storage.base import ObjectInfo, ObjectStore

FORMAT_VERSION = 1
_PROGRESS_S = 10.0
_REWRITTEN_ROWS = 10_000


@dataclass(frozen=True)
class Staged:
    """
    A committed staging.

    :param folder: key of its folder, below the output.
    :param files: its pieces, in order; keys below the output.
    :param digest: of the pieces' bytes: the same rows give the same, whenever they are read.
    :param staged_at: when the last row was read, in UTC.
    """

    folder: str
    attempt: str
    files: tuple[InputFile, ...]
    rows: int
    digest: str
    staged_at: str

    @property
    def content(self) -> tuple[InputFile, ...]:
        """What stands for the files in a fingerprint: their content, not where they lie."""
        return (InputFile("staged", self.rows, self.digest),)

    def to_bytes(self) -> bytes:
        """Return ``staged.json``."""
        return json.dumps({"format_version": FORMAT_VERSION, **asdict(self)}, indent=1).encode()

    @classmethod
    def from_bytes(cls, content: bytes, *, where: str) -> Staged:
        """
        Rebuild what :meth:`to_bytes` gave.

        :raises UnknownFormatError: it is none.
        """
        try:
            plain = json.loads(content)
            known = {FORMAT_VERSION: cls}[plain["format_version"]]
            files = tuple(InputFile(**known_fields(InputFile, file)) for file in plain["files"])
            return known(**known_fields(cls, plain) | {"files": files})
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise UnknownFormatError(
                f"{where} tells of no staged rows that this version of the package can read: {error!r}. Remove its "
                "folder; the rows are then read anew."
            ) from error


@dataclass(frozen=True)
class Found:
    """
    What an output folder holds for one who asks one question.

    :param staged: the last committed staging, if any.
    :param is_whole: its rows are still there.
    :param next_folder: of the staging after it.
    """

    staged: Staged | None
    is_whole: bool
    next_folder: str


def find_staged(store: ObjectStore, identity_prefix: str, question: str) -> Found:
    """
    Return the last committed staging of an identity's question: one listing, and one read if there is one.

    :param store: the run's output.
    """
    infos = list(store.list_infos(layout.staged_prefix(identity_prefix, question)))
    committed = [found for info in infos if (found := layout.find_staged_document(info.key)) is not None]
    last = max(committed, default=-1)
    staged = _find_committed(store, layout.staged_folder(identity_prefix, question, last)) if committed else None
    there = {(info.key, info.etag) for info in infos}
    is_whole = staged is not None and all((file.key, file.etag) in there for file in staged.files)
    return Found(staged, is_whole, layout.staged_folder(identity_prefix, question, last + 1))


def stage(source: RowSource, store: ObjectStore, folder: str, *, log: Log) -> Staged:
    """
    Read a source and store its rows.

    :param folder: of :func:`find_staged`.
    :returns: the staging that stands; another try that began at the same moment may have committed it.
    :raises HfregError: whatever the source and the store raise; nothing of this attempt is left then.
    """
    attempt = _Attempt(source, store, folder, log)
    try:
        return _commit(store, attempt.read())
    except BaseException as error:
        source.cancel()
        with contextlib.suppress(HfregError):
            store.delete(attempt.keys)
        # Who commits first removes all other pieces, also of one that is still at it.
        winner = _find_committed(store, folder) if isinstance(error, KeyNotFoundError) else None
        if winner is None:
            raise
        return winner


def clear_staged(store: ObjectStore, identity_prefix: str) -> None:
    """Remove all rows that an identity staged; what tells of them stays."""
    infos = store.list_infos(f"{layout.STAGED_FOLDER}{identity_prefix}")
    store.delete([info.key for info in infos if layout.find_staged_document(info.key) is None])


def _find_committed(store: ObjectStore, folder: str) -> Staged | None:
    key = layout.staged_key(folder)
    with contextlib.suppress(KeyNotFoundError):
        return Staged.from_bytes(store.get(key), where=store.location(key))
    return None


def _commit(store: ObjectStore, staged: Staged) -> Staged:
    key = layout.staged_key(staged.folder)
    try:
        store.put_if_absent(key, staged.to_bytes())
    except KeyExistsError:
        winner = _find_committed(store, staged.folder)
        if winner is None:
            raise KeyNotFoundError(f"{store.location(key)} was there and is gone. Run again.") from None
        if winner.attempt != staged.attempt:  # else the answer to our first put was lost
            store.delete([file.key for file in staged.files])
        return winner
    named = {key, *(file.key for file in staged.files)}
    store.delete([info.key for info in store.list_infos(staged.folder) if info.key not in named])
    return staged


class _Attempt:
    """One reading of a source."""

    def __init__(self, source: RowSource, store: ObjectStore, folder: str, log: Log) -> None:
        self._source, self._store, self._folder, self._log = source, store, folder, log
        self._name = uuid.uuid4().hex[:12]
        self._said_s = self._began_s = time.monotonic()
        self.keys: list[str] = []

    def read(self) -> Staged:
        """Store all rows and return what commits them."""
        self._log.info("staging: %s, into %s", self._source.what, self._store.location(self._folder.rstrip("/")))
        # What is left of it is removed even while the source's thread, which may hang, still writes into it.
        with tempfile.TemporaryDirectory(prefix="hfreg-stage-", ignore_cleanup_errors=True) as local:
            stored = self._store_pieces(Path(local))
            schema = stored[-1][0].schema
            settled = [
                (file, digest) if piece.schema == schema else self._widened(file, schema, Path(local))
                for piece, file, digest in stored
            ]
        rows = sum(piece.rows for piece, _, _ in stored)
        self._log.info("staged: %d rows in %d files, %.0f s", rows, len(settled), time.monotonic() - self._began_s)
        return Staged(
            folder=self._folder,
            attempt=self._name,
            files=tuple(file for file, _ in settled),
            rows=rows,
            digest=hashlib.sha256("".join(digest for _, digest in settled).encode()).hexdigest(),
            staged_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def _store_pieces(self, local: Path) -> list[tuple[Piece, InputFile, str]]:
        stored: list[tuple[Piece, InputFile, str]] = []
        # The next piece is read while one is stored. In a thread: a signal that cancels the run reaches only the main
        # thread, and not while that waits inside a database's library.
        with ReadAhead(self._source.pieces(local), depth=1, waiting=self._wait) as pieces:
            for piece in pieces:
                stored.append((piece, *self._put(piece.path, len(stored))))
                piece.path.unlink()
                self._wait()
        return stored

    def _put(self, path: Path, number: int, suffix: str = "") -> tuple[InputFile, str]:
        key = f"{self._folder}{number:05d}-{self._name}{suffix}{path.suffix}"
        with path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        self.keys.append(key)
        with contextlib.suppress(KeyExistsError):  # the answer to an earlier put of ours was lost
            self._store.put_if_absent(key, path)
        info = self._info(key)
        return InputFile(key, info.size_bytes, info.etag), digest

    def _info(self, key: str) -> ObjectInfo:
        info = self._store.find_info(key)
        if info is None:
            raise KeyNotFoundError(
                f"{self._store.location(key)} was just written and is gone: something removes the run's own files."
            )
        return info

    def _widened(self, file: InputFile, schema: pa.Schema, local: Path) -> tuple[InputFile, str]:
        """Write a piece again whose columns were narrower than they turned out to be."""
        path = local / f"widened-{Path(file.key).name}"
        with (
            self._store.open_reader(file.key) as reader,
            pq.ParquetFile(reader) as narrow,
            pq.ParquetWriter(path, schema, compression="zstd") as writer,
        ):
            for batch in narrow.iter_batches(_REWRITTEN_ROWS):
                self._source.check()
                writer.write_batch(cast_batch(batch, schema, what=self._source.what))
        number = int(Path(file.key).name.partition("-")[0])
        wide = self._put(path, number, "-wide")
        path.unlink()
        self._store.delete([file.key])
        return wide

    def _wait(self) -> None:
        self._source.check()
        now_s = time.monotonic()
        if now_s - self._said_s >= _PROGRESS_S:
            self._said_s = now_s
            rows, seconds = self._source.rows_read, now_s - self._began_s
            self._log.info("staging: %d rows read, %.0f rows/s", rows, rows / seconds)
