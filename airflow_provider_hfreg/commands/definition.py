"""
What a declaration of a command is, and the plain parser made of a tree of them.

One declaration serves two command lines: :func:`make_parser` gives argparse's, and ``cli.definition`` hands the same
flags and options to Airflow's. Invariant: nothing is imported for a declaration, so that Airflow can list the commands
in every process; what a command does is named by its import path and loaded when it runs.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Argument:
    """
    One argument.

    :param flags: ``("--json",)``, or one name without dashes for a place.
    :param options: as ``argparse.ArgumentParser.add_argument`` takes them.
    """

    flags: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


def argument(*flags: str, **options: Any) -> Argument:
    """
    Return an argument.

    >>> argument("--yes", action="store_true", help="do it").flags
    ('--yes',)
    """
    return Argument(flags, options)


@dataclass(frozen=True)
class Command:
    """
    One command.

    :param help: one line, for the list of commands.
    :param work: ``module:function`` below this package; the function takes an ``Asked`` and returns a ``Reply``.
    :param description: what a person reads who asks for help at night: what it does, what it does not, what comes out.
    :param examples: command lines without the program's name.
    """

    name: str
    help: str
    work: str
    arguments: tuple[Argument, ...] = ()
    description: str = ""
    examples: tuple[str, ...] = ()

    def load(self) -> Callable[..., Any]:
        """Import and return the function that does the work."""
        module, _, name = self.work.partition(":")
        work: Callable[..., Any] = getattr(importlib.import_module(f"{__package__}.{module}"), name)
        return work

    def epilog(self, program: str) -> str:
        """Return the examples as a person would type them."""
        if not self.examples:
            return ""
        return "\n".join(["examples:", *(f"  {program} {example}" for example in self.examples)])


@dataclass(frozen=True)
class Group:
    """Commands under one word."""

    name: str
    help: str
    commands: tuple[Command, ...]


Run = Callable[[Command, argparse.Namespace], int]
"""Runs a command with its options and returns an exit status."""


def make_parser(
    program: str,
    menu: Sequence[Command | Group],
    run: Run,
    *,
    description: str,
) -> argparse.ArgumentParser:
    """
    Return argparse's parser of a menu; ``parse_args(…).run()`` runs the chosen command and returns its exit status.

    :param program: how the program is called, for its help.
    """
    parser = _plain_parser(program, description)
    _add(parser, program, menu, run)
    return parser


def _add(
    parser: argparse.ArgumentParser,
    program: str,
    menu: Sequence[Command | Group],
    run: Run,
) -> None:
    choices = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=argparse.ArgumentParser)
    for entry in menu:
        inner = choices.add_parser(
            entry.name,
            help=entry.help,
            description=entry.help if isinstance(entry, Group) else entry.description or entry.help,
            epilog=None if isinstance(entry, Group) else entry.epilog(program),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if isinstance(entry, Group):
            _add(inner, f"{program} {entry.name}", entry.commands, run)
            continue
        for given in entry.arguments:
            inner.add_argument(*given.flags, **given.options)
        inner.set_defaults(run=_runner(entry, run))


def _runner(command: Command, run: Run) -> Callable[..., int]:
    return lambda options: run(command, options)


def _plain_parser(program: str, description: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=program, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
