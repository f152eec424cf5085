"""The commands that Airflow adds to its own; what they do is imported when they are called."""

from __future__ import annotations

from typing import Any

from airflow.cli.cli_config import ActionCommand, Arg, CLICommand, GroupCommand, lazy_load_command

_COMMANDS = "airflow_provider_hfreg.cli.commands"


def get_hfreg_cli_commands() -> list[CLICommand]:
    """Return ``airflow hfreg`` and what is below it."""
    pool = _argument("--pool", required=True, help="Name of an executor pool of [hfreg] executor_pools")
    processes = _argument("--processes", type=int, help="Default: one for each GPU, else one")
    index = _argument("--index", type=int, help="Of a child process; set by the worker itself")
    return [
        GroupCommand(
            name="hfreg",
            help="Hugging Face registry: executor pools and their workers",
            subcommands=[
                ActionCommand(
                    name="worker",
                    help="Run a resident worker of an executor pool",
                    description="Keeps models loaded and executes shards of batch runs. SIGTERM: it finishes the batch "
                    "of rows it is at, hands its shard back and ends.",
                    func=lazy_load_command(f"{_COMMANDS}.worker"),
                    args=(pool, processes, index),
                ),
                GroupCommand(
                    name="pools",
                    help="Executor pools",
                    subcommands=[
                        ActionCommand(
                            name="list",
                            help="Print the executor pools as configured, defaults filled in, as JSON",
                            func=lazy_load_command(f"{_COMMANDS}.pools_list"),
                            args=(),
                        ),
                        ActionCommand(
                            name="export",
                            help="Print their Airflow pools as JSON for `airflow pools import`",
                            func=lazy_load_command(f"{_COMMANDS}.pools_export"),
                            args=(),
                        ),
                    ],
                ),
                ActionCommand(
                    name="doctor",
                    help="Compare executor pools, the broker and live workers, and say what is missing",
                    description="Exits with 1 if a pool has no worker, or a worker another version of this package.",
                    func=lazy_load_command(f"{_COMMANDS}.doctor"),
                    args=(),
                ),
            ],
        )
    ]


def _argument(flag: str, **options: Any) -> Any:
    return Arg((flag,), **options)  # type: ignore[no-untyped-call]
