"""
Following a deferred batch run in the triggerer: :class:`BatchRunTrigger`.

Invariants:

- The event loop never waits for storage, broker or Airflow: all of that happens in threads of its own, so that many
  runs neither stop the triggerer nor take the threads that other triggers use.
- The shards outlive it. A triggerer that ends leaves them; another one goes on from what storage says. Two that follow
  one run for a while send some shards twice, which costs two requests each.
- Only three things stop shards: somebody who kills the task, an error that ends the run, the task's time being up.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_hfreg.errors import HfregError
from airflow_provider_hfreg.triggers.deferral import Deferral
from airflow_provider_hfreg.triggers.watch import Watch

log = logging.getLogger(__name__)

DONE, FAILED, TIMED_OUT = "done", "failed", "timed_out"
"""What an event's ``status`` may be."""

_STEP_THREADS = 16  # a step takes a few requests every few seconds, and one second a minute to ask the workers
_END_THREADS = 4

_Result = TypeVar("_Result")


class BatchRunTrigger(BaseTrigger):
    """
    Follows the shards of a run on an executor pool until all are committed, or the run fails.

    Yields one event: ``{"status": "done" | "failed" | "timed_out"}``; with ``failed`` also ``kind`` (the error's
    class) and ``message``.

    :param deferral: what :meth:`~airflow_provider_hfreg.triggers.deferral.Deferral.to_json` gave.
    """

    def __init__(self, deferral: Mapping[str, Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.deferral = Deferral.from_json(deferral)
        self._watch = Watch(self.deferral)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and plain values."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {"deferral": self.deferral.to_json()}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Follow the run, and yield how it ended."""
        yield TriggerEvent(await self._outcome())  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Stop the shards: the task was cleared or marked while it was deferred."""
        log.info("Stopping the shards; those that are committed stay, and the run can be gone on with.")
        await _in_thread(self._watch.stop, _ends())

    async def cleanup(self) -> None:
        """Let the broker go. The shards go on: this comes at every end, also a triggerer's own."""
        await _in_thread(self._watch.leave, _ends())

    async def _outcome(self) -> dict[str, Any]:
        try:
            while (pause_s := await _in_thread(self._watch.step, _steps())) is not None:
                left_s = self._left_s()
                if left_s <= 0:
                    await _in_thread(self._watch.stop, _ends())
                    return {"status": TIMED_OUT}
                await asyncio.sleep(min(pause_s, left_s))
        except HfregError as error:
            await self._stop_quietly()
            return {"status": FAILED, "kind": type(error).__name__, "message": str(error)}
        except Exception:
            await self._stop_quietly()
            raise
        await _in_thread(self._watch.stop, _ends())  # all is committed: it clears up
        return {"status": DONE}

    def _left_s(self) -> float:
        ends_at = self.deferral.ends_at
        return float("inf") if ends_at is None else ends_at - time.time()

    async def _stop_quietly(self) -> None:
        """Stop the shards if that is possible: what ended the run is told, not what failed after it."""
        try:
            await _in_thread(self._watch.stop, _ends())
        except Exception as error:  # noqa: BLE001 - whatever it is
            log.warning("The shards that are under way could not be stopped: %s", error)


async def _in_thread(act: Callable[[], _Result], threads: ThreadPoolExecutor) -> _Result:
    # With the context, by which the triggerer knows whose log a line belongs to.
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(threads, context.run, act)


@functools.cache
def _steps() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_STEP_THREADS, thread_name_prefix="hfreg-follow")


@functools.cache
def _ends() -> ThreadPoolExecutor:
    # Of their own: a task that is killed does not wait behind steps that ask absent workers, ten seconds each.
    return ThreadPoolExecutor(_END_THREADS, thread_name_prefix="hfreg-end")
