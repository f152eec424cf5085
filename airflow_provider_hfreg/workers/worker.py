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
import functools
import logging
import os
import signal
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_hfreg import __version__
from airflow_provider_hfreg.errors import (
    DeviceLostError,
    DigestMismatchError,
    HfregError,
    MessageExpiredError,
    MessageRefusedError,
    RunCancelledError,
)
from airflow_provider_hfreg.registry import ModelVersion, Registry
from airflow_provider_hfreg.registry.residency import resident_digests, resident_keys
from airflow_provider_hfreg.runs import layout
from airflow_provider_hfreg.runs.commit import Marker, find_marker
from airflow_provider_hfreg.runs.execute import execute_shard, read_shard
from airflow_provider_hfreg.runs.execution import load_engine, on_threads
from airflow_provider_hfreg.runs.parts import QuarantinedRow
from airflow_provider_hfreg.runs.plan import RunDocument
from airflow_provider_hfreg.runs.read_ahead import ReadAhead
from airflow_provider_hfreg.runs.report import RowCounts
from airflow_provider_hfreg.runs.row_errors import RowErrorWatch
from airflow_provider_hfreg.runs.spec import BatchRequest
from airflow_provider_hfreg.runs.tables.windows import TableWindow
from airflow_provider_hfreg.storage.base import ObjectStore
from airflow_provider_hfreg.storage.urls import open_store
from airflow_provider_hfreg.workers.claims import Claim, ClaimError, ClaimState, HeldClaim, take_claim
from airflow_provider_hfreg.workers.in_hand import Doing, Held, InHand
from airflow_provider_hfreg.workers.messages import (
    PROTOCOL,
    ShardMessage,
    message_id,
    plan_digest,
    verified,
)
from airflow_provider_hfreg.workers.pools import ExecutorPool, check_remote_code
from airflow_provider_hfreg.workers.renewal import Renewal
from airflow_provider_hfreg.workers.settings import WorkersSettings
from airflow_provider_hfreg.workers.shard_log import ShardLog

if TYPE_CHECKING:
    from airflow_provider_hfreg.inference.calls import AnyEngine

log = logging.getLogger(__name__)

_WINDOW_ROWS = 4096
_RUNS_KEPT = 8
_REFUSALS_KEPT = 20
_POLL_S = 0.2


class Run:
    """
    A run whose shards this worker executes.

    :raises MessageRefusedError: it reaches outside of what the worker may touch, or its plan is not the one meant.
    """

    def __init__(self, message: ShardMessage, settings: WorkersSettings) -> None:
        self._settings = settings
        self.output = self._open(message.output)
        key = layout.run_key(message.batch_run_id)
        content = self.output.get(key)
        if plan_digest(content) != message.plan:
            raise MessageRefusedError(
                f"{self.output.location(key)} is not the one that was there when the message was signed. Something "
                "changes the plans of runs; find out what, and begin the run anew."
            )
        self.document = RunDocument.from_bytes(content, where=self.output.location(key))
        self.inputs = self._open(self.document.input_root)
        settings.access(self.document.version.registry_url)

    def _open(self, url: str) -> ObjectStore:
        return open_store(url, self._settings.access(url).s3)

    def document_for(self, message: ShardMessage) -> RunDocument:
        """Return the plan with what this try at the run asks for: it may differ from what the run began with."""
        request = replace(
            self.document.request,
            on_row_error=message.on_row_error,
            max_row_errors=message.max_row_errors,
            token_budget=message.token_budget,
            trust_remote_code=message.trust_remote_code,
        )
        return replace(self.document, request=request)

    @cached_property
    def version(self) -> ModelVersion:
        """
        The run's model version.

        :raises DigestMismatchError: another one has its name now.
        """
        pinned = self.document.version
        access = self._settings.access(pinned.registry_url)
        registry = Registry(
            pinned.registry_url,
            s3=access.s3,
            cache_folder=self._settings.cache_folder,
            cache_size_gib=self._settings.cache_size_gib,
        )
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
        self._runs: OrderedDict[tuple[str, str, str], Run] = OrderedDict()
        self._lock = threading.Lock()
        self._current: _Current | None = None
        self._in_hand = InHand()
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
            "in_hand": self._in_hand.to_json(),
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

    def handle(self, text: str) -> bool:
        """
        Execute what a message asks for, or refuse it; never raises for what is the message's fault.

        :return: whether it is dealt with; False: the worker stops, and somebody else may have it.
        """
        try:
            message = verified(text, self._settings.message_keys)
            # Heard already where the first is in hand: it must not keep the place of one that reads ahead.
            if message.is_repeated and self._in_hand.has(message):
                return True
            with self._in_hand.holding(message) as held:
                return self._execute(self._run(message), message, held)
        except MessageExpiredError as error:
            log.warning("A message was dropped: %s", error)
        except HfregError as error:
            log.error("A message was refused: %s", error)  # noqa: TRY400  it says all that a person needs
            # What may pass is sent again; for the rest its sender asks.
            if not error.retryable:
                self._refused.append((message_id(text), str(error)))
        return True

    def _run(self, message: ShardMessage) -> Run:
        key = (message.output, message.batch_run_id, message.plan)
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

    def _execute(self, run: Run, message: ShardMessage, in_hand: Held) -> bool:
        # Most likely another worker has heard it.
        if message.is_repeated and not self._is_wanted(run, message):
            return True
        windows = read_shard(run.document, message.shard, run.inputs, window_rows=_WINDOW_ROWS)
        with ReadAhead(windows) as ahead:
            with contextlib.suppress(HfregError):  # met again, and told, once the shard is claimed
                run.version.prefetch()
            in_hand.doing = Doing.WAITING
            with self._device_held() as is_held:
                if not is_held:
                    return False
                in_hand.doing = Doing.RUNNING
                held = self._claim(run, message) if self._is_wanted(run, message) else None
                if held is not None:
                    self._execute_claimed(run, message, ahead, held)
        return True

    def _is_wanted(self, run: Run, message: ShardMessage) -> bool:
        """Tell whether the sender still waits for the shard, as far as storage knows."""
        run_id, shard = message.batch_run_id, message.shard
        if run.output.find_info(layout.stopped_key(message.sender, run_id)) is not None:
            return False
        if message.takes_over is None and run.output.find_info(layout.part_key(shard, run_id)) is not None:
            return False  # a late message of a run that is past that
        if message.is_repeated:
            claim = run.output.find_info(layout.claim_key(shard, run_id))
            return (None if claim is None else claim.etag) == message.takes_over
        return True

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
        claim = Claim(worker=self.name, sender=message.sender, delivery=message.delivery, lapse_s=message.lapse_s)
        held = take_claim(run.output, key, claim, takes_over=message.takes_over)
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
                what = "has another worker now" if held.is_lost else "was stopped and is handed back"
                log.info("Shard %d %s.", message.shard, what)
                renewal.end(ClaimState.RETURNED)
            except Exception as error:
                if isinstance(error, HfregError):
                    log.error("Shard %d failed: %s", message.shard, error)  # noqa: TRY400  its traceback says no more
                else:
                    log.exception("Shard %d of the run %s failed.", message.shard, message.batch_run_id)
                renewal.end(ClaimState.FAILED, error=ClaimError(type(error).__name__, str(error)))
                if isinstance(error, DeviceLostError):
                    self._end_process()
            finally:
                self._current = None

    def _marker(self, run: Run, message: ShardMessage, windows: ReadAhead[TableWindow], renewal: Renewal) -> Marker:
        document, began_s = run.document_for(message), time.monotonic()
        # Who takes a claim over may find the part committed: its worker died between the two.
        marker = find_marker(run.output, document, message.shard) if message.takes_over else None
        if marker is not None:
            return marker
        shard = document.shards[message.shard]
        log.info(
            "Shard %d: rows %d to %d, on %s.", shard.index, shard.first_row, shard.first_row + shard.rows, self.name
        )
        engine = functools.cache(lambda: self._engine(run.version, document.request))
        if document.rows:
            engine()  # before the threads are set: loading sets those of the container
        # A run's bad rows are counted by its sender; here those of one shard alone may be too many.
        watch = RowErrorWatch(document.request, document.rows)

        def observe(counts: RowCounts, quarantined: Sequence[QuarantinedRow]) -> None:
            watch.check(quarantined, counts.rows_quarantined)
            renewal.observe(counts)
            if self._current is not None:
                self._current.counts = counts

        with on_threads(self._pool.threads if document.rows else None):
            marker = execute_shard(
                document,
                message.shard,
                windows,
                engine=engine,
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

    def _engine(self, version: ModelVersion, request: BatchRequest) -> AnyEngine:
        """
        Return a version's resident model, in the run's precision.

        :raises PoolMismatchError: it runs Python files that this worker's own settings do not allow, whatever the
            sender's say.
        """
        check_remote_code(self._pool, version)
        before, began_s = resident_keys(), time.monotonic()
        engine = load_engine(version, request, device=self._pool.device)
        if resident_keys() - before:
            how = f" in {request.precision}" if request.precision else ""
            log.info("Loaded %s%s in %.1f s.", version.reference, how, time.monotonic() - began_s)
        return engine

    def _end_process(self) -> None:
        """End, in order: whoever keeps the worker alive starts another one, whose device is well."""
        log.error("%s ends, because its device is lost to this process.", self.name)
        self._stopping.set()
        os.kill(os.getpid(), signal.SIGTERM)
