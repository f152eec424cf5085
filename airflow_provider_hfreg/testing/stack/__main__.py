"""
The command line of a stack: ``python -m airflow_provider_hfreg.testing.stack up|down|kill …``.

``make stack`` and ``make stack-down`` call it; ``kill`` is for whoever wants to see what a part's loss does.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from airflow_provider_hfreg.errors import HfregError
from airflow_provider_hfreg.testing.stack.client import RunningStack, down, up

_SUMMARY = """
The stack is up.

  Airflow        {ui_url} (no password; this machine alone reaches it)
  S3             {s3_endpoint_url}, bucket {bucket_url}
  its keys       {path}/environment.sh, in AIRFLOW_CONN_HFREG_DEFAULT
  a nightly run  . {path}/environment.sh
                 airflow dags unpause sentiment_nightly
                 airflow dags trigger sentiment_nightly --conf '{{"executor_pool": "cpu"}}'
  workers        . {path}/environment.sh; airflow hfreg doctor
  logs           {path}/logs, of tasks {path}/airflow/logs
  stop it        {stop}
"""


def main(words: list[str]) -> int:
    """Do what the command line says, and return the status to exit with."""
    options = _parser().parse_args(words)
    try:
        if options.action == "serve":
            from airflow_provider_hfreg.testing.stack.supervisor import serve  # noqa: PLC0415 - Celery, Redis

            return serve(options.folder, options.dags)
        if options.action == "up":
            print(_summary(up(options.folder, options.dags, print), options.stop_with))
        elif options.action == "kill":
            RunningStack(options.folder.resolve()).kill(options.part, away_s=options.away)
        else:
            down(options.folder, print)
    except HfregError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("The stack goes on starting by itself; `down` ends it.", file=sys.stderr)
        return 130
    return 0


def _summary(stack: RunningStack, stop: str | None) -> str:
    state = stack.state
    return _SUMMARY.format(
        ui_url=state.ui_url,
        s3_endpoint_url=state.s3_endpoint_url,
        bucket_url=state.bucket_url,
        path=stack.path,
        stop=stop or f"python -m airflow_provider_hfreg.testing.stack down {stack.path}",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m airflow_provider_hfreg.testing.stack", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    for name, help_text in {
        "up": "start it, or say that it is up",
        "down": "end it",
        "kill": "kill a part with -9",
        "serve": "be its supervisor",
    }.items():
        action = actions.add_parser(name, help=help_text)
        action.add_argument("folder", type=Path, help="where everything of it lies")
        if name in ("up", "serve"):
            action.add_argument("--dags", type=Path, action="append", default=[], help="a folder of DAGs; repeatable")
        if name == "up":
            action.add_argument("--stop-with", help="the command to name for its end")
        if name == "kill":
            action.add_argument("part", help="such as redis, seaweedfs, worker-1, scheduler")
            action.add_argument("--away", type=float, default=0.0, help="seconds before it is started again")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
