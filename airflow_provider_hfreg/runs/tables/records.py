r"""
Where the records of a CSV or JSONL file end, found over whole blocks with numpy and without a loop over bytes.

The CSV rules are those of RFC 4180 as Arrow's parser reads them: a quote opens only at the start of a field (a
``5" nail`` stays text), ``""`` inside quotes is a quote, and ``\n``, ``\r\n`` or ``\r`` outside of quotes end a record.
Whether a byte is inside quotes depends on every quote before it; yet a *run* of adjacent quotes can do only one of
three things, so that a running count answers for all runs at once:

- an even run leaves the state as it was (``""`` is empty, or an escaped quote, or stands in a text);
- an odd run at the start of a field toggles it (opens, or closes a field that ends in a comma);
- an odd run elsewhere leads outside (closes, or stands in a text that was never inside).

A block handed to these functions begins at the start of a record. Nothing here reads a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from airflow_provider_hfreg.errors import InputFormatError

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]

QUOTE, COMMA, NEWLINE, RETURN, SPACE, TAB = b'",\n\r \t'
BLOCK_BYTES = 8 * 2**20
LARGEST_RECORD_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Quotes:
    """
    The runs of adjacent quotes of a block, and whether the bytes after each are inside quotes.

    :param first: position of each run's first quote, ascending.
    :param inside: the state after each run.
    """

    first: IntArray
    inside: BoolArray

    @classmethod
    def of(cls, block: Bytes) -> Quotes:
        """Find the runs of a block that begins at the start of a record."""
        quotes = np.flatnonzero(block == QUOTE)
        begins = np.flatnonzero(np.diff(quotes, prepend=-2) != 1)
        first = quotes[begins]
        odd = np.diff(begins, append=len(quotes)) % 2 == 1
        before = np.where(first > 0, block[first - 1], NEWLINE)
        at_field_start = (before == COMMA) | (before == NEWLINE) | (before == RETURN)
        toggles = np.cumsum(odd & at_field_start)
        since = np.maximum.accumulate(np.where(odd & ~at_field_start, toggles, 0))
        return cls(first, (toggles - since) % 2 == 1)

    def outside(self, positions: IntArray) -> BoolArray:
        """Return which of some positions (none of a quote) are outside of quotes."""
        if not len(self.first):
            return np.ones(len(positions), dtype=np.bool_)
        run = np.searchsorted(self.first, positions) - 1
        return (run < 0) | ~self.inside[run]


@dataclass(frozen=True)
class Records:
    """
    The whole records of a block.

    :param ends: position after each record's line end, ascending.
    :param blank: which of them are blank lines, that are no row.
    """

    ends: IntArray
    blank: BoolArray

    @property
    def starts(self) -> IntArray:
        """Position of each record's first byte."""
        return np.concatenate(([0], self.ends[:-1])) if len(self.ends) else self.ends


class UnclosedQuoteError(ValueError):
    """The last block of a file ends inside quotes. ``start`` is where the record begins."""

    def __init__(self, start: int) -> None:
        super().__init__(start)
        self.start = start


def csv_records(block: Bytes, *, final: bool) -> Records:
    r"""
    Return the records of a block of CSV.

    >>> block = np.frombuffer(b'a,"x\ny"\n\nb,5" nail\r\nc', dtype=np.uint8)
    >>> csv_records(block, final=True).ends.tolist(), csv_records(block, final=False).ends.tolist()
    ([8, 9, 20, 21], [8, 9, 20])

    :param final: nothing follows the block, so that its last record needs no line end.
    :raises UnclosedQuoteError: the final block ends inside quotes.
    """
    ends = _csv_line_ends(block, final=final)
    quotes = Quotes.of(block)
    ends = ends[quotes.outside(ends)] + 1
    if final and len(quotes.inside) and quotes.inside[-1]:
        raise UnclosedQuoteError(int(ends[-1]) if len(ends) else 0)
    ends = _with_rest(ends, block, final=final)
    records = Records(ends, np.zeros(len(ends), dtype=np.bool_))
    first = block[records.starts]
    return Records(ends, (first == NEWLINE) | (first == RETURN))


def _csv_line_ends(block: Bytes, *, final: bool) -> IntArray:
    newlines = np.flatnonzero(block == NEWLINE)
    returns = np.flatnonzero(block == RETURN)
    if not len(returns):
        return newlines
    following = np.append(block[1:], NEWLINE if not final else 0)[returns]  # a last \r may be half of a \r\n
    lone = returns[following != NEWLINE]
    return np.sort(np.concatenate((newlines, lone))) if len(lone) else newlines


def _with_rest(ends: IntArray, block: Bytes, *, final: bool) -> IntArray:
    rest = final and len(block) > (ends[-1] if len(ends) else 0)
    return np.append(ends, len(block)) if rest else ends


def csv_field_counts(block: Bytes, records: Records) -> IntArray:
    r"""
    Return the number of fields of each record.

    >>> block = np.frombuffer(b'a,"x,y"\nb\n', dtype=np.uint8)
    >>> csv_field_counts(block, csv_records(block, final=True)).tolist()
    [2, 1]
    """
    commas = np.flatnonzero(block == COMMA)
    commas = commas[Quotes.of(block).outside(commas)]
    return np.diff(np.searchsorted(commas, records.ends), prepend=0) + 1


def jsonl_records(block: Bytes, *, final: bool) -> Records:
    r"""
    Return the lines of a block of JSONL; a line of white space alone is blank.

    >>> records = jsonl_records(np.frombuffer(b'{}\n \r\n{}', dtype=np.uint8), final=True)
    >>> records.ends.tolist(), records.blank.tolist()
    ([3, 6, 8], [False, True, False])
    """
    ends = _with_rest(np.flatnonzero(block == NEWLINE) + 1, block, final=final)
    if not len(ends):
        return Records(ends, np.zeros(0, dtype=np.bool_))
    written = (block != SPACE) & (block != TAB) & (block != NEWLINE) & (block != RETURN)
    starts = np.concatenate(([0], ends[:-1]))
    return Records(ends, ~np.logical_or.reduceat(written[: ends[-1]], starts))


FindRecords = Callable[..., Records]


@dataclass(frozen=True)
class RecordBlock:
    """
    Bytes that hold whole records.

    :param offset: of the bytes in the file.
    """

    offset: int
    content: bytes
    records: Records

    def raw(self, record: int) -> bytes:
        """Return a record without its line end."""
        ends = self.records.ends
        start, end = (ends[record - 1] if record else 0), ends[record]
        return self.content[start:end].rstrip(b"\r\n")


def record_blocks(
    read: Callable[[int, int], bytes],
    start: int,
    end: int,
    find_records: FindRecords,
    *,
    where: str,
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[RecordBlock]:
    """
    Yield the records of a byte range of a file that begins at one, in blocks of bounded size.

    :param read: (position, length) → bytes.
    :param find_records: :func:`csv_records` or :func:`jsonl_records`.
    :param where: the file's URL, for messages.
    :raises InputFormatError: a record larger than :data:`LARGEST_RECORD_BYTES`, or a quote that is never closed.
    """
    rest = b""
    position = start
    while position < end:
        content = rest + read(position, min(block_bytes, end - position))
        offset = position - len(rest)
        position = offset + len(content)
        if len(content) == len(rest):
            raise InputFormatError(f"{where} is shorter than it was: it ends at byte {position}, not {end}.")
        block = np.frombuffer(content, dtype=np.uint8)
        try:
            records = find_records(block, final=position >= end)
        except UnclosedQuoteError as error:
            raise InputFormatError(
                f"{where}: the quote opened in the record at byte {offset + error.start} is never closed, so nothing "
                "after it can be told apart. The file is cut off, or a quote in a text is not written as two."
            ) from None
        used = int(records.ends[-1]) if len(records.ends) else 0
        rest = content[used:]
        if len(rest) > LARGEST_RECORD_BYTES:
            raise InputFormatError(
                f"{where}: the record at byte {offset + used} is longer than {LARGEST_RECORD_BYTES >> 20} MiB. A quote "
                "that is never closed swallows all that follows it; or store such a table as Parquet."
            )
        if used:
            yield RecordBlock(offset, content[:used], records)
