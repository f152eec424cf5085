"""Executor pools out of Airflow's configuration, as Airflow itself reads it."""

from __future__ import annotations

import json

import pytest
from airflow.sdk import conf

from airflow_provider_hfreg.errors import SettingsError
from airflow_provider_hfreg.get_provider_info import get_provider_info
from airflow_provider_hfreg.hooks.pools import executor_pool, executor_pools, sender_settings, worker_settings

KEY = "a key that is long enough"


@pytest.fixture
def configured(monkeypatch):
    """Set options of ``[hfreg]``; called with them."""

    def configure(**options):
        for name, value in options.items():
            text = value if isinstance(value, str) else json.dumps(value)
            monkeypatch.setenv(f"AIRFLOW__HFREG__{name.upper()}", text)

    return configure


def test_every_option_has_a_default_that_airflow_can_read():
    """It formats defaults: braces in one would break every command of the deployment."""
    for name in get_provider_info()["config"]["hfreg"]["options"]:
        assert conf.get("hfreg", name) in ("", "30")


def test_without_configuration_there_are_no_pools():
    assert executor_pools() == {}
    with pytest.raises(SettingsError, match=r"no executor pool 'cpu' in .*; there is none at all"):
        executor_pool("cpu")


def test_pools_keys_and_broker_are_read(configured):
    configured(
        broker_url="redis://redis/5",
        message_keys=f"{KEY},{KEY} 2",
        executor_pools={"cpu": {"slots": 2}},
        claim_lapse_s="45",
    )
    settings = sender_settings()
    assert settings.pool("cpu").slots == 2
    assert (settings.message_keys, settings.lapse_s, settings.resend_s) == ((KEY, f"{KEY} 2"), 45.0, 90.0)


def test_a_workers_storages_are_reached_by_their_connections(configured, monkeypatch):
    lake = {"conn_type": "hfreg", "host": "s3://lake", "login": "id", "password": "secret"}
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", json.dumps(lake))
    storages = [{"url": "s3://lake/texts", "conn_id": "lake"}, {"url": "file:///srv"}]
    configured(broker_url="redis://redis/5", message_keys=KEY, worker_storages=storages)
    settings = worker_settings()
    assert settings.access("s3://lake/texts/a").s3.secret_access_key == "secret"
    assert settings.access("file:///srv/a").url == "file:///srv"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"executor_pools": "{"}, "executor_pools of Airflow's configuration is no JSON"),
        ({"executor_pools": "[]"}, "must be a JSON object"),
        ({"executor_pools": {"cpu": {"slots": 0}}}, "slots of the executor pool 'cpu' is 0"),
        ({"worker_storages": {"url": "s3://x"}}, "must be a JSON list"),
        ({"worker_storages": [{"url": "s3://x", "key": 1}]}, "each is a url and"),
        ({"worker_storages": [{"url": "s3://x", "conn_id": "nobody"}]}, "no connection 'nobody'"),
        ({"broker_url": ""}, r"section \[hfreg\]: broker_url must be a URL"),
        ({"message_keys": "short"}, r"section \[hfreg\]: message_keys must be"),
    ],
)
def test_what_cannot_be_is_told_with_the_option(options, told, configured):
    configured(**{"broker_url": "redis://redis/5", "message_keys": KEY} | options)
    with pytest.raises(SettingsError, match=told):
        worker_settings()
