"""A run on the executor pool ``cpu``, of a table and into a folder that the trigger names: what ``make soak`` kills."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param

from airflow_provider_hfreg.operators.run_model import RunHFModelOperator

with DAG(
    "soak",
    schedule=None,
    catchup=False,
    params={
        "model": Param("soak/v1", type="string"),
        "input_url": Param("", type="string"),
        "output_url": Param("", type="string"),
        "rows_per_shard": Param(5_000, type="integer"),
    },
):
    RunHFModelOperator(
        task_id="score",
        model="{{ params.model }}",
        input_url="{{ params.input_url }}",
        output_url="{{ params.output_url }}",
        rows_per_shard="{{ params.rows_per_shard }}",
        passthrough=["id"],
        output_prefix="predicted_",
        executor_pool="cpu",
        pool="hfreg_cpu",
        # Airflow takes a task that cannot be put into the queue for a try, so a broker that is away costs some too.
        retries=6,
        retry_delay=timedelta(seconds=5),
    )
