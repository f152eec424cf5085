"""
What must survive, with real processes, on a folder and on a real S3 server: crowds, collections beside them, denials.

Each test of a crowd runs with a small one, and with the full one where it is marked slow. Many loggers of one version,
and kills after each request, are in ``test_processes.py``; a killed server and dropped answers in
``tests/versions/test_server_faults.py``; answers that no healthy server gives in ``tests/storage/test_s3_faults.py``.
"""

import json
import os
import subprocess
import sys

import pytest

from airflow_provider_hfreg.errors import (
    ConditionalWritesUnsupportedError,
    StorageDeniedError,
)
from airflow_provider_hfreg.registry import Registry
from airflow_provider_hfreg.storage.s3 import S3Store
from airflow_provider_hfreg.testing.servers import objects_of_rclone, rclone_s3
from airflow_provider_hfreg.versions.garbage import collect

TASK = "text-classification"

# Each program imports once and forks: the processes are real, and start in a moment.
PRELUDE = """
import json, multiprocessing, sys, traceback
from airflow_provider_hfreg.registry import Registry
from airflow_provider_hfreg.storage.settings import S3Settings
from airflow_provider_hfreg.storage.urls import open_store
from airflow_provider_hfreg.versions.garbage import collect
import airflow_provider_hfreg.storage.s3

url, settings, caches, folders, *given = json.loads(sys.argv[1])
s3 = S3Settings(**settings) if settings else None
fork = multiprocessing.get_context("fork")

def registry(name):
    return Registry(url, s3=s3, cache_folder=f"{caches}/{name}")

def log(name, version, top_k, folder=folders[0]):
    return registry(name).log_folder(folder, model_name="finbert", version_name=version, task="text-classification",
                                     pipeline_kwargs={"top_k": top_k})

def at_once(count, work):
    together, results = fork.Barrier(count), fork.Queue()
    def one(number):
        together.wait()
        try:
            results.put(work(number))
        except BaseException:
            results.put(traceback.format_exc())
    processes = [fork.Process(target=one, args=(number,)) for number in range(count)]
    for process in processes:
        process.start()
    told = [results.get(timeout=1500) for _ in processes]
    for process in processes:
        process.join()
    return told
"""

SAME_WEIGHTS = """
print(json.dumps(at_once(given[0], lambda number: log(number, f"v{number}", number + 1).created)))
"""

EDITS = """
writers, edits = given
log("first", "v1", 1)
def work(number):
    finbert = registry("host").get_model("finbert")
    version = finbert.version("v1")
    for edit in range(edits):
        name = f"w{number}-{edit}"
        {0: lambda: version.set_tags({name: "set"}), 1: lambda: version.set_metrics({name: edit}),
         2: lambda: finbert.set_alias(name, "v1"), 3: lambda: finbert.set_tags({name: "set"}),
         4: lambda: finbert.set_metrics({name: edit})}[edit % 5]()
    return "done"
print(json.dumps(at_once(writers, work)))
"""

COLLECTING = """
import pathlib, random, shutil, time

loggers, rounds, collectors = given
log("keeper", "keeper", 1, folders[1])
registry("keeper").get_model("finbert").set_default("keeper")
over, left, collections = fork.Event(), fork.Value("i", loggers), fork.Value("i", 0)

def own_weights(group):
    folder = pathlib.Path(caches, f"model-{group}")
    shutil.copytree(folders[0], folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + bytes([group]))
    return str(folder)

weights = [own_weights(number // 2) if not number % 2 else None for number in range(loggers)]

def logger(number):
    for turn in range(rounds):
        name = f"l{number}-{turn}"
        log(name, name, number * rounds + turn + 1, weights[number - number % 2])
        registry(f"{name}-cold").resolve(f"finbert/{name}").local_folder(verify=True)
        if turn + 1 < rounds:  # the last one of each stays
            registry(name).get_model("finbert").delete_version(name)
            if turn % 2:  # at times, a whole collection meets nothing but garbage
                enough = collections.value + collectors + 1
                while collections.value < enough:
                    time.sleep(0.01)
            else:
                time.sleep(random.uniform(0, 0.1))
    return "done"

def collector():
    blobs = times = 0
    while not over.is_set():
        blobs += len(collect(open_store(url, s3), dry_run=False).blobs)
        times += 1
        with collections.get_lock():
            collections.value += 1
    return [blobs, times]

def work(number):
    if number >= loggers:
        return collector()
    try:
        return logger(number)
    finally:
        with left.get_lock():
            left.value -= 1
            if not left.value:
                over.set()
print(json.dumps(at_once(loggers + collectors, work)))
"""


@pytest.fixture
def run(store_url, request, tmp_path, classifier, other_classifier):
    """A function that runs a program on the test's registry and returns what its processes told."""
    settings = None
    if store_url.startswith("s3"):
        given = request.getfixturevalue("s3_settings")
        names = ("endpoint_url", "region_name", "access_key_id", "secret_access_key")
        settings = {name: getattr(given, name) for name in names} | {"max_attempts": 8, "read_timeout_s": 180}

    def run(program, *arguments):
        argument = json.dumps(
            [store_url, settings, str(tmp_path), [str(classifier), str(other_classifier)], *arguments]
        )
        command = [sys.executable, "-c", PRELUDE + program, argument]
        return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)

    return run


FULL = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.mark.parametrize("count", [12, pytest.param(200, marks=FULL)])
def test_of_many_versions_of_the_same_weights_all_load_and_the_weights_are_stored_once(run, registry, count):
    assert run(SAME_WEIGHTS, count) == [True] * count
    versions = registry.get_model("finbert").versions()
    assert {version.version_name for version in versions} == {f"v{number}" for number in range(count)}
    for version in versions:
        assert version.local_folder(verify=True).is_dir()
    named = {file.key for version in versions for file in version.manifest.files}
    assert {info.key for info in registry._store.list_infos("blobs/")} == named
    assert len(named) == len(versions[0].manifest.files)
    assert list(registry._store.list_infos("gc/")) == []


@pytest.mark.parametrize(("writers", "edits"), [(5, 8), pytest.param(20, 50, marks=FULL)], ids=["few", "many"])
def test_no_edit_of_many_writers_is_lost(run, registry, writers, edits):
    assert run(EDITS, writers, edits) == ["done"] * writers
    names = {kind: {f"w{w}-{e}" for w in range(writers) for e in range(kind, edits, 5)} for kind in range(5)}
    finbert = registry.get_model("finbert")
    version = finbert.version("v1")
    assert version.tags.keys() == names[0]
    assert version.metrics.keys() == names[1]
    assert finbert.aliases().keys() == names[2]
    assert finbert.tags.keys() == names[3]
    assert finbert.metrics.keys() == names[4]


@pytest.mark.parametrize(
    ("loggers", "rounds", "collectors"),
    [(3, 4, 2), pytest.param(9, 40, 3, marks=FULL)],
    ids=["short", "long"],
)
def test_collections_beside_loggers_that_reuse_condemned_blobs_lose_no_version(
    run, registry, loggers, rounds, collectors
):
    told = run(COLLECTING, loggers, rounds, collectors)
    assert [one for one in told if one == "done"] == ["done"] * loggers, told
    collected = [one for one in told if isinstance(one, list)]
    assert len(collected) == collectors
    blobs, times = map(sum, zip(*collected, strict=True))
    print(f"{times} collections deleted {blobs} blobs")
    assert blobs > 0
    versions = registry.get_model("finbert").versions()
    assert len(versions) == loggers + 1
    for version in versions:
        assert version.local_folder(verify=True).is_dir()
    collect(registry._store, dry_run=False)
    named = {file.key for version in versions for file in version.manifest.files}
    assert {info.key for info in registry._store.list_infos("blobs/")} == named


def test_a_store_without_conditional_writes_is_refused_before_any_upload(tmp_path, classifier):
    with rclone_s3(tmp_path / "rclone") as server:
        registry = Registry(server.create_bucket("models") + "/prefix", s3=server.settings(), cache_folder=tmp_path)
        with pytest.raises(ConditionalWritesUnsupportedError, match="If-None-Match"):
            registry.log_folder(classifier, model_name="finbert", task=TASK)
    assert objects_of_rclone(tmp_path / "rclone", "models") == []


def test_wrong_credentials_fail_at_the_first_call_and_nothing_is_written(
    s3_url, s3_settings, seaweedfs, classifier, tmp_path
):
    stranger = Registry(s3_url, s3=seaweedfs.settings(secret_access_key="another"), cache_folder=tmp_path / "stranger")
    for call in (
        lambda: stranger.log_folder(classifier, model_name="finbert", task=TASK),
        lambda: stranger.resolve("finbert"),
        stranger.models,
        lambda: collect(stranger._store, dry_run=False),
    ):
        with pytest.raises(StorageDeniedError, match="credentials"):
            call()
    assert list(S3Store(s3_url, s3_settings).list_infos()) == []


AS_NOBODY = """
import os, sys
from airflow_provider_hfreg.errors import StorageDeniedError
from airflow_provider_hfreg.registry import Registry

if not os.getuid():
    os.setuid(65534)  # root may write anywhere
try:
    Registry(sys.argv[1], cache_folder=sys.argv[2]).log_folder(
        sys.argv[3], model_name="finbert", task="text-classification")
except StorageDeniedError as error:
    print(error)
"""


def test_a_folder_that_may_not_be_written_is_told_and_nothing_is_written(tmp_path, classifier):
    root, cache, model = tmp_path / "registry", tmp_path / "cache", tmp_path / "model"
    root.mkdir(mode=0o555)
    cache.mkdir()
    cache.chmod(0o777)
    subprocess.run(["cp", "-r", str(classifier), str(model)], check=True)
    for folder in (tmp_path, *tmp_path.parents):  # pytest's own are for its user alone
        if folder.stat().st_uid == os.getuid() and folder != folder.parent and "pytest" in str(folder):
            folder.chmod(0o755)
    command = [sys.executable, "-c", AS_NOBODY, root.as_uri(), str(cache), str(model)]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    assert "Give this user the permission" in told
    assert list(root.iterdir()) == []
