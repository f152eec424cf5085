"""
Loaded models of this process, by the digest of their content: two names of one content share one engine.

A task that is run by columns has one engine; the functions with a given signature share one pipeline object. A version
that has both holds its weights twice while both are used.

Invariants:

- One content is loaded once per device, however many threads ask at the same time.
- Whether the weights fit is asked before anything is downloaded. Where they do not, models that were used least
  recently are let go first; one that a thread still runs stays until that run ends.
- One thread runs an engine at a time: the others wait, since two forwards at once only share the same cores.
- The files of a loaded model stay in the host's cache until it is let go: it may read them again, and mapped ones would
  keep their room on the disk anyway. The cache is brought under its bound then, or at this process' next load where a
  caller let his own pipeline go: nothing tells when he does but the collector of objects, in which no lock is taken.
- A forked child starts with none: torch's threads do not survive a fork.
"""

from __future__ import annotations

import gc
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_hfreg.errors import InvalidOptionError
from airflow_provider_hfreg.pipelines.catalog import find_column_task
from airflow_provider_hfreg.versions.cache import trim_after_readers

if TYPE_CHECKING:
    from airflow_provider_hfreg.inference.calls import AnyEngine
    from airflow_provider_hfreg.pipelines.spec import PipelineSpec
    from airflow_provider_hfreg.registry.version import ModelVersion
    from airflow_provider_hfreg.versions.manifest import ModelFunction


@dataclass(frozen=True)
class Resident:
    """A loaded model behind one function, and the lock to hold while running it; functions of one model share it."""

    engine: AnyEngine
    lock: threading.Lock = field(default_factory=threading.Lock)


# Least recently used first. Consent to remote code is part of the key: who did not give it gets no model that runs it.
# The last part is the precision, where another than the version's own was asked for.
_residents: OrderedDict[tuple[str, str, bool, str, str | None], Resident] = OrderedDict()
_lock = threading.RLock()  # held while loading: two loads at once would each count the same free memory


def get_resident(
    version: ModelVersion,
    function: ModelFunction,
    *,
    device: str | None = None,
    trust_remote_code: bool = False,
    precision: str | None = None,
) -> Resident:
    """
    Return the resident model of a version's content behind one of its functions, loading it if there is none.

    :param precision: to load it in; None for the version's own.
    :raises InvalidOptionError: there is no such precision, or none to choose for a function of a given signature.
    """
    from airflow_provider_hfreg.inference.devices import choose_device  # noqa: PLC0415 - torch
    from airflow_provider_hfreg.inference.numerics import precision_named  # noqa: PLC0415 - torch

    chosen, by_columns = choose_device(device), find_column_task(version.task, function.target_method) is not None
    other = precision_named(precision)
    other = None if other == version.spec.dtype else other
    if other is not None and not by_columns:
        raise InvalidOptionError(
            f"precision is {precision!r}, and {function.target_method!r} of {version.reference} is a method with a "
            f"signature of its own: it computes in the {version.spec.dtype} that it was logged with. Leave it out."
        )
    key = (version.content_digest, chosen, trust_remote_code, function.target_method, other)
    with _lock:
        if key not in _residents:
            _residents[key] = (
                _by_columns(version, chosen, trust_remote_code, other)
                if by_columns
                else _by_calls(version, function, chosen, trust_remote_code)
            )
        _residents.move_to_end(key)
        return _residents[key]


def _by_columns(version: ModelVersion, device: str, trust_remote_code: bool, precision: str | None) -> Resident:  # noqa: FBT001
    from airflow_provider_hfreg.inference.engine import Engine  # noqa: PLC0415 - torch
    from airflow_provider_hfreg.inference.fitting import fitted  # noqa: PLC0415 - torch
    from airflow_provider_hfreg.inference.loading import load_pipeline  # noqa: PLC0415 - torch

    spec = version.spec if precision is None else replace(version.spec, dtype=precision)
    _make_room(spec, device)
    held = version.hold_folder()
    loaded = load_pipeline(held.path, spec, device=device, trust_remote_code=trust_remote_code)
    return Resident(held.while_lives(Engine(loaded, fit=fitted)))


def _by_calls(version: ModelVersion, function: ModelFunction, device: str, trust_remote_code: bool) -> Resident:  # noqa: FBT001
    from airflow_provider_hfreg.inference.calls import CallEngine  # noqa: PLC0415 - torch

    for key, resident in _residents.items():
        if key[:3] == (version.content_digest, device, trust_remote_code) and isinstance(resident.engine, CallEngine):
            pipe, lock = resident.engine.pipe, resident.lock
            break
    else:
        pipe, lock = load_pipeline_object(version, device=device, trust_remote_code=trust_remote_code), threading.Lock()
    return Resident(CallEngine(pipe, function.target_method, function.signature), lock)


def load_pipeline_object(
    version: ModelVersion, *, device: str | None = None, trust_remote_code: bool = False, verify: bool = False
) -> Any:
    """
    Return a callable pipeline of the caller's own: what he does to it changes nobody else's results.

    :param verify: read every byte of this host's copy again, once it is known that the weights fit.
    """
    from airflow_provider_hfreg.inference.devices import choose_device  # noqa: PLC0415 - torch
    from airflow_provider_hfreg.inference.stand_in import load_pipeline_object as load_object  # noqa: PLC0415 - torch

    chosen = choose_device(device)
    with _lock:
        _make_room(version.spec, chosen)
    held = version.hold_folder(verify=verify)
    return held.while_lives(load_object(held.path, version.spec, device=chosen, trust_remote_code=trust_remote_code))


def resident_digests() -> list[str]:
    """Return the content digests of the models that are loaded, the least recently used first."""
    return list(dict.fromkeys(digest for digest, *_ in list(_residents)))


def resident_keys() -> frozenset[tuple[str, str, bool, str, str | None]]:
    """Return what is loaded, and how: digest, device, consent to remote code, method, precision where it is another."""
    return frozenset(_residents)


def release_residents() -> None:
    """Let all resident models go, and bring the host's cache under its bound."""
    with _lock:
        _residents.clear()
    gc.collect()
    trim_after_readers()


def _make_room(spec: PipelineSpec, device: str) -> None:
    """
    Let models of the device go until the weights fit.

    :raises ModelTooLargeError: they do not fit even then.
    """
    from airflow_provider_hfreg.inference.devices import (  # noqa: PLC0415 - torch
        check_memory,
        free_memory_bytes,
        required_bytes,
    )

    required, free = required_bytes(spec), free_memory_bytes(device)  # a millisecond and more: of each control group
    while required > free and (resident := [key for key in _residents if key[1] == device]):
        del _residents[resident[0]]
        gc.collect()
        free = free_memory_bytes(device)
    check_memory(required, free, device=device)


def _forget_in_child() -> None:
    global _lock  # noqa: PLW0603 - the parent's lock may be held by a thread that the child does not have
    _lock = threading.RLock()
    _residents.clear()


os.register_at_fork(after_in_child=_forget_in_child)
