"""``python -m airflow_provider_hfreg.workers``: a resident worker on a machine without Airflow."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import textwrap
from pathlib import Path

from airflow_provider_hfreg.errors import HfregError
from airflow_provider_hfreg.workers.settings import EXAMPLE, read_settings

_TOLD = """\
A worker keeps models loaded and executes shards of batch runs that operators send to its pool's queue. It is told by
one file of settings: the broker, the keys that messages are signed with, the pools, and the storages that it may touch:

{example}

stop it with SIGTERM: it finishes the batch of rows it is at, hands its shard back and ends, usually within seconds.
"""
_EPILOG = _TOLD.format(example=textwrap.indent(EXAMPLE.strip(), "  "))


def main(arguments: list[str] | None = None) -> int:
    """Run a worker, or print the settings as they are understood; returns an exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_hfreg.workers",
        description="Run a resident worker of an executor pool.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--settings", type=Path, required=True, metavar="FILE", help="TOML file of settings")
    parser.add_argument("--pool", metavar="NAME", help="the executor pool; default: the only one there is")
    parser.add_argument("--processes", type=int, metavar="N", help="default: one for each GPU, else one")
    parser.add_argument("--show", action="store_true", help="print the pools and storages as understood, and end")
    parser.add_argument("--index", type=int, help=argparse.SUPPRESS)  # of a child
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        return _run(options)
    except HfregError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace) -> int:
    settings = read_settings(options.settings)
    if options.show:
        shown = {
            "pools": {name: pool.to_json() for name, pool in settings.pools.items()},
            "storages": [storage.url for storage in settings.storages],
            "cache_folder": None if settings.cache_folder is None else str(settings.cache_folder),
            "cache_size_gib": settings.cache_size_gib,
            "lapse_s": settings.lapse_s,
        }
        print(json.dumps(shown, indent=2))
        return 0
    name = options.pool or (next(iter(settings.pools)) if len(settings.pools) == 1 else "")
    pool = settings.pool(name)
    # After --help and --show: Celery and, in a child, torch.
    from airflow_provider_hfreg.workers.process import run_processes  # noqa: PLC0415

    command = [sys.executable, "-m", "airflow_provider_hfreg.workers", "--settings", str(options.settings)]
    command += ["--pool", pool.name]
    run_processes(settings, pool, command=command, processes=options.processes, index=options.index)
    return 0


if __name__ == "__main__":
    sys.exit(main())
