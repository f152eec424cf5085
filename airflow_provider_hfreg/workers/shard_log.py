"""The last lines that the package's loggers wrote about a shard: what its sender is to read far away."""

from __future__ import annotations

import logging
import threading
from collections import deque
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Self

_LINES = 50
PACKAGE = "airflow_provider_hfreg"
_entered: ContextVar[ShardLog | None] = ContextVar("entered", default=None)


class ShardLog(logging.Handler):
    """
    Collects while it is entered, for the thread that entered it and those that work for it in its context.

    >>> with ShardLog() as lines:
    ...     logging.getLogger(PACKAGE).warning("3 texts were cut")
    >>> lines.tail()
    (0, ('WARNING 3 texts were cut',))
    """

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        self._token: Token[ShardLog | None] | None = None
        self._kept: deque[str] = deque(maxlen=_LINES)
        self._count = 0

    def __enter__(self) -> Self:
        self._token = _entered.set(self)
        logging.getLogger(PACKAGE).addHandler(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logging.getLogger(PACKAGE).removeHandler(self)
        if self._token is not None:
            _entered.reset(self._token)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        if _entered.get() is self:
            self._kept.append(self.format(record))
            self._count += 1

    def tail(self) -> tuple[int, tuple[str, ...]]:
        """Return the number of the first line kept, counted from 0, and the lines."""
        with self.lock or threading.Lock():
            return self._count - len(self._kept), tuple(self._kept)
