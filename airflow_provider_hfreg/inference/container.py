"""
What the container of this process allows: memory and cores. Loads no torch: a worker's parent asks, too.

A container's limit is not in ``/proc/meminfo``: a pod of 4 GB on a machine of 512 GB is killed at 4 GB. So free memory
is the least of what the machine has and what each control group above this process (v1 or v2) still allows. File cache
counts as free there, because the kernel gives it back before it kills.

The readers take the roots of ``/proc`` and ``/sys/fs/cgroup``, so that they are tried on trees of small files.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


def core_count() -> int:
    """Return the cores this process may use: its affinity, within the container's quota, at least one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *cgroup_cores()]))


def cgroup_free_bytes(proc: Path = PROC, root: Path = CGROUPS) -> list[int]:
    """Return what each control group with a memory limit still allows to this process."""
    free = []
    for folder in _groups("memory", proc, root):
        for limit_name, usage_name, cache_key in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit, usage = _number(folder / limit_name), _number(folder / usage_name)
            if limit is not None and usage is not None:
                free.append(max(0, limit - usage + _statistic(folder / "memory.stat", cache_key)))
    return free


def cgroup_cores(proc: Path = PROC, root: Path = CGROUPS) -> list[int]:
    """Return the cores that each control group with a quota grants, rounded up."""
    cores = []
    for folder in _groups("cpu", proc, root):
        quota, _, period = _text(folder / "cpu.max").partition(" ")
        if not quota:
            quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period):  # "max" and -1 mean: no quota
            cores.append(math.ceil(int(quota) / int(period)))
    return cores


def _groups(controller: str, proc: Path, root: Path) -> Iterator[Path]:
    """Yield the folders of this process's control groups and of those above: a limit on any of them binds."""
    for line in _text(proc / "self" / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = root / controllers if controllers else root
        folder = mount / path.lstrip("/")
        # Inside a container the path is the host's and not there; the mount's own root then is the group.
        yield from (group for group in (folder, *folder.parents) if group.is_relative_to(mount) and group.is_dir())


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdigit() else None


def _statistic(path: Path, key: str) -> int:
    pairs = (line.split() for line in _text(path).splitlines())
    return next((int(pair[1]) for pair in pairs if pair[0] == key), 0)
