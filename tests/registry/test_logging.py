"""Logging: from a folder, from a stored folder, from a pipeline."""

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_provider_hfreg.errors import (
    InvalidOptionError,
    StorageDeniedError,
    StorageUnavailableError,
    UnsafeModelError,
    UnsupportedPipelineError,
    VersionExistsError,
)
from airflow_provider_hfreg.inference import pipeline
from airflow_provider_hfreg.registry import Registry
from airflow_provider_hfreg.storage.local import LocalStore
from airflow_provider_hfreg.storage.urls import open_store
from airflow_provider_hfreg.testing.faults import Fault, Faults, FaultyStore, raising

TASK = "text-classification"


def keys(url):
    return sorted(info.key for info in LocalStore(url).list_infos())


def copied(folder, target):
    return shutil.copytree(folder, target)


def test_a_folder_is_logged_with_what_is_said_about_it(registry, classifier):
    mv = registry.log_folder(
        classifier,
        model_name="finbert",
        version_name="v1",
        task=TASK,
        pipeline_kwargs={"top_k": 2},
        comment="first",
        metrics={"accuracy": 0.91, "confusion": [[3, 1], [0, 4]]},
        tags={"team": "risk"},
    )
    assert mv.created
    found = registry.resolve("finbert/v1")
    assert found.manifest == mv.manifest
    assert not found.created
    assert (found.comment, found.tags) == ("first", {"team": "risk"})
    assert found.metrics == {"accuracy": 0.91, "confusion": [[3, 1], [0, 4]]}
    assert found.spec.parameters == {"top_k": 2}
    assert found.manifest.options == {"target_methods": ["__call__"], "cuda_version": "12.4"}


def test_a_pipeline_and_the_folder_it_was_saved_to_show_the_same_functions(registry, classifier):
    pipe = pipeline(TASK, model=str(classifier), top_k=2)
    logged = registry.log_model(pipe, model_name="finbert", version_name="v1")
    streamed = registry.log_folder(
        classifier, model_name="finbert", version_name="v2", task=TASK, pipeline_kwargs={"top_k": 2}
    )
    assert logged.show_functions() == streamed.show_functions()
    assert logged.show_functions()[0]["name"] == "__CALL__"
    assert logged.show_functions()[0]["target_method"] == "__call__"


def test_logging_the_same_pipeline_twice_finds_the_first(file_registry, classifier):
    pipe = pipeline(TASK, model=str(classifier))
    first = file_registry.log_model(pipe, model_name="finbert", version_name="v1")
    again = file_registry.log_model(pipe, model_name="finbert", version_name="v1")
    assert (first.created, again.created) == (True, False)
    assert first.content_digest == again.content_digest


def test_a_taken_name_is_told_with_who_took_it_and_when(registry, classifier, other_classifier):
    first = registry.log_folder(
        classifier, model_name="finbert", version_name="v1", task=TASK, logged_by={"dag": "nightly", "task": "log"}
    )
    with pytest.raises(VersionExistsError) as caught:
        registry.log_folder(other_classifier, model_name="finbert", version_name="v1", task=TASK)
    assert "'v1' of model 'finbert'" in str(caught.value)
    assert "dag nightly, task log" in str(caught.value)
    assert first.manifest.created in str(caught.value)


def test_a_version_without_a_name_gets_a_readable_one(file_registry, classifier):
    names = {
        file_registry.log_folder(
            classifier, model_name="finbert", task=TASK, pipeline_kwargs={"top_k": top_k}
        ).version_name
        for top_k in (1, 2, 3)
    }
    assert len(names) == 3
    assert all(len(name.split("_")) == 3 for name in names)


def test_a_folder_on_s3_is_streamed(s3_url, s3_settings, classifier, tmp_path):
    source = open_store(f"{s3_url}/training/out", s3_settings)
    for path in classifier.iterdir():
        source.upload(path.name, path)
    registry = Registry(f"{s3_url}/registry", s3=s3_settings, cache_folder=tmp_path / "host")
    streamed = registry.log_folder(source.url, model_name="finbert", version_name="v1", task=TASK)
    local = registry.log_folder(classifier, model_name="finbert", version_name="v1", task=TASK)
    assert not local.created
    assert local.content_digest == streamed.content_digest


def test_a_stored_folder_that_makes_no_version_is_named_as_it_was_given(s3_url, s3_settings, classifier, tmp_path):
    source = open_store(f"{s3_url}/out", s3_settings)
    for name in ("config.json", "model.safetensors"):
        source.upload(name, classifier / name)
    registry = Registry(f"{s3_url}/registry", s3=s3_settings, cache_folder=tmp_path / "host")
    with pytest.raises(UnsupportedPipelineError, match=f"^{source.url} holds no tokenizer"):
        registry.log_folder(source.url, model_name="finbert", version_name="v1", task=TASK)


def test_a_file_url_is_a_folder_too(file_registry, classifier):
    by_url = file_registry.log_folder(classifier.as_uri(), model_name="finbert", version_name="v1", task=TASK)
    assert not file_registry.log_folder(str(classifier), model_name="finbert", version_name="v1", task=TASK).created
    assert by_url.created


def test_logging_from_a_folder_loads_no_torch(file_url, classifier, tmp_path):
    program = (
        "import sys\n"
        "from airflow_provider_hfreg.registry import Registry\n"
        f"Registry({file_url!r}, cache_folder={str(tmp_path / 'host')!r}).log_folder("
        f"{str(classifier)!r}, model_name='finbert', version_name='v1', task={TASK!r})\n"
        "loaded = {'torch', 'transformers', 'pandas', 'safetensors', 'boto3'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("name", ["label_encoder.pkl", "preprocess.joblib"])
def test_a_pickle_is_refused_and_the_registry_stays_empty(file_registry, classifier, tmp_path, name):
    folder = copied(classifier, tmp_path / "out")
    (folder / name).write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(UnsafeModelError, match=name.replace(".", r"\.")):
        file_registry.log_folder(folder, model_name="finbert", task=TASK)
    assert keys(file_registry.url) == ["format.json"]


def test_remote_code_needs_consent_when_logged(file_registry, classifier, tmp_path):
    folder = copied(classifier, tmp_path / "out")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForSequenceClassification": "modeling_own.Own"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsafeModelError, match=r"config.json names Python code"):
        file_registry.log_folder(folder, model_name="finbert", task=TASK)
    mv = file_registry.log_folder(folder, model_name="finbert", task=TASK, trust_remote_code=True)
    assert mv.spec.remote_code
    with pytest.raises(UnsafeModelError, match="trust_remote_code=True"):
        mv.engine()


def test_a_token_never_reaches_the_store(file_registry, classifier):
    secret = "hf" + "_" + "aB3" * 12
    for described in ({"comment": secret}, {"tags": {"a": secret}}, {"pipeline_kwargs": {"token": secret}}):
        with pytest.raises((UnsafeModelError, InvalidOptionError)) as caught:
            file_registry.log_folder(classifier, model_name="finbert", task=TASK, **described)
        assert secret not in str(caught.value)
    assert keys(file_registry.url) in ([], ["format.json"])


def test_a_token_that_hides_in_a_pipelines_configuration_is_refused(file_registry, classifier):
    pipe = pipeline(TASK, str(classifier), device="cpu")
    pipe.model.config.note = "read with hf_" + "b" * 34

    with pytest.raises(UnsafeModelError, match=r"config\.json\['note'\] holds a Hugging Face token"):
        file_registry.log_model(pipe, model_name="finbert")

    assert file_registry.models() == []


def test_a_pipeline_and_the_folder_of_its_version_are_one_content(file_registry, classifier, tmp_path):
    logged = file_registry.log_model(pipeline(TASK, str(classifier), device="cpu", top_k=2), model_name="pipeline")
    folder = logged.export(tmp_path / "export")

    again = file_registry.log_folder(folder, model_name="folder", task=TASK, pipeline_kwargs={"top_k": 2})

    assert again.content_digest == logged.content_digest


def test_a_pipeline_without_the_target_method_is_refused(file_registry, classifier):
    pipe = pipeline(TASK, model=str(classifier))
    with pytest.raises(InvalidOptionError, match="'embed', which is no callable method of TextClassificationPipeline"):
        file_registry.log_model(pipe, model_name="finbert", options={"target_methods": ["__call__", "embed"]})


def test_a_registry_opened_to_read_logs_nothing(file_url, classifier, tmp_path):
    registry = Registry(file_url, cache_folder=tmp_path, read_only=True)
    with pytest.raises(StorageDeniedError, match="read_only=True"):
        registry.log_folder(classifier, model_name="finbert", task=TASK)


def test_a_second_version_with_the_same_weights_moves_under_64_kilobytes(file_url, classifier, tmp_path):
    moved = []

    class Metered(LocalStore):
        """Counts the bytes that are written; the real store writes them."""

        def put_if_absent(self, key, content):
            moved.append(len(content))
            return super().put_if_absent(key, content)

        def upload(self, key, path, **given):
            moved.append(path.stat().st_size)
            super().upload(key, path, **given)

    registry = Registry(Metered(file_url), cache_folder=tmp_path / "host")
    registry.log_folder(classifier, model_name="finbert", version_name="v1", task=TASK)
    moved.clear()
    registry.log_folder(classifier, model_name="finbert", version_name="v2", task=TASK, pipeline_kwargs={"top_k": 2})
    assert 0 < sum(moved) < 64_000


def test_a_commit_whose_answer_was_lost_is_reported_as_success_once(file_url, classifier, tmp_path):
    lost = Fault(
        "put_if_absent", raising(StorageUnavailableError("answer lost")), key="versions/", when="after", call=1
    )
    registry = Registry(FaultyStore(LocalStore(file_url), Faults(lost)), cache_folder=tmp_path / "host")
    assert registry.log_folder(classifier, model_name="finbert", version_name="v1", task=TASK).created
    assert not registry.log_folder(classifier, model_name="finbert", version_name="v1", task=TASK).created


def test_the_folder_that_is_logged_is_left_as_it_was(file_registry, classifier):
    before = {path.name: path.stat().st_mtime_ns for path in classifier.iterdir()}
    file_registry.log_folder(classifier, model_name="finbert", task=TASK)
    assert {path.name: path.stat().st_mtime_ns for path in classifier.iterdir()} == before


def test_nothing_is_left_in_the_cache_after_logging(file_registry, classifier, tmp_path):
    file_registry.log_model(pipeline(TASK, model=str(classifier)), model_name="finbert")
    assert not any((tmp_path / "host" / "scratch").iterdir())


def test_ignored_sample_data_is_said_where_the_author_looks(file_registry, classifier):
    with pytest.warns(UserWarning, match="sample_input_data is ignored") as warned:
        file_registry.log_folder(classifier, model_name="finbert", task=TASK, sample_input_data=[["x"]])
    assert warned[0].filename == __file__


@pytest.mark.parametrize(
    "what", ["/srv/models/finbert", Path("/srv/models/finbert"), None, {"task": "text-generation"}]
)
def test_what_is_no_pipeline_is_refused_and_told_what_to_log(file_registry, what):
    with pytest.raises(UnsupportedPipelineError, match=r"log pipe; a folder or a hub id is logged with log_folder"):
        file_registry.log_model(what, model_name="finbert")
    assert file_registry.models() == []
