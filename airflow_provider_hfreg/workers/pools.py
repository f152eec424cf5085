"""
An executor pool: a name, the Celery queue behind it, and what each of its workers offers to a model.

Whether a run can be executed there is decided here, before anything is sent: pure, from its request and the version's
manifest. Whose code a worker runs is asked again by the worker, of its own settings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from airflow_provider_hfreg.errors import PoolMismatchError, SettingsError
from airflow_provider_hfreg.pipelines.precisions import ELEMENT_BYTES
from airflow_provider_hfreg.versions.layout import check_name

if TYPE_CHECKING:
    from airflow_provider_hfreg.pipelines.spec import PipelineSpec
    from airflow_provider_hfreg.registry.version import ModelVersion
    from airflow_provider_hfreg.runs.spec import BatchRequest

DEVICES = ("cpu", "cuda")
_GIB = 2**30
_DIGEST = re.compile("sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class ExecutorPool:
    """
    One executor pool.

    :param name: as ``executor_pool=`` of an operator and ``--pool`` of a worker say it.
    :param queue: of Celery, labelled by the hardware behind it; default: ``hfreg.<name>``.
    :param device: ``cpu`` or ``cuda``.
    :param gpu: the GPU's model, for people, such as ``A10``.
    :param cuda_version: newest CUDA runtime that its driver can run, such as ``12.4``; for ``cuda`` alone.
    :param memory_gib: of a worker's device, for weights; None: whatever is free, as the worker finds out itself.
    :param airflow_pool: Airflow pool that bounds how many runs use it at once; default: ``hfreg_<name>``.
    :param slots: of that Airflow pool: runs at a time.
    :param shards_in_flight: most shards of one run that are sent and not done; None: two for each live worker.
    :param threads: of torch on the CPU, in each worker process; None: ``OMP_NUM_THREADS``, or the process's share of
        the container's cores.
    :param trust_remote_code: whether its workers run the Python files that a version holds, where the run consents too:
        False: never. True: any. A list of code digests, as ``show`` prints them: these alone.
    """

    name: str
    queue: str = ""
    device: str = "cpu"
    gpu: str | None = None
    cuda_version: str | None = None
    memory_gib: float | None = None
    airflow_pool: str = ""
    slots: int = 4
    shards_in_flight: int | None = None
    threads: int | None = None
    trust_remote_code: bool | Sequence[str] = False

    def __post_init__(self) -> None:
        check_name(self.name, "executor pool")
        object.__setattr__(self, "queue", self.queue or f"hfreg.{self.name}")
        object.__setattr__(self, "airflow_pool", self.airflow_pool or f"hfreg_{self.name}")
        _require(self, "queue", _is_text(self.queue), "a text")
        _require(self, "airflow_pool", _is_text(self.airflow_pool), "a text")
        _require(self, "device", self.device in DEVICES, "'cpu' or 'cuda'")
        _require(self, "gpu", self.gpu is None or _is_text(self.gpu), "a text")
        _require(self, "memory_gib", self.memory_gib is None or _is_positive(self.memory_gib), "a number above 0")
        _require(self, "slots", _is_count(self.slots), "a whole number from 1 on")
        in_flight = self.shards_in_flight
        _require(self, "shards_in_flight", in_flight is None or _is_count(in_flight), "a whole number from 1 on")
        _require(self, "threads", self.threads is None or _is_count(self.threads), "a whole number from 1 on")
        trusted = self.trust_remote_code
        digests = "true, false, or a list of code digests such as 'sha256:…', which `show` prints"
        _require(self, "trust_remote_code", isinstance(trusted, bool) or _are_digests(trusted), digests)
        cuda = self.cuda_version
        _require(self, "cuda_version", cuda is None or _numbers(cuda) is not None, "a text such as '12.4'")
        if self.device == "cpu" and cuda is not None:
            raise SettingsError(
                f"The executor pool {self.name!r} has device 'cpu' and cuda_version {cuda!r}: drop one."
            )

    @classmethod
    def from_json(cls, name: str, plain: object) -> ExecutorPool:
        """
        Return the pool of a name as settings describe it.

        >>> ExecutorPool.from_json("gpu-a10", {"device": "cuda", "cuda_version": "12.4", "memory_gib": 22}).queue
        'hfreg.gpu-a10'

        :raises SettingsError: an option that there is not, or a value that it cannot have.
        """
        if not isinstance(plain, Mapping):
            raise SettingsError(f"The executor pool {name!r} is {plain!r:.80}; describe it by a table of options.")
        known = [field.name for field in fields(cls) if field.name != "name"]
        for option in plain:
            if option not in known:
                raise SettingsError(
                    f"The executor pool {name!r} has an option {option!r}; there are {', '.join(known)}."
                )
        return cls(name, **plain)

    def to_json(self) -> dict[str, Any]:
        """Return all options, those that were left out too, without the name."""
        return {option: value for option, value in asdict(self).items() if option != "name"}


def check_run(pool: ExecutorPool, version: ModelVersion, request: BatchRequest) -> None:
    """
    Refuse a run that the pool's workers cannot execute as it is asked for.

    :raises PoolMismatchError: the version cannot run there, or not so.
    """
    check_version(pool, version, precision=request.precision)
    check_remote_code(pool, version)
    if request.threads is not None:
        raise PoolMismatchError(
            f"threads is {request.threads}, and the run goes to the executor pool {pool.name!r}, whose workers serve "
            "many runs on one number of threads. Leave it out, or set 'threads' in the pool's options and restart the "
            "workers."
        )


def check_remote_code(pool: ExecutorPool, version: ModelVersion) -> None:
    """
    Refuse a version whose Python files the pool's workers do not run.

    :raises PoolMismatchError: nobody who runs the pool consented to them.
    """
    if not version.spec.remote_code or pool.trust_remote_code is True:
        return
    code = version.manifest.code_digest
    if not isinstance(pool.trust_remote_code, bool) and code in pool.trust_remote_code:
        return
    alone = f", or to [{json.dumps(code)}] for these files alone" if code else ""
    raise PoolMismatchError(
        f"{version.reference} runs Python files of its own, and the workers of the executor pool {pool.name!r} run "
        "none but those that whoever runs them trusts. Read them (`export` writes them into a folder), then set "
        f"trust_remote_code of the pool to true{alone}: in [hfreg] executor_pools of Airflow's configuration, or in "
        "the worker's settings file, where runs are started and on every worker. Restart the workers."
    )


def check_version(pool: ExecutorPool, version: ModelVersion, *, precision: str | None = None) -> None:
    """
    Refuse a version that cannot run on the pool.

    :param precision: that its weights are loaded in; None: the version's own.
    :raises PoolMismatchError: it may not run on a GPU, needs a newer CUDA, or more memory than a worker has.
    """
    needs = version.manifest.options.get("cuda_version")
    if pool.device == "cuda":
        _check_cuda(pool, version.reference, needs)
    weights_gib = _weights_bytes(version.spec, precision) / _GIB
    if pool.memory_gib is not None and weights_gib > pool.memory_gib:
        raise PoolMismatchError(
            f"{version.reference} has {weights_gib:.2f} GiB of weights, and a worker of the executor pool "
            f"{pool.name!r} has {pool.memory_gib:g} GiB. Choose another pool, or a smaller precision such as bfloat16."
        )


def _weights_bytes(spec: PipelineSpec, precision: str | None) -> float:
    own, other = ELEMENT_BYTES.get(spec.dtype or ""), ELEMENT_BYTES.get(precision or "")
    return spec.weights_size_bytes * (other / own if own and other else 1)


def _check_cuda(pool: ExecutorPool, reference: str, needs: Any) -> None:
    if needs is None:
        raise PoolMismatchError(
            f"{reference} was logged with cuda_version=None: it never runs on a GPU, and the executor pool "
            f"{pool.name!r} has GPUs. Choose a CPU pool, or log a version with the CUDA version that it needs."
        )
    offered = _numbers(pool.cuda_version or "")
    if offered is not None and (_numbers(str(needs)) or offered) > offered:
        raise PoolMismatchError(
            f"{reference} needs CUDA {needs}, and the executor pool {pool.name!r} offers {pool.cuda_version}. Choose "
            "another pool, or update the driver of its machines and its cuda_version in the settings."
        )


def _numbers(cuda_version: object) -> tuple[int, int] | None:
    major, _, minor = str(cuda_version).partition(".")
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else None


def _require(pool: ExecutorPool, option: str, holds: bool, expected: str) -> None:  # noqa: FBT001 - private
    if not holds:
        raise SettingsError(
            f"{option} of the executor pool {pool.name!r} is {getattr(pool, option)!r}; it must be {expected}."
        )


def _are_digests(value: object) -> bool:
    if not isinstance(value, Sequence) or isinstance(value, str):
        return False
    return all(isinstance(digest, str) and _DIGEST.fullmatch(digest) for digest in value)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0
