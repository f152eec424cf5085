"""The last lines that the package's loggers wrote in one thread: what a sender is to read of a shard far away."""

from __future__ import annotations

import logging
import threading
from collections import deque
from types import TracebackType
from typing import Self

_LINES = 50
PACKAGE = "airflow_provider_hfreg"


class ShardLog(logging.Handler):
    """
    Collects while it is entered, for the thread that entered it.

    >>> with ShardLog() as lines:
    ...     logging.getLogger(PACKAGE).warning("3 texts were cut")
    >>> lines.tail()
    (0, ('WARNING 3 texts were cut',))
    """

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        self._thread = threading.get_ident()
        self._kept: deque[str] = deque(maxlen=_LINES)
        self._count = 0

    def __enter__(self) -> Self:
        self._thread = threading.get_ident()
        logging.getLogger(PACKAGE).addHandler(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logging.getLogger(PACKAGE).removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        if record.thread == self._thread:
            self._kept.append(self.format(record))
            self._count += 1

    def tail(self) -> tuple[int, tuple[str, ...]]:
        """Return the number of the first line kept, counted from 0, and the lines."""
        with self.lock or threading.Lock():
            return self._count - len(self._kept), tuple(self._kept)
