"""Running a version as a task: fields of every form, resuming, clearing, storage of its own."""

from __future__ import annotations

import json
import logging

import pyarrow.parquet as pq
import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_hfreg.errors import RunCancelledError, SettingsError
from airflow_provider_hfreg.operators.run_model import RunHFModelOperator
from airflow_provider_hfreg.testing.models import text_classifier_with_code


def output_of(report):
    return pq.read_table(report["output"].removeprefix("file://")).sort_by("id")


def test_a_table_is_scored_and_the_report_is_small_and_plain(run_task, logged, context):
    report = run_task().execute(context())
    assert report == json.loads(json.dumps(report))
    assert (report["rows_in"], report["rows_ok"], report["rows_quarantined"]) == (6, 5, 1)
    assert (report["version_name"], report["content_digest"]) == ("v1", logged.content_digest)
    assert output_of(report)["id"].to_pylist() == [0, 1, 3, 4, 5]
    assert {"id", "body", "label", "score"} <= set(output_of(report).column_names)


def test_fields_that_come_as_text_mean_what_they_say(run_task, logged, context):
    report = run_task(
        model=str(logged.to_reference()),
        columns="{'text': 'body'}",
        passthrough="[]",
        output_prefix="predicted_",
        rows_per_shard="2",
        max_row_errors="0.5",
        token_budget="None",
        precision="None",
        threads="",
        seed="7",
        rerun="False",
        input_format="parquet",
        model_params="",
        storage_conn_id="",
    ).execute(context())
    assert (report["shards_total"], report["seed"]) == (3, 7)
    names = pq.read_table(report["output"].removeprefix("file://")).column_names
    assert names == ["predicted_label", "predicted_score"]


def test_lists_of_objects_are_written_as_text_or_as_structs(run_task, registry, model_folder, context):
    lists = registry.log_folder(
        model_folder, model_name="lists", task="text-classification", pipeline_kwargs={"top_k": 2}
    ).to_reference()
    texts = output_of(run_task(model=lists, output_format="").execute(context("a")))["outputs"]
    structs = output_of(
        run_task(model=lists, output_format=" struct ", if_output_exists="replace").execute(context("b"))
    )
    assert structs["outputs"].to_pylist() == [json.loads(text) for text in texts.to_pylist()]
    assert str(structs.schema.field("outputs").type) == "list<element: struct<label: string, score: double>>"


def test_a_finished_run_is_returned_as_it_is_and_rerun_forces(run_task, context):
    first = run_task().execute(context())
    again = run_task().execute(context())
    assert (first["status"], again["status"]) == ("completed", "already_completed")
    assert again["batch_run_id"] == first["batch_run_id"]
    forced = run_task(rerun="True", if_output_exists="replace").execute(context())
    assert forced["status"] == "completed"
    assert forced["batch_run_id"] != first["batch_run_id"]


def test_a_moved_alias_gives_a_new_run(run_task, registry, context):
    first = run_task().execute(context())
    registry.get_model("tiny").set_alias("champion", "v2")
    second = run_task(if_output_exists="replace").execute(context())
    assert (first["version_name"], second["version_name"]) == ("v1", "v2")
    assert second["batch_run_id"] != first["batch_run_id"]


def test_two_map_indexes_are_two_runs(run_task, context, tmp_path):
    outputs = [str(tmp_path / "a"), str(tmp_path / "b")]
    reports = [run_task(output_url=url).execute(context(map_index=index)) for index, url in enumerate(outputs)]
    assert len({report["batch_run_id"] for report in reports}) == 2


class KillOnce(logging.Handler):
    """Kill a task, as Airflow's signal handler does, when its run has been planned."""

    def __init__(self, task):
        super().__init__()
        self.task = task

    def emit(self, record):
        if record.getMessage().startswith("planned"):
            self.task.on_kill()


def test_killed_in_the_middle_it_stops_between_batches_and_a_retry_goes_on(run_task, context):
    task = run_task(rows_per_shard=1)
    log = logging.getLogger("airflow_provider_hfreg.operators.run_model")
    handler = KillOnce(task)
    log.addHandler(handler)
    try:
        with pytest.raises(RunCancelledError):
            task.execute(context())
    finally:
        log.removeHandler(handler)
    report = run_task(rows_per_shard=1).execute(context())
    assert (report["status"], report["rows_ok"]) == ("completed", 5)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"model": "huge"}, "huge"),
        ({"model": "tiny/v9"}, "v9"),
        ({"model": "tiny@nobody"}, "nobody"),
        ({"model": {"model_name": "tiny"}}, "version_name"),
        ({"model": ""}, "model is needed"),
        ({"columns": {"text": "sentence"}}, "sentence"),
        ({"columns": {}}, "text"),
        ({"input_url": "/no/such/table.parquet"}, "/no/such"),
        ({"input_url": "texts.parquet"}, "texts.parquet"),
        ({"output_url": "None"}, "output_url is needed"),
        ({"rows_per_shard": "many"}, "rows_per_shard"),
        ({"max_row_errors": "0"}, "1"),
        ({"if_output_exists": "overwrite"}, "if_output_exists"),
        ({"precision": "int8"}, "precision must be one of float32, bfloat16, float16, fp32, bf16, fp16, or None"),
        ({"threads": "0"}, "threads must be None or a whole number from 1 on, not 0"),
        ({"trust_remote_code": "{{ params.trust }}"}, "trust_remote_code must be True or False"),
        ({"output_format": "arrow"}, "output_format must be one of json, struct, not 'arrow'"),
        ({"model_params": {"no_such_parameter": "1"}}, "no_such_parameter"),
        ({"function_name": "embed"}, "embed"),
        ({"storage_conn_id": "nowhere"}, "AIRFLOW_CONN_NOWHERE"),
    ],
)
def test_wrong_fields_fail_for_good_in_one_paragraph(run_task, context, wrong, said):
    with pytest.raises(AirflowFailException) as failed:
        run_task(**wrong).execute(context())
    assert said in str(failed.value)
    assert "\n" not in str(failed.value)


def test_tables_may_lie_on_a_storage_of_their_own(run_task, table, context, seaweedfs, s3_url, monkeypatch):
    from airflow_provider_hfreg.storage.urls import open_store

    lake = {"conn_type": "hfreg", "login": seaweedfs.access_key, "password": seaweedfs.secret_key}
    lake["extra"] = {"endpoint_url": seaweedfs.endpoint_url}
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", json.dumps(lake))
    open_store(s3_url, seaweedfs.settings()).upload("in/texts.parquet", table)
    report = run_task(input_url=f"{s3_url}/in/*.parquet", output_url=f"{s3_url}/out", storage_conn_id="lake").execute(
        context()
    )
    assert (report["output"], report["rows_ok"]) == (f"{s3_url}/out", 5)


def test_all_but_what_airflow_owns_is_a_template_field():
    import inspect

    ours = set(inspect.signature(RunHFModelOperator.__init__).parameters) - {"self", "kwargs"}
    ours -= {"run_in", "deferrable"}  # decide the task's queue when the DAG is parsed, and what Airflow does with it
    ours -= {"trust_remote_code"}  # whoever fills in a trigger form does not choose whether code runs
    assert ours == set(RunHFModelOperator.template_fields)


def test_a_task_runs_in_the_precision_and_on_the_threads_that_its_fields_render_to(run_task, context):
    own = run_task().execute(context())
    task = run_task(precision="{{ 'bf16' }}", threads="{{ 1 + 1 }}", if_output_exists="replace")
    task.render_template_fields(context())
    report = task.execute(context("other"))
    assert (report["precision"], report["threads"]) == ("bfloat16", [2])
    assert "8 significant bits" in report["numerics"]
    assert own["precision"] == "float32"


@pytest.fixture
def coded(registry, tmp_path):
    return registry.log_folder(
        text_classifier_with_code(tmp_path / "coded"),
        model_name="coded",
        version_name="v1",
        task="text-classification",
        trust_remote_code=True,
    )


def test_a_task_runs_a_versions_own_code_with_consent_alone(run_task, context, coded):
    with pytest.raises(AirflowFailException, match=r"coded/v1 runs Python files .*trust_remote_code=True in the run"):
        run_task(model="coded/v1").execute(context())
    report = run_task(model="coded/v1", trust_remote_code=True).execute(context())
    assert (report["rows_ok"], report["model_name"]) == (5, "coded")


# --- on an executor pool


def test_a_task_on_a_pool_is_told_that_the_pool_trusts_no_code_and_that_its_threads_are_the_pools(
    run_task, context, coded, pool
):
    with pytest.raises(
        AirflowFailException, match=r"set trust_remote_code of the pool to true, or to \[.*\] for these"
    ):
        run_task(model="coded/v1", trust_remote_code=True, executor_pool="cpu").execute(context())
    with pytest.raises(AirflowFailException, match="threads is 2, and the run goes to the executor pool 'cpu'"):
        run_task(threads=2, executor_pool="cpu").execute(context())


def test_a_task_on_a_pool_gives_the_same_report_and_rows(run_task, context, pool, tmp_path):
    here = run_task(output_url=str(tmp_path / "here"), rows_per_shard=2).execute(context("here"))
    there = run_task(executor_pool="cpu", rows_per_shard=2).execute(context("there"))
    same = ("rows_in", "rows_ok", "rows_quarantined", "content_digest")
    assert {name: there[name] for name in same} == {name: here[name] for name in same}
    assert there["shards_total"] == 3
    assert output_of(there).equals(output_of(here))
    assert "Loaded tiny/v1" in pool.log_text()


def test_a_task_routed_to_a_pool_runs_in_its_own_process(run_task, context, monkeypatch):
    monkeypatch.setenv("AIRFLOW__HFREG__EXECUTOR_POOLS", '{"gpu-a10": {"device": "cuda"}}')
    task = run_task(executor_pool="gpu-a10", run_in="task")
    assert (task.queue, task.pool) == ("hfreg.gpu-a10", "hfreg_gpu-a10")
    assert task.execute(context())["rows_ok"] == 5


def test_a_mapped_task_is_routed_to_a_pool_before_it_is_mapped(monkeypatch):
    monkeypatch.setenv("AIRFLOW__HFREG__EXECUTOR_POOLS", '{"gpu-a10": {"device": "cuda"}}')
    fields = {"task_id": "task", "model": "tiny", "output_url": "/out/{{ ti.map_index }}", "run_in": "task"}
    mapped = RunHFModelOperator.partial(executor_pool="gpu-a10", **fields).expand(input_url=["/a", "/b"])
    assert (mapped.queue, mapped.pool) == ("hfreg.gpu-a10", "hfreg_gpu-a10")
    one = mapped.unmap({"input_url": "/b"})
    assert (one.queue, one.pool, one.input_url) == ("hfreg.gpu-a10", "hfreg_gpu-a10", "/b")
    given = RunHFModelOperator.partial(executor_pool="gpu-a10", pool="mine", **fields).expand(input_url=["/a"])
    assert (given.queue, given.pool) == ("hfreg.gpu-a10", "mine")


def test_a_mapped_task_cannot_be_routed_to_a_pool_of_each_instance():
    fields = {"task_id": "task", "model": "tiny", "input_url": "/a", "output_url": "/out", "run_in": "task"}
    with pytest.raises(SettingsError, match=r"partial\(run_in='task'\) needs its executor_pool beside it"):
        RunHFModelOperator.partial(**fields)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"executor_pool": "gpu"}, "broker_url must be a URL"),
        ({"executor_pool": "cpu", "run_in": "worker"}, "run_in is 'worker'; write one of 'workers', 'task'"),
    ],
)
def test_a_pool_that_cannot_be_fails_without_a_retry(run_task, context, fields, told):
    with pytest.raises(AirflowFailException, match=told):
        run_task(**fields).execute(context())


def test_without_celery_a_task_on_a_pool_is_told_what_to_install(run_task, context, monkeypatch):
    import sys

    monkeypatch.setenv("AIRFLOW__HFREG__BROKER_URL", "redis://redis/5")
    monkeypatch.setenv("AIRFLOW__HFREG__MESSAGE_KEYS", "a key that is long enough")
    monkeypatch.setenv("AIRFLOW__HFREG__EXECUTOR_POOLS", '{"cpu": {}}')
    monkeypatch.delitem(sys.modules, "airflow_provider_hfreg.workers.client", raising=False)
    monkeypatch.setitem(sys.modules, "airflow_provider_hfreg.workers.app", None)
    with pytest.raises(AirflowFailException, match=r"pip install 'airflow-provider-hfreg\[celery\]'"):
        run_task(executor_pool="cpu").execute(context())
