"""A worker that fetches a model for long claims nothing and runs nothing, and is not taken for idle."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest

from airflow_provider_hfreg.registry import Registry
from airflow_provider_hfreg.testing.models import text_classifier
from airflow_provider_hfreg.testing.proxy import proxied
from airflow_provider_hfreg.testing.workers import WorkerProcess
from airflow_provider_hfreg.workers import following
from airflow_provider_hfreg.workers.app import Broker
from airflow_provider_hfreg.workers.settings import parse_settings

pytestmark = pytest.mark.timeout(600)

HELD_S = 20.0


class Gate:
    """Holds requests for blobs back, until it is opened."""

    def __init__(self):
        self.opened, self.reached = threading.Event(), threading.Event()

    def __call__(self, request):
        if "/blobs/" in request.path and request.method == "GET":
            self.reached.set()
            self.opened.wait(300)


@pytest.fixture
def gated(s3_desk, seaweedfs, s3_settings, plain_settings, storages, tmp_path):
    """A desk on S3 whose model no worker has, and the gate before that model."""
    registry = Registry(f"{s3_desk.url}/registry", s3=s3_settings, cache_folder=tmp_path / "own-cache")
    model = text_classifier(tmp_path / "model", seed=11)
    s3_desk.version = registry.log_folder(model, model_name="cold", version_name="v1", task="text-classification")
    pool, gate = f"gated-{tmp_path.name}"[:60].rstrip("-_"), Gate()
    with proxied(seaweedfs, gate) as proxy:
        relayed = [
            entry | ({"endpoint_url": proxy.endpoint_url} if "endpoint_url" in entry else {}) for entry in storages
        ]
        plain = plain_settings(pools={pool: {}}, lapse_s=1) | {"storages": relayed}
        try:
            with WorkerProcess(plain, tmp_path / "worker"):
                s3_desk.settings, s3_desk.pool_name = parse_settings(plain), pool
                yield s3_desk, gate
        finally:
            gate.opened.set()


def test_a_run_whose_model_is_fetched_for_long_is_waited_for(gated, texts, monkeypatch):
    """Its message is sent again and again meanwhile, and roll call after roll call is held."""
    desk, gate = gated
    monkeypatch.setattr(following, "_ROLL_CALL_S", 0.5)
    desk.put_texts(texts(5))
    seen, reports = [], []
    run = threading.Thread(target=lambda: reports.append(desk.run()), daemon=True)
    run.start()
    assert gate.reached.wait(240)
    with contextlib.closing(Broker(desk.settings, desk.settings.pool(desk.pool_name))) as broker:
        until_s = time.monotonic() + HELD_S
        while time.monotonic() < until_s and run.is_alive():
            seen += broker.statuses(timeout_s=5, limit=1)
    gate.opened.set()
    run.join(240)

    assert [report.rows_ok for report in reports] == [5]
    assert {status["running"] is None for status in seen} == {True}
    # The second thread has taken the repeated messages, and kept none.
    assert {tuple((one["shard"], one["doing"]) for one in status["in_hand"]) for status in seen} == {((0, "fetching"),)}
