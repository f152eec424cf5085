"""Logging as a task: from a folder, from a callable; on a retry, on a clear."""

from __future__ import annotations

import json
import sys

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_hfreg.errors import SettingsError
from airflow_provider_hfreg.operators.log_model import LogHFModelOperator
from airflow_provider_hfreg.storage.urls import open_store
from airflow_provider_hfreg.testing.encoder_models import sentence_embedder
from airflow_provider_hfreg.testing.servers import rclone_s3


def build_pipeline(folder, top_k=None):
    """What a user's own module would hold."""
    from airflow_provider_hfreg.inference import pipeline

    return pipeline("text-classification", model=str(folder), top_k=top_k)


def log_task(**kwargs):
    task = {} if "pipeline_callable" in kwargs else {"task": "text-classification"}
    return LogHFModelOperator(**({"task_id": "task", "model_name": "tiny"} | task | kwargs))


def test_a_folder_is_logged_with_all_that_is_said_about_it(registry, model_folder, context):
    returned = log_task(
        model=str(model_folder),
        version_name="v1",
        pipeline_kwargs='{"top_k": 2}',
        metrics={"accuracy": "0.91"},
        tags={"team": "growth"},
        comment="first",
        training_data=["s3://lake/train"],
        options="{'cuda_version': None}",
        aliases="champion, candidate",
        set_default="True",
    ).execute(context())
    version = registry.resolve("tiny@champion")
    assert returned == json.loads(json.dumps(returned)) == version.to_reference() | {"created": True}
    assert (returned["model_name"], returned["version_name"]) == ("tiny", "v1")
    assert (version.metrics, version.tags, version.comment) == ({"accuracy": 0.91}, {"team": "growth"}, "first")
    assert version.signature().outputs[0].name == "outputs"  # top_k arrived
    assert registry.get_model("tiny").aliases() == {"champion": "v1", "candidate": "v1"}
    assert registry.get_model("tiny").default.version_name == "v1"
    lineage = version.lineage()
    assert lineage.logged_by == {"dag_id": "nightly", "task_id": "task", "run_id": "manual__1"}
    assert lineage.training_data == ["s3://lake/train"]


def test_a_folder_of_sentence_transformers_says_itself_how_it_pools(registry, tmp_path, context):
    folder = sentence_embedder(tmp_path / "embedder", pooling="lasttoken")
    log_task(model=str(folder), task="feature-extraction", version_name="v1").execute(context())
    assert registry.resolve("tiny/v1").spec.parameters == {"pooling": "last", "normalize": True}


def test_a_retry_finds_the_version_of_the_first_try(registry, model_folder, context):
    first = log_task(model=model_folder.as_uri()).execute(context())
    again = log_task(model=model_folder.as_uri()).execute(context())
    assert (first["created"], again["created"]) == (True, False)
    assert first["version_name"] == again["version_name"]
    assert len(registry.get_model("tiny").versions()) == 1


def test_another_run_of_the_dag_makes_another_version(registry, model_folder, context):
    names = {log_task(model=str(model_folder)).execute(context(run_id))["version_name"] for run_id in ("a", "b")}
    assert len(names) == 2


def test_a_cleared_run_that_trained_anew_gets_a_name_beside_the_old_one(
    registry, model_folder, other_model_folder, context
):
    first = log_task(model=str(model_folder)).execute(context())["version_name"]
    second = log_task(model=str(other_model_folder)).execute(context())["version_name"]
    assert second == f"{first}-2"
    assert log_task(model=str(model_folder)).execute(context())["version_name"] == first


def test_a_name_that_was_given_is_never_changed(registry, model_folder, other_model_folder, context):
    log_task(model=str(model_folder), version_name="v1").execute(context())
    with pytest.raises(AirflowFailException, match="v1"):
        log_task(model=str(other_model_folder), version_name="v1").execute(context())
    assert [version.version_name for version in registry.get_model("tiny").versions()] == ["v1"]


@pytest.mark.parametrize("as_path", [True, False], ids=["import path", "callable"])
def test_a_callables_pipeline_is_logged(registry, model_folder, context, as_path, tmp_path, monkeypatch):
    given = build_pipeline
    if as_path:
        source = (
            "def build(folder, top_k=None):\n"
            "    from airflow_provider_hfreg.inference import pipeline\n"
            "    return pipeline('text-classification', model=folder, top_k=top_k)\n"
        )
        (tmp_path / "a_users_models.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)
        given = "a_users_models:build"
    task = log_task(pipeline_callable=given, op_args=[str(model_folder)], op_kwargs={"top_k": 1})
    returned = task.execute(context())
    assert [feature.name for feature in registry.resolve(returned).signature().outputs] == ["outputs"]
    sys.modules.pop("a_users_models", None)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"model": "/srv/model", "pipeline_callable": build_pipeline},
        {"model": "/srv/model", "task": None},
    ],
)
def test_a_task_that_cannot_work_fails_when_the_dag_is_parsed(wrong):
    with pytest.raises(SettingsError, match="'task'"):
        log_task(**wrong)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"model": "/no/such/folder"}, "/no/such/folder"),
        ({"model": "out/../model/x"}, "full path"),
        ({"model": "None"}, "model is needed"),
        ({"set_default": "perhaps"}, "set_default"),
        ({"model_name": "a/b"}, "a/b"),
        ({"pipeline_kwargs": "top_k=2"}, "pipeline_kwargs"),
        ({"hfreg_conn_id": "nowhere"}, "AIRFLOW_CONN_NOWHERE"),
        ({"task": "text-clasification"}, "text-classification"),
    ],
)
def test_wrong_fields_fail_for_good_in_one_paragraph(registry, model_folder, context, wrong, said):
    with pytest.raises(AirflowFailException) as failed:
        log_task(**({"model": str(model_folder)} | wrong)).execute(context())
    assert said in str(failed.value)
    assert "\n" not in str(failed.value)


def connect_to(server, url, monkeypatch):
    keys = {"login": server.access_key, "password": server.secret_key}
    connection = {"conn_type": "hfreg", "host": url, "extra": {"endpoint_url": server.endpoint_url}}
    monkeypatch.setenv("AIRFLOW_CONN_HFREG_DEFAULT", json.dumps(connection | keys))


def test_a_bucket_that_does_not_exist_fails_for_good(seaweedfs, model_folder, context, monkeypatch):
    connect_to(seaweedfs, "s3://no-such-bucket/registry", monkeypatch)
    with pytest.raises(AirflowFailException, match="no-such-bucket"):
        log_task(model=str(model_folder)).execute(context())


def test_a_store_that_ignores_conditions_is_refused_before_anything_is_uploaded(
    model_folder, context, monkeypatch, tmp_path
):
    with rclone_s3(tmp_path / "rclone") as server:
        connect_to(server, server.create_bucket("careless") + "/registry", monkeypatch)
        with pytest.raises(AirflowFailException, match="If-None-Match"):
            log_task(model=str(model_folder)).execute(context())
        left = list(open_store("s3://careless", server.settings()).list_infos())
    assert [info.key for info in left if "blobs" in info.key or "models" in info.key] == []


def test_the_hub_token_comes_from_the_connections_password(registry, context, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_HUB", json.dumps({"conn_type": "http", "password": "hf_secret_of_the_test"}))
    task = log_task(model="org/gated", hf_conn_id="hub")
    assert task._hub_token() == "hf_secret_of_the_test"
    assert "hf_conn_id" not in LogHFModelOperator.template_fields
    monkeypatch.setenv("AIRFLOW_CONN_HUB", json.dumps({"conn_type": "http"}))
    with pytest.raises(SettingsError, match="no password"):
        task._hub_token()
    assert log_task(model="org/open")._hub_token() is None


def test_neither_code_nor_consent_can_come_from_a_template():
    assert not {"pipeline_callable", "trust_remote_code", "hf_conn_id"} & set(LogHFModelOperator.template_fields)
