"""
The commands that Airflow adds to its own; what they do is imported when they are called.

Those of the registry are declared in ``commands.menu``, for both command lines; here they are given to Airflow, with
its connection as the place of the registry. Those of pools and workers read Airflow's configuration and are only here.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable
from typing import Any

from airflow.cli.cli_config import ActionCommand, Arg, CLICommand, GroupCommand, lazy_load_command

from airflow_provider_hfreg.commands.definition import Argument, Command, Group, argument
from airflow_provider_hfreg.commands.menu import MENU
from airflow_provider_hfreg.commands.running import run_command

PROGRAM = "airflow hfreg"
_COMMANDS = "airflow_provider_hfreg.cli.commands"
_CONNECTION = argument(
    "--conn-id", metavar="ID", help="Airflow connection of the registry; default: hfreg_default, unless --registry"
)

_TO_CONNECTION = argument(
    "--to-conn-id", metavar="ID", help="Airflow connection of the registry to copy into, with its own keys"
)


def get_hfreg_cli_commands() -> list[CLICommand]:
    """Return ``airflow hfreg`` and what is below it."""
    pool = _argument("--pool", required=True, help="Name of an executor pool of [hfreg] executor_pools")
    processes = _argument("--processes", type=int, help="Default: one for each GPU, else one")
    index = _argument("--index", type=int, help="Of a child process; set by the worker itself")
    return [
        GroupCommand(
            name="hfreg",
            help="Hugging Face registry: models and versions, executor pools and their workers",
            subcommands=[
                *map(_given_to_airflow, MENU),
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


def _given_to_airflow(entry: Command | Group) -> CLICommand:
    if isinstance(entry, Group):
        return GroupCommand(entry.name, entry.help, subcommands=[*map(_given_to_airflow, entry.commands)])
    return ActionCommand(
        name=entry.name,
        help=entry.help,
        description=entry.description or entry.help,
        epilog=entry.epilog(PROGRAM),
        func=_runner(entry),
        args=[_as_arg(given) for given in (*entry.arguments, *_connections(entry))],
    )


def _connections(command: Command) -> tuple[Argument, ...]:
    """Return Airflow's own way to name each registry that a command has to do with."""
    has_target = any("--to" in given.flags for given in command.arguments)
    return (_CONNECTION, _TO_CONNECTION) if has_target else (_CONNECTION,)


def _runner(command: Command) -> Callable[[Namespace], None]:
    def run(options: Namespace) -> None:
        from airflow_provider_hfreg.cli.places import find_place, find_target  # noqa: PLC0415 - the hook; only here

        status = run_command(command, options, program=PROGRAM, find_place=find_place, find_target=find_target)
        if status:
            sys.exit(status)

    return run


def _as_arg(given: Argument) -> Any:
    return Arg(given.flags, **given.options)  # type: ignore[no-untyped-call]


def _argument(flag: str, **options: Any) -> Any:
    return _as_arg(argument(flag, **options))
