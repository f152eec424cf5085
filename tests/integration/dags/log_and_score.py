"""Log a folder, score tables with what was logged, and keep what the tasks returned: every value through a template."""

from __future__ import annotations

import json
from pathlib import Path

from airflow.sdk import Param, dag, task

from airflow_provider_hfreg.operators.log_model import LogHFModelOperator
from airflow_provider_hfreg.operators.run_model import RunHFModelOperator


@task
def train(params: dict | None = None) -> dict:
    """Stand for a training task: its folder and metrics reach the next task by XCom."""
    return {"folder": params["model_folder"], "metrics": {"accuracy": 0.91}}


@task
def outputs(params: dict | None = None) -> list[str]:
    """Name the folders that the mapped task writes to."""
    return [f"{params['output_folder']}/{name}" for name in ("first", "second")]


@task
def keep(logged: dict, scored: dict, mapped: list[dict], params: dict | None = None) -> None:
    """Write down what came by XCom."""
    returned = {"logged": logged, "scored": scored, "mapped": list(mapped)}
    Path(params["returned"]).write_text(json.dumps(returned))


@dag(
    schedule=None,
    params={
        "model_folder": Param("", type="string"),
        "input": Param("", type="string"),
        "output_folder": Param("", type="string"),
        "returned": Param("", type="string"),
        "alias": Param("champion", type="string"),
        "rows_per_shard": Param(50_000, type="integer"),
        "max_row_errors": Param(None, type=["null", "number"]),
        "rerun": Param(False, type="boolean"),
        "columns": Param({"text": "body"}, type="object"),
    },
)
def log_and_score():
    """Wire the tasks."""
    trained = train()
    logged = LogHFModelOperator(
        task_id="log",
        model_name="tiny",
        model=trained["folder"],
        task="text-classification",
        metrics=trained["metrics"],
        comment="run {{ run_id }}",
        aliases=["{{ params.alias }}"],
    )
    fields = {
        "input_url": "{{ params.input }}",
        "columns": "{{ params.columns }}",
        "rows_per_shard": "{{ params.rows_per_shard }}",
        "max_row_errors": "{{ params.max_row_errors }}",
        "rerun": "{{ params.rerun }}",
    }
    scored = RunHFModelOperator(
        task_id="score", model=logged.output, output_url="{{ params.output_folder }}/whole", **fields
    )
    mapped = RunHFModelOperator.partial(
        task_id="score_many",
        model="tiny@{{ params.alias }}",
        map_index_template="to {{ task.output_url.rpartition('/')[2] }}",
        **fields,
    ).expand(output_url=outputs())
    logged >> mapped
    keep(logged.output, scored.output, mapped.output)


log_and_score()
