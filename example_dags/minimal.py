"""The shortest DAG: score a folder of texts with the version that an alias points to."""

from airflow.sdk import DAG

from airflow_provider_hfreg.operators.run_model import RunHFModelOperator

with DAG("minimal", schedule="@daily"):
    RunHFModelOperator(
        task_id="score",
        model="sentiment@champion",
        input_url="s3://lake/texts",
        output_url="s3://lake/scores/{{ dag_run.run_after | ds }}",  # a folder of its own for each day
    )
