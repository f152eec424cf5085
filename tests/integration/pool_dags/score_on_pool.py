"""Score on an executor pool, deferred: every value through the trigger form."""

from __future__ import annotations

from airflow.sdk import Param, dag

from airflow_provider_hfreg.operators.run_model import RunHFModelOperator


@dag(
    schedule=None,
    params={
        "model": Param("", type="string"),
        "input": Param("", type="string"),
        "output": Param("", type="string"),
        "columns": Param({"text": "text"}, type="object"),
        "rows_per_shard": Param(100, type="integer"),
    },
)
def score_on_pool():
    """Wire the task."""
    RunHFModelOperator(
        task_id="score",
        model="{{ params.model }}",
        input_url="{{ params.input }}",
        output_url="{{ params.output }}",
        columns="{{ params.columns }}",
        rows_per_shard="{{ params.rows_per_shard }}",
        executor_pool="cpu",
        deferrable=True,
    )


score_on_pool()
