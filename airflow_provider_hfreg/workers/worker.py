"""
A resident worker: it obeys signed messages, one shard at a time on one device, with models that stay loaded.

A message's way:

1. verified: signature, age, protocol; output, input and registry within the storages it may touch. Else refused:
   logged, and kept in the status, from where the sender tells it.
2. Its first rows are read, and its model's files fetched, while another shard may still compute.
3. When the device is free the shard is claimed. Whose claim it is already, keeps it.
4. Executed and committed as any shard is; its claim tells how far it is, and in the end how it went.

Told to stop, it finishes the batch it is at and hands the shard back; what waits was never claimed.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from airflow_provider_hfreg import __version__
from airflow_provider_hfreg.errors import (
    DigestMismatchError,
    HfregError,
    MessageRefusedError,
    RunCancelledError,
)
from airflow_provider_hfreg.registry import ModelVersion, Registry
from airflow_provider_hfreg.registry.residency import resident_digests
from airflow_provider_hfreg.runs import layout
from airflow_provider_hfreg.runs.commit import Marker, find_marker
from airflow_provider_hfreg.runs.execute import execute_shard, read_shard
from airflow_provider_hfreg.runs.execution import load_engine
from airflow_provider_hfreg.runs.outputs import read_document
from airflow_provider_hfreg.runs.parts import QuarantinedRow
from airflow_provider_hfreg.runs.plan import RunDocument
from airflow_provider_hfreg.runs.read_ahead import ReadAhead
from airflow_provider_hfreg.runs.report import RowCounts
from airflow_provider_hfreg.runs.row_errors import RowErrorWatch
from airflow_provider_hfreg.runs.tables.windows import TableWindow
from airflow_provider_hfreg.storage.base import ObjectStore
from airflow_provider_hfreg.storage.urls import open_store
from airflow_provider_hfreg.workers.claims import Claim, ClaimError, ClaimState, HeldClaim, take_claim
from airflow_provider_hfreg.workers.messages import PROTOCOL, ShardMessage, verified
from airflow_provider_hfreg.workers.pools import ExecutorPool
from airflow_provider_hfreg.workers.renewal import Renewal
from airflow_provider_hfreg.workers.settings import WorkersSettings
from airflow_provider_hfreg.workers.shard_log import ShardLog

log = logging.getLogger(__name__)

_WINDOW_ROWS = 4096
_RUNS_KEPT = 8
_REFUSALS_KEPT = 20
_POLL_S = 0.2


class Run:
    """
    A run whose shards this worker executes.

    :raises MessageRefusedError: it reaches outside of what the worker may touch.
    """

    def __init__(self, message: ShardMessage, settings: WorkersSettings) -> None:
        self._settings = settings
        self.output = self._open(message.output)
        self.document: RunDocument = read_document(self.output, message.batch_run_id)
        self.inputs = self._open(self.document.input_root)
        settings.access(self.document.version.registry_url)

    def _open(self, url: str) -> ObjectStore:
        return open_store(url, self._settings.access(url).s3)

    @cached_property
    def version(self) -> ModelVersion:
        """
        The run's model version.

        :raises DigestMismatchError: another one has its name now.
        """
        pinned = self.document.version
        access = self._settings.access(pinned.registry_url)
        registry = Registry(pinned.registry_url, s3=access.s3, cache_folder=self._settings.cache_folder)
        version = registry.get_model(pinned.model_name).version(pinned.version_name)
        if version.content_digest != pinned.content_digest:
            raise DigestMismatchError(
                f"{version.reference} holds {version.content_digest}, and the run was planned with "
                f"{pinned.content_digest}. Versions do not change, so the registry was replaced: begin a new run."
            )
        return version


@dataclass
class _Current:
    message: ShardMessage
    renewal: Renewal
    counts: RowCounts
    began_s: float


class ShardWorker:
    """
    Executes shards; see the module.

    :param name: who it is, in claims, logs and errors; unique.
    """

    def __init__(self, settings: WorkersSettings, pool: ExecutorPool, *, name: str) -> None:
        self._settings, self._pool, self.name = settings, pool, name
        self._device = threading.Lock()
        self._stopping = threading.Event()
        self._runs: OrderedDict[tuple[str, str], Run] = OrderedDict()
        self._lock = threading.Lock()
        self._current: _Current | None = None
        self._refused: deque[tuple[str, str]] = deque(maxlen=_REFUSALS_KEPT)
        self._began_s = time.monotonic()

    # --- what Celery's own thread asks

    def status(self) -> Mapping[str, Any]:
        """Return what it is and does, as plain JSON values."""
        current = self._current
        return {
            "worker": self.name,
            "pool": self._pool.name,
            "version": __version__,
            "protocol": PROTOCOL,
            "uptime_s": round(time.monotonic() - self._began_s),
            "models": resident_digests(),
            "running": None
            if current is None
            else {
                "batch_run_id": current.message.batch_run_id,
                "shard": current.message.shard,
                "rows_done": current.counts.rows_in,
                "for_s": round(time.monotonic() - current.began_s),
            },
            "refused": [list(refusal) for refusal in self._refused],
        }

    def look(self) -> None:
        """Look at once whether what it runs is to stop."""
        current = self._current
        if current is not None:
            current.renewal.look()

    def stop(self) -> None:
        """Stop after the current batch, and take nothing new."""
        log.info("%s stops after the current batch of rows, and hands its shard back.", self.name)
        self._stopping.set()

    # --- messages

    def handle(self, text: str) -> None:
        """Execute what a message asks for, or refuse it; never raises for what is the message's fault."""
        try:
            message = verified(text, self._settings.message_keys, max_age_s=2 * self._settings.resend_s)
        except MessageRefusedError as error:
            self._refuse("", error)
            return
        try:
            run = self._run(message)
        except MessageRefusedError as error:
            self._refuse(message.batch_run_id, error)
        except HfregError as error:  # the run is gone, or storage is away: the sender sends again if it still wants it
            log.warning("Shard %d of the run %s was dropped: %s", message.shard, message.batch_run_id, error)
        else:
            self._execute(run, message)

    def _refuse(self, batch_run_id: str, error: MessageRefusedError) -> None:
        log.error("A message was refused: %s", error)
        self._refused.append((batch_run_id, str(error)))

    def _run(self, message: ShardMessage) -> Run:
        key = (message.output, message.batch_run_id)
        with self._lock:
            run = self._runs.pop(key, None)
        run = run or Run(message, self._settings)
        if not 0 <= message.shard < len(run.document.shards):
            raise MessageRefusedError(
                f"The run {message.batch_run_id} has {len(run.document.shards)} shards and the message names "
                f"{message.shard}."
            )
        with self._lock:
            self._runs[key] = run
            while len(self._runs) > _RUNS_KEPT:
                self._runs.popitem(last=False)
        return run

    # --- one shard

    def _execute(self, run: Run, message: ShardMessage) -> None:
        windows = read_shard(run.document, message.shard, run.inputs, window_rows=_WINDOW_ROWS)
        with ReadAhead(windows) as ahead:
            with contextlib.suppress(HfregError):  # met again, and told, once the shard is claimed
                run.version.local_folder()
            with self._device_held() as is_held:
                held = self._claim(run, message) if is_held else None
                if held is not None:
                    self._execute_claimed(run, message, ahead, held)

    @contextlib.contextmanager
    def _device_held(self) -> Iterator[bool]:
        """Wait for the device, or until told to stop."""
        while not self._stopping.is_set():
            if self._device.acquire(timeout=_POLL_S):
                try:
                    yield not self._stopping.is_set()
                finally:
                    self._device.release()
                return
        yield False

    def _claim(self, run: Run, message: ShardMessage) -> HeldClaim | None:
        key = layout.claim_key(message.shard, message.batch_run_id)
        claim = Claim(worker=self.name, sender=message.sender, delivery=message.delivery)
        try:
            held = take_claim(run.output, key, claim, takes_over=message.takes_over)
        except HfregError as error:
            log.warning("Shard %d of the run %s was dropped: %s", message.shard, message.batch_run_id, error)
            return None
        if held is None:
            log.info("Shard %d of the run %s has another worker already.", message.shard, message.batch_run_id)
        return held

    def _execute_claimed(
        self, run: Run, message: ShardMessage, windows: ReadAhead[TableWindow], held: HeldClaim
    ) -> None:
        stopped = layout.stopped_key(message.sender, message.batch_run_id)
        renewal_of = Renewal(
            held,
            is_stopped=lambda: run.output.find_info(stopped) is not None,
            tail=(shard_log := ShardLog()).tail,
            interval_s=message.lapse_s / 3,
        )
        with shard_log, renewal_of as renewal:
            self._current = _Current(message, renewal, RowCounts(), time.monotonic())
            try:
                marker = self._marker(run, message, windows, renewal)
                renewal.end(ClaimState.DONE, counts=marker.counts)
            except RunCancelledError:
                log.info("Shard %d was stopped and is handed back.", message.shard)
                renewal.end(ClaimState.RETURNED)
            except Exception as error:
                if not isinstance(error, HfregError):
                    log.exception("Shard %d of the run %s failed.", message.shard, message.batch_run_id)
                renewal.end(ClaimState.FAILED, error=ClaimError(type(error).__name__, str(error)))
            finally:
                self._current = None

    def _marker(self, run: Run, message: ShardMessage, windows: ReadAhead[TableWindow], renewal: Renewal) -> Marker:
        document, began_s = run.document, time.monotonic()
        # Who takes a claim over may find the part committed: its worker died between the two.
        marker = find_marker(run.output, document, message.shard) if message.takes_over else None
        if marker is not None:
            return marker
        shard = document.shards[message.shard]
        log.info(
            "Shard %d: rows %d to %d, on %s.", shard.index, shard.first_row, shard.first_row + shard.rows, self.name
        )
        self._load(run)
        # A run's bad rows are counted by its sender; here those of one shard alone may be too many.
        watch = RowErrorWatch(document.request, document.rows)

        def observe(counts: RowCounts, quarantined: Sequence[QuarantinedRow]) -> None:
            watch.check(quarantined, counts.rows_quarantined)
            renewal.observe(counts)
            if self._current is not None:
                self._current.counts = counts

        marker = execute_shard(
            document,
            message.shard,
            windows,
            engine=lambda: load_engine(run.version, document),
            inputs=run.inputs,
            output=run.output,
            cancelled=lambda: self._stopping.is_set() or renewal.must_stop(),
            observe=observe,
        )
        elapsed_s = time.monotonic() - began_s
        log.info(
            "Shard %d: %d rows ok, %d quarantined, in %.1f s.",
            shard.index,
            marker.counts.rows_ok,
            marker.counts.rows_quarantined,
            elapsed_s,
        )
        return marker

    @staticmethod
    def _load(run: Run) -> None:
        if not run.document.rows or run.version.content_digest in resident_digests():
            return
        began_s = time.monotonic()
        load_engine(run.version, run.document)
        log.info("Loaded %s in %.1f s.", run.version.reference, time.monotonic() - began_s)
