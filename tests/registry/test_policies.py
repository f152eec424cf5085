"""The policies of ``docs/policies``, each given to a user of a real server: enough for its role, and not more."""

import itertools
import json
from pathlib import Path

import pytest

from airflow_provider_hfreg.errors import StorageDeniedError
from airflow_provider_hfreg.registry import Registry
from airflow_provider_hfreg.storage.s3 import S3Store
from airflow_provider_hfreg.testing import servers
from airflow_provider_hfreg.versions.garbage import collect
from airflow_provider_hfreg.versions.layout import Layout

POLICIES = Path(__file__).parents[2] / "docs" / "policies"
NUMBERS = itertools.count(1)
ROLES = ("reader", "logger", "collector", "batch_run")
TASK = "text-classification"


def statements(role, bucket):
    text = (POLICIES / f"{role}.json").read_text("utf-8")
    for word, name in {"BUCKET": bucket, "REGISTRY": "registry", "OUTPUT": "scores"}.items():
        text = text.replace(word, name)
    principal = {"AWS": [f"arn:aws:iam::000000000000:user/{role}"]}
    return [{**statement, "Principal": principal} for statement in json.loads(text)["Statement"]]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with servers.seaweedfs(tmp_path_factory.mktemp("policies"), users=ROLES) as server:
        yield server


@pytest.fixture
def bucket(server):
    name = f"models-{next(NUMBERS)}"
    url = server.create_bucket(name)
    policy = {"Version": "2012-10-17", "Statement": [one for role in ROLES for one in statements(role, name)]}
    client = S3Store(url, server.settings())._bucket.client
    client.put_bucket_policy(Bucket=name, Policy=json.dumps(policy))
    return url


@pytest.fixture
def opened_as(server, bucket, tmp_path):
    """A function that opens the registry as a role; without one, as who may do everything."""

    def opened_as(role=None):
        settings = server.settings_of(role) if role else server.settings()
        return Registry(f"{bucket}/registry", s3=settings, cache_folder=tmp_path / str(role))

    return opened_as


@pytest.fixture
def opened_with_versions(opened_as, classifier):
    """The same, with two versions in it, one of them deleted."""
    registry = opened_as()
    for number in (1, 2):
        log(registry, classifier, f"v{number}", number)
    registry.get_model("finbert").delete_version("v2")
    return opened_as


def log(registry, folder, version_name, top_k=1):
    return registry.log_folder(
        folder, model_name="finbert", version_name=version_name, task=TASK, pipeline_kwargs={"top_k": top_k}
    )


def keys(registry, prefix=""):
    return {info.key for info in registry._store.list_infos(prefix)}


def changes(registry, folder):
    """Everything that changes a registry."""
    return {
        "log": lambda: log(registry, folder, "v9"),
        "alias": lambda: registry.get_model("finbert").set_alias("champion", "v1"),
        "tag": lambda: registry.resolve("finbert").set_tags({"team": "risk"}),
        "collect": lambda: collect(registry._store, dry_run=False),
    }


@pytest.mark.parametrize("role", ["reader", "batch_run"])
def test_who_may_read_loads_and_changes_nothing(opened_with_versions, classifier, role):
    everything = opened_with_versions()
    before = keys(everything)
    registry = opened_with_versions(role)
    assert [model.name for model in registry.models()] == ["finbert"]
    assert registry.resolve("finbert").local_folder(verify=True).is_dir()
    assert collect(registry._store, dry_run=True).deleted_versions
    for change in changes(registry, classifier).values():
        with pytest.raises(StorageDeniedError):
            change()
    assert keys(everything) == before


def test_a_batch_run_writes_and_removes_below_its_output(opened_with_versions, server, bucket):
    output = S3Store(f"{bucket}/scores", server.settings_of("batch_run"))
    output.put_if_absent("part-0.parquet", b"rows")
    assert [info.key for info in output.list_infos()] == ["part-0.parquet"]
    output.delete(["part-0.parquet"])
    with pytest.raises(StorageDeniedError):
        S3Store(f"{bucket}/elsewhere", server.settings_of("batch_run")).put("part-0.parquet", b"rows")


def test_a_logger_begins_a_registry_logs_and_edits_and_leaves_no_lease(opened_as, classifier):
    registry = opened_as("logger")
    assert log(registry, classifier, "v1").created
    assert log(registry, classifier, "v2", 2).created
    finbert = registry.get_model("finbert")
    finbert.set_alias("champion", "v2")
    finbert.version("v1").set_metrics({"f1": 0.5})
    assert registry.resolve("finbert@champion").local_folder(verify=True).is_dir()
    assert keys(opened_as(), "gc/") == set()


def test_a_logger_deletes_a_version_and_no_byte(opened_with_versions, classifier):
    registry = opened_with_versions("logger")
    log(registry, classifier, "v3", 3)
    before = keys(registry)
    registry.get_model("finbert").delete_version("v3")
    with pytest.raises(StorageDeniedError):
        collect(registry._store, dry_run=False)
    assert before <= keys(registry)


def test_a_collector_collects_and_publishes_nothing(opened_with_versions, classifier, other_classifier):
    everything = opened_with_versions()
    log(everything, other_classifier, "other")
    everything.get_model("finbert").delete_version("other")
    registry = opened_with_versions("collector")
    report = collect(registry._store, dry_run=False)
    assert len(report.blobs) >= 1
    assert {Layout.manifest("finbert", "v2"), Layout.manifest("finbert", "other")} <= set(report.deleted_versions)
    assert keys(everything, "gc/") == set()
    for change in ("log", "alias", "tag"):
        with pytest.raises(StorageDeniedError):
            changes(registry, classifier)[change]()
    assert everything.get_model("finbert").version_names() == ["v1"]
    assert everything.resolve("finbert").local_folder(verify=True).is_dir()
