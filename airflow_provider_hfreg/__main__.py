"""``python -m airflow_provider_hfreg``: the command line of a registry, without Airflow."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from airflow_provider_hfreg.commands.definition import make_parser
from airflow_provider_hfreg.commands.menu import MENU
from airflow_provider_hfreg.commands.places import find_place, find_target
from airflow_provider_hfreg.commands.running import run_command

PROGRAM = "python -m airflow_provider_hfreg"
_DESCRIPTION = """\
Log, find, run and look after versions of Hugging Face models in a registry on S3 or in a folder.

Every command takes --registry, or $HFREG_REGISTRY; keys come from where boto3 finds them (environment, ~/.aws, the
machine's role), the endpoint of a server that is not Amazon's from $AWS_ENDPOINT_URL. Results go to standard output,
progress and errors to standard error. Exit status: 0 done, 1 an error or something found wrong, 2 wrong usage."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name; returns an exit status."""
    parser = make_parser(
        PROGRAM,
        MENU,
        lambda command, options: run_command(
            command, options, program=PROGRAM, find_place=find_place, find_target=find_target
        ),
        description=_DESCRIPTION,
    )
    options = parser.parse_args(arguments)
    status: int = options.run(options)
    return status


if __name__ == "__main__":
    sys.exit(main())
