"""Real processes that log at the same time, and that are killed while they log."""

import json
import subprocess
import sys

import pytest

from airflow_provider_hfreg.errors import VersionNotFoundError
from airflow_provider_hfreg.registry import Registry
from airflow_provider_hfreg.storage.local import LocalStore
from airflow_provider_hfreg.testing.faults import FaultyStore
from airflow_provider_hfreg.versions.garbage import collect

TASK = "text-classification"

# Both programs import once and fork: the processes are real, and start in a moment.
LOG_TOGETHER = """
import json, multiprocessing, sys
from airflow_provider_hfreg.errors import VersionExistsError
from airflow_provider_hfreg.registry import Registry
from airflow_provider_hfreg.storage.settings import S3Settings

def log(number, top_k, together, results):
    registry = Registry(url, s3=S3Settings(**settings) if settings else None, cache_folder=f"{caches}/{number}")
    together.wait()
    try:
        mv = registry.log_folder(folder, model_name="finbert", version_name="v1", task="text-classification",
                                 pipeline_kwargs={"top_k": top_k}, metrics={"top_k": top_k})
        results.put(["created" if mv.created else "found", mv.content_digest])
    except VersionExistsError as error:
        results.put(["taken", str(error)])

url, settings, caches, folder, top_ks = json.loads(sys.argv[1])
if settings:
    import airflow_provider_hfreg.storage.s3  # boto3, once instead of in every child
fork = multiprocessing.get_context("fork")
together, results = fork.Barrier(len(top_ks)), fork.Queue()
loggers = [fork.Process(target=log, args=(n, top_k, together, results)) for n, top_k in enumerate(top_ks)]
for logger in loggers:
    logger.start()
print(json.dumps([results.get(timeout=1500) for _ in loggers]))
for logger in loggers:
    logger.join()
"""

LOG_AND_BE_KILLED = """
import json, os, sys
from airflow_provider_hfreg.registry import Registry
from airflow_provider_hfreg.storage.settings import S3Settings
from airflow_provider_hfreg.storage.urls import open_store
from airflow_provider_hfreg.testing.faults import ANY, Fault, Faults, FaultyStore, kill

def log(url, cache, call):
    place = open_store(url, S3Settings(**settings) if settings else None)
    store = FaultyStore(place, Faults(Fault(ANY, kill, call=call, when=when)))
    Registry(store, cache_folder=cache).log_folder(
        folder, model_name="finbert", version_name="v1", task="text-classification", metrics={"f1": 0.5})

folder, settings, when, kills = json.loads(sys.argv[1])
if settings:
    import airflow_provider_hfreg.storage.s3  # boto3, once instead of in every child
for url, cache, call in kills:
    child = os.fork()
    if not child:
        log(url, cache, call)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 137, call
"""


def run(program, *arguments):
    done = subprocess.run([sys.executable, "-c", program, json.dumps(arguments)], check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout or "null")


def plain(settings):
    """Return settings of S3 as a program takes them; with patience for dozens of writers of one key."""
    names = ("endpoint_url", "region_name", "access_key_id", "secret_access_key")
    return {name: getattr(settings, name) for name in names} | {"read_timeout_s": 180.0}


@pytest.fixture
def log_together(store_url, request, tmp_path, classifier):
    """A function that logs from a process per ``top_k``, all at once, and returns what each of them was told."""
    settings = plain(request.getfixturevalue("s3_settings")) if store_url.startswith("s3") else None
    return lambda top_ks: run(LOG_TOGETHER, store_url, settings, str(tmp_path), str(classifier), list(top_ks))


@pytest.mark.parametrize("count", [8, pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_of_many_processes_with_different_content_one_wins(log_together, registry, count):
    results = log_together(range(1, count + 1))
    assert sorted(word for word, _ in results) == ["created"] + ["taken"] * (count - 1)
    version = registry.resolve("finbert/v1")
    assert ["created", version.content_digest] in results
    assert version.metrics == version.spec.parameters  # the winner's own, not another's
    assert all("exists with other content" in told for word, told in results if word == "taken")


def test_eight_processes_with_the_same_content_all_succeed_and_one_created_it(log_together, registry):
    results = log_together([2] * 8)
    assert sorted(word for word, _ in results) == ["created"] + ["found"] * 7
    assert {digest for _, digest in results} == {registry.resolve("finbert/v1").content_digest}


@pytest.fixture
def calls(classifier, tmp_path):
    """(number from 1, operation) of each call of one logging, without the probe's, which are storage's to test."""
    counted = FaultyStore(LocalStore((tmp_path / "counted").as_uri()))
    registry = Registry(counted, cache_folder=tmp_path / "host")
    registry.log_folder(classifier, model_name="finbert", version_name="v1", task=TASK)
    numbered = enumerate(counted.faults.log, start=1)
    return [(number, operation) for number, (operation, key) in numbered if not key.startswith("probe-")]


@pytest.fixture(params=["file", pytest.param("s3", marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def place(request, tmp_path):
    """A URL for registries below it, and the settings to reach them."""
    if request.param == "file":
        return tmp_path.as_uri(), None
    return request.getfixturevalue("s3_url"), request.getfixturevalue("s3_settings")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_logger_killed_at_any_call_leaves_the_version_whole_or_absent_and_logging_again_succeeds(
    place, classifier, calls, tmp_path, when
):
    url, settings = place
    # A kill after a call that only reads is a kill before the next one.
    numbers = [number for number, name in calls if when == "before" or name in ("put_if_absent", "put", "upload")]
    kills = [(f"{url}/store-{call}", str(tmp_path / f"host-{call}"), call) for call in numbers]
    run(LOG_AND_BE_KILLED, str(classifier), settings and plain(settings), when, kills)
    for store_url, _, _ in kills:
        registry = Registry(store_url, s3=settings, cache_folder=tmp_path / "host")
        assert_whole_or_absent_and_logs_again(registry, classifier)


def assert_whole_or_absent_and_logs_again(registry, classifier):
    names = registry.models()[0].version_names() if registry.models() else []
    assert names in ([], ["v1"])
    again = registry.log_folder(classifier, model_name="finbert", version_name="v1", task=TASK, metrics={"f1": 0.5})
    assert again.created is (names == [])
    assert again.metrics == {"f1": 0.5}
    collect(registry._store, dry_run=False)
    (version,) = registry.get_model("finbert").versions()
    assert version.local_folder(verify=True).is_dir()


def test_a_version_whose_logger_was_killed_before_the_commit_is_not_there(classifier, calls, tmp_path):
    commit = max(number for number, operation in calls if operation == "put_if_absent")
    url = (tmp_path / "store").as_uri()
    run(LOG_AND_BE_KILLED, str(classifier), None, "before", [(url, str(tmp_path / "killed"), commit)])
    registry = Registry(url, cache_folder=tmp_path / "host")
    registry.log_folder(classifier, model_name="finbert", version_name="v2", task=TASK)
    with pytest.raises(VersionNotFoundError, match="It has 'v2'"):
        registry.resolve("finbert/v1")
