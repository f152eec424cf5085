"""
### A model's whole way, every night

Prepare a table → fine-tune a classifier on part of it → log it as a version → let it pass a gate → score the whole
table with it → report.

Every field of the trigger form changes one thing: under which name and version the model is logged, which table is
scored, where the results go, how long it is trained and how good it must be. A task that is cleared and run again finds
what it did before: the table, the trained model, the version, and every shard that was scored.

The registry is the one of the connection `hfreg_default`.
"""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_hfreg.hooks.hfreg import HFRegistryHook
from airflow_provider_hfreg.operators.log_model import LogHFModelOperator
from airflow_provider_hfreg.operators.run_model import RunHFModelOperator

log = logging.getLogger(__name__)

WORKSPACE = (Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser() / "sentiment").as_uri()

PARAMS = {
    "model_name": Param(
        "sentiment",
        type="string",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        title="Model name",
        description="The name under which the version is logged.",
        section="Model",
    ),
    "version_name": Param(
        None,
        type=["null", "string"],
        title="Version name",
        description="Empty: the run's date and a few letters of its own, the same on every retry.",
        section="Model",
    ),
    "alias": Param(
        "champion",
        type="string",
        title="Alias",
        description="Points to the version once it has passed the gate; scoring elsewhere follows it.",
        section="Model",
    ),
    "min_accuracy": Param(
        0.70,
        type="number",
        minimum=0,
        maximum=1,
        title="Minimum accuracy",
        description="On the texts held out of training. Below it the run fails, and the alias stays where it was.",
        section="Model",
    ),
    "epochs": Param(
        2,
        type="integer",
        minimum=1,
        maximum=20,
        title="Epochs",
        description="How many times the training texts are gone through.",
        section="Training",
    ),
    "train_rows": Param(
        None,
        type=["null", "integer"],
        minimum=100,
        title="Training rows",
        description="Learn from that many texts only. Empty: from all 17,500.",
        section="Training",
    ),
    "workspace_url": Param(
        WORKSPACE,
        type="string",
        title="Workspace",
        description="Folder of the prepared table and the trained models: s3://bucket/prefix or file:///folder.",
        section="Tables",
    ),
    "input_url": Param(
        None,
        type=["null", "string"],
        title="Input",
        description="What to score: Parquet, CSV or JSON lines with a column 'text'; a file, a folder or a glob. "
        "Empty: the prepared table.",
        section="Tables",
    ),
    "output_url": Param(
        None,
        type=["null", "string"],
        title="Output",
        description="Folder of the results. Empty: one of this run's own in the workspace.",
        section="Tables",
    ),
    "if_output_exists": Param(
        "error",
        type="string",
        enum=["error", "replace", "append"],
        title="If the output folder holds another run's results",
        description="Stop, take their place, or stand beside them.",
        section="Tables",
    ),
    "executor_pool": Param(
        None,
        type=["null", "string"],
        title="Executor pool",
        description="Name of a pool whose resident workers score the table. Empty: the task's own process.",
        section="Tables",
    ),
}


@task
def prepare() -> str:
    """Make sure that the table of rated texts is in the workspace, and return its URL."""
    from sentiment_workspace import ensure_table

    return ensure_table(get_current_context()["params"]["workspace_url"], HFRegistryHook().s3_settings)


@task
def fine_tune() -> dict[str, Any]:
    """Train on the prepared table, unless this was done already; return the model's folder and its metrics."""
    from sentiment_workspace import Settings, ensure_model

    params = get_current_context()["params"]
    settings = Settings(epochs=params["epochs"], train_rows=params["train_rows"])
    return ensure_model(params["workspace_url"], settings, HFRegistryHook().s3_settings)


@task
def gate(logged: dict[str, Any]) -> dict[str, Any]:
    """Let a version pass if it is accurate enough, point the alias to it, and return it as it was given."""
    params = get_current_context()["params"]
    registry = HFRegistryHook().registry
    version = registry.resolve(logged)
    accuracy, needed = version.metrics["accuracy"], params["min_accuracy"]
    if accuracy < needed:
        raise AirflowFailException(
            f"{version.reference} has an accuracy of {accuracy:.4f} on the texts held out, and {needed} is needed: it "
            f"stays logged, but {params['alias']!r} was not pointed to it and nothing was scored. Train it longer "
            f"(epochs), or ask for less (min_accuracy)."
        )
    registry.get_model(version.model_name).set_alias(params["alias"], version.version_name)
    log.info("%s passed with %.4f and is %s@%s now.", version.reference, accuracy, version.model_name, params["alias"])
    return logged


@task
def report(run: dict[str, Any]) -> None:
    """Write what the run came to into the log, as a table."""
    from sentiment_report import describe
    from sentiment_workspace import read_results

    results = read_results(run["output"], HFRegistryHook().s3_settings)
    log.info("The run came to\n\n%s\n", describe(run, results))


@dag(
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    params=PARAMS,
    tags=["example", "hfreg"],
    doc_md=__doc__,
)
def sentiment_nightly() -> None:
    """Wire the tasks."""
    table_url = prepare()
    trained = fine_tune()
    logged = LogHFModelOperator(
        task_id="log",
        model=trained["folder_url"],
        task="text-classification",
        pipeline_kwargs={"truncation": True},
        model_name="{{ params.model_name }}",
        version_name="{{ params.version_name }}",
        metrics=trained["metrics"],
        comment="A BERT of two layers, trained from random weights on rated snippets.",
    )
    passed = gate(logged.output)
    scored = RunHFModelOperator(
        task_id="score",
        model=passed,
        input_url="{{ params.input_url or ti.xcom_pull(task_ids='prepare') }}",
        output_url="{{ params.output_url or params.workspace_url ~ '/scored/' ~ "
        "dag_run.run_after.strftime('%Y%m%dT%H%M%S') }}",
        output_prefix="predicted_",  # the table has a column "label" of its own
        if_output_exists="{{ params.if_output_exists }}",
        rows_per_shard=4_000,
        executor_pool="{{ params.executor_pool or '' }}",
        retries=2,
        retry_delay=timedelta(seconds=30),
    )
    table_url >> trained
    report(scored.output)


nightly = sentiment_nightly()
