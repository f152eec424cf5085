"""Airflow's own pools, which bound how many runs use an executor pool at once: as they should be, and as they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from airflow_provider_hfreg.workers.pools import ExecutorPool

_IMPORT = "airflow hfreg pools export > pools.json && airflow pools import pools.json"


def exported(pools: Iterable[ExecutorPool]) -> dict[str, dict[str, Any]]:
    """
    Return what ``airflow pools import`` reads.

    >>> exported([ExecutorPool("gpu-a10", slots=2)])["hfreg_gpu-a10"]["slots"]
    2
    """
    # A deferred task holds its slot: else the pool would stop bounding the runs that wait in the triggerer.
    return {
        pool.airflow_pool: {
            "slots": pool.slots,
            "description": f"Runs at a time on the executor pool {pool.name}",
            "include_deferred": True,
        }
        for pool in pools
    }


def find_airflow_pools() -> dict[str, tuple[int, bool]] | None:
    """
    Return Airflow's pools by name, each with its slots and whether deferred tasks hold one.

    None where Airflow's database cannot be asked, as on a machine that only has workers.
    """
    from airflow.api.client import get_current_api_client  # noqa: PLC0415 - only where it is asked for
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

    try:
        client: Any = get_current_api_client()  # of no types
        found = client.get_pools()
    except SQLAlchemyError:
        return None
    return {name: (slots, includes_deferred) for name, slots, _, includes_deferred, _ in found}


def remarks_on(pools: Iterable[ExecutorPool], found: Mapping[str, tuple[int, bool]] | None) -> Iterator[str]:
    """
    Tell what is to know of the Airflow pools and harms nobody, or only tasks that name them.

    >>> print(*remarks_on([ExecutorPool("cpu")], {"default_pool": (128, False)}))
    There is no Airflow pool hfreg_cpu: a task that names it would never be scheduled. Make it: airflow hfreg pools \
export > pools.json && airflow pools import pools.json
    """
    if found is None:
        yield "The Airflow pools were not compared: Airflow's database cannot be asked from here."
        return
    for name in exported(pools):
        if name not in found:
            yield f"There is no Airflow pool {name}: a task that names it would never be scheduled. Make it: {_IMPORT}"


def ills_of(pools: Iterable[ExecutorPool], found: Mapping[str, tuple[int, bool]] | None) -> Iterator[str]:
    """
    Tell where Airflow pools are there and not as the executor pools say.

    >>> list(ills_of([ExecutorPool("cpu")], {"hfreg_cpu": (4, True), "default_pool": (128, False)}))
    []
    >>> print(*ills_of([ExecutorPool("cpu", slots=2)], {"hfreg_cpu": (4, False)}))
    The Airflow pool hfreg_cpu has 4 slots, deferred tasks not counted; configured are 2 slots. Import it: airflow \
hfreg pools export > pools.json && airflow pools import pools.json
    """
    for name, pool in exported(pools).items():
        slots, includes_deferred = (found or {}).get(name, (pool["slots"], True))
        if slots != pool["slots"] or not includes_deferred:
            there = f"{slots} slots" + ("" if includes_deferred else ", deferred tasks not counted")
            yield f"The Airflow pool {name} has {there}; configured are {pool['slots']} slots. Import it: {_IMPORT}"
