"""What a shard costs in requests to S3, counted on the wire, its sender's included."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from dataclasses import replace

import pytest

from airflow_provider_hfreg.registry import Registry
from airflow_provider_hfreg.storage.urls import open_store
from airflow_provider_hfreg.testing.models import text_classifier
from airflow_provider_hfreg.testing.request_log import request_log
from airflow_provider_hfreg.testing.workers import WorkerProcess
from airflow_provider_hfreg.workers.app import Broker
from airflow_provider_hfreg.workers.settings import parse_settings

SHARDS = 8
AIM = 12

_NAMES = (
    ("input", re.compile(r"/in/")),
    ("stopped", re.compile(r"/claims/stopped-")),
    ("claim", re.compile(r"/claims/\d")),
    ("claims", re.compile(r"prefix=.*/claims/")),
    ("abandoned", re.compile(r"/abandoned\.json$")),
    ("part", re.compile(r"/part-\d")),
)


def name_of(path):
    """What of a run lies at a path; None for what is asked once a run."""
    return next((name for name, pattern in _NAMES if pattern.search(path)), None)


@pytest.fixture
def counted(s3_desk, seaweedfs, plain_settings, storages, tmp_path):
    """A desk whose sender and whose one worker reach S3 each through a log of its own."""
    pool = f"counted-{tmp_path.name}"[:60].rstrip("-_")
    with contextlib.ExitStack() as running:
        sent, worked = (running.enter_context(request_log(seaweedfs.endpoint_url)) for _ in range(2))
        relayed = [
            storage | ({"endpoint_url": worked.endpoint_url} if "endpoint_url" in storage else {})
            for storage in storages
        ]
        plain = plain_settings(pools={pool: {}}) | {"storages": relayed}
        worker = running.enter_context(WorkerProcess(plain, tmp_path / "worker"))
        desk = replace(
            s3_desk,
            s3=replace(s3_desk.s3, endpoint_url=sent.endpoint_url),
            settings=parse_settings(plain),
            pool_name=pool,
        )
        yield desk, sent, worked, worker


def test_a_shard_costs_no_more_than_twelve_requests_its_senders_share_included(counted, texts, capsys):
    desk, sent, worked, _ = counted
    desk.put_texts(texts(10 * SHARDS))
    desk.run(output="before")  # reads the plan's modules, loads the model, sees the bucket
    sent.clear()
    worked.clear()

    desk.run()

    by_worker, by_sender = worked.counts(name_of), sent.counts(name_of)
    beats = by_worker["PUT", "claim"] - 2 * SHARDS  # where the machine is so slow that a shard takes ten seconds
    assert beats >= 0
    assert by_worker == Counter(
        {
            ("GET", "input"): by_worker["GET", "input"],
            ("HEAD", "stopped"): SHARDS + beats,
            ("HEAD", "part"): SHARDS,
            ("PUT", "claim"): 2 * SHARDS + beats,
            ("HEAD", "abandoned"): SHARDS,
            ("PUT", "part"): SHARDS,
        }
    )
    assert SHARDS <= by_worker["GET", "input"] <= 2 * SHARDS
    assert by_sender["GET", "part"] == SHARDS
    assert SHARDS <= by_sender["GET", "claim"] <= 2 * SHARDS + beats
    assert by_sender["HEAD", "part"] == by_sender["HEAD", "claim"] == 0
    for_all = sum(by_worker.values()) + sum(by_sender.values()) - 2 * beats
    with capsys.disabled():
        print(f"\n{for_all / SHARDS:.1f} requests a shard: worker {dict(by_worker)}, sender {dict(by_sender)}")
    looks = by_sender["LIST", "claims"]
    assert for_all - looks <= (AIM - 1) * SHARDS


def test_a_second_task_on_a_warm_worker_loads_nothing_and_downloads_nothing(counted, s3_settings, tmp_path, texts):
    desk, _, worked, worker = counted
    registry = Registry(f"{desk.url}/registry", s3=s3_settings, cache_folder=tmp_path / "own-cache")
    model = text_classifier(tmp_path / "model", seed=7)
    desk.version = registry.log_folder(model, model_name="warm", version_name="v1", task="text-classification")
    desk.put_texts(texts(30))

    def blobs():
        return worked.counts(lambda path: "blob" if "/blobs/" in path else None)

    desk.run(output="first", identity="a task")
    assert blobs()["GET", "blob"] > 0
    assert worker.log_text().count("Loaded warm/v1") == 1
    worked.clear()

    desk.run(output="second", identity="another task")

    assert blobs() == Counter()
    assert worker.log_text().count("Loaded warm/v1") == 1
    with contextlib.closing(Broker(desk.settings, desk.settings.pool(desk.pool_name))) as broker:
        (status,) = broker.statuses(timeout_s=10, limit=1)
    assert status["models"] == [desk.version.content_digest]


def test_the_log_sees_what_a_store_does(seaweedfs, s3_url, s3_settings):
    with request_log(seaweedfs.endpoint_url) as log:
        store = open_store(s3_url, replace(s3_settings, endpoint_url=log.endpoint_url))
        store.put("a b/ü.txt", b"content")
        log.clear()
        assert store.get("a b/ü.txt", start=-3) == b"ent"
        assert store.find_info("absent") is None
        assert [info.key for info in store.list_infos("a b/")] == ["a b/ü.txt"]
        store.put_if_absent("large", bytes(3_000_000))
        store.delete(["large"])
        seen = log.counts(lambda path: path.rpartition("/")[2])
    assert {verb for verb, _ in seen} == {"GET", "HEAD", "LIST", "PUT", "POST"}
    assert seen["GET", "ü.txt"] == seen["HEAD", "absent"] == seen["PUT", "large"] == 1
