"""The hook: from what a person fills into a connection to a registry that answers."""

from __future__ import annotations

import json
import sys

import pytest

from airflow_provider_hfreg.errors import SettingsError, StorageDeniedError, StorageUrlError
from airflow_provider_hfreg.hooks.connections import get_connection, s3_settings_of
from airflow_provider_hfreg.hooks.hfreg import HFRegistryHook
from airflow_provider_hfreg.testing.models import text_classifier


@pytest.fixture
def connect(monkeypatch):
    """Define a connection for this test, as JSON or URI, the way a deployment does."""

    def define(conn_id, connection=None, **fields):
        text = connection or json.dumps({"conn_type": "hfreg", **fields})
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", text)

    return define


def test_a_connection_in_json_gives_url_and_settings(connect):
    extra = {
        "endpoint_url": "http://127.0.0.1:8333",
        "region_name": "eu-central-1",
        "sse": "aws:kms",
        "aws_conn_id": "",
    }
    connect(
        "hfreg_default",
        host="s3://models/prod",
        login="key",
        password="secret",
        extra=extra,
    )
    hook = HFRegistryHook()
    assert hook.url == hook.registry.url == "s3://models/prod"
    settings = hook.s3_settings
    assert (settings.access_key_id, settings.secret_access_key) == ("key", "secret")
    assert (settings.endpoint_url, settings.region_name) == ("http://127.0.0.1:8333", "eu-central-1")
    assert (settings.sse, settings.sse_kms_key_id) == ("aws:kms", None)


def test_a_connection_for_reading_refuses_to_write(connect, tmp_path):
    connect("hfreg_default", host=tmp_path.as_uri(), extra={"read_only": True})
    registry = HFRegistryHook().registry
    assert registry.models() == []
    with pytest.raises(StorageDeniedError, match="read_only=True"):
        registry.log_folder(tmp_path, model_name="m", task="text-classification")
    connect("hfreg_default", host=tmp_path.as_uri(), extra={"read_only": False})
    assert not HFRegistryHook().place.read_only


@pytest.mark.parametrize(
    "uri",
    ["hfreg://s3://key:se%2Fcret@models/prod/team", "hfreg://key:se%2Fcret@s3%3A%2F%2Fmodels%2Fprod%2Fteam"],
)
def test_a_connection_as_uri_means_the_same(connect, uri):
    connect("by_uri", uri)
    hook = HFRegistryHook("by_uri")
    assert hook.url == "s3://models/prod/team"
    assert hook.s3_settings.secret_access_key == "se/cret"


def test_a_plain_path_is_a_folder(connect, tmp_path):
    connect("folder", host=str(tmp_path))
    assert HFRegistryHook("folder").url == tmp_path.as_uri()


def test_a_missing_connection_says_how_to_make_one():
    with pytest.raises(SettingsError, match="AIRFLOW_CONN_NOWHERE"):
        _ = HFRegistryHook("nowhere").url


def test_a_connection_without_url_says_where_to_write_it(connect):
    connect("empty", login="key")
    with pytest.raises(SettingsError, match="host field"):
        _ = HFRegistryHook("empty").url


def test_secrets_stay_out_of_the_settings_repr(connect):
    connect("hidden", host="s3://b", login="accesskey1", password="secretkey1", extra={"session_token": "token1"})
    shown = repr(HFRegistryHook("hidden").s3_settings)
    assert not any(secret in shown for secret in ("accesskey1", "secretkey1", "token1"))


def test_an_amazon_connection_lends_its_session(connect):
    connect("hfreg_default", host="s3://models", login="unused", password="unused", extra={"aws_conn_id": "lake"})
    extra = {"region_name": "eu-west-1", "endpoint_url": "http://127.0.0.1:9"}
    connect("lake", json.dumps({"conn_type": "aws", "login": "AKIA", "password": "very-secret", "extra": extra}))
    settings = HFRegistryHook().s3_settings
    assert settings.session.get_credentials().access_key == "AKIA"
    assert (settings.region_name, settings.endpoint_url) == ("eu-west-1", "http://127.0.0.1:9")


def test_an_amazon_connection_that_does_not_exist_is_no_anonymous_session(connect):
    connect("hfreg_default", host="s3://models", extra={"aws_conn_id": "lake_with_a_typo"})
    with pytest.raises(SettingsError, match="lake_with_a_typo"):
        _ = HFRegistryHook().s3_settings


def test_without_the_amazon_provider_the_extra_is_named(connect, monkeypatch):
    connect("lake", json.dumps({"conn_type": "aws", "login": "AKIA", "password": "very-secret"}))
    monkeypatch.setitem(sys.modules, "airflow.providers.amazon.aws.hooks.base_aws", None)
    with pytest.raises(SettingsError, match=r"airflow-provider-hfreg\[amazon\]"):
        s3_settings_of(get_connection("lake", hint=""))


def test_another_type_of_connection_is_no_storage(connect):
    connect("database", json.dumps({"conn_type": "postgres", "host": "db"}))
    with pytest.raises(SettingsError, match="'postgres'"):
        s3_settings_of(get_connection("database", hint=""))


def test_half_a_key_is_refused(connect):
    connect("half", host="s3://models", login="key")
    with pytest.raises(StorageUrlError):
        _ = HFRegistryHook("half").s3_settings


def test_the_test_button_tells_an_empty_registry_from_a_used_one(connect, tmp_path):
    connect("hfreg_default", host=(tmp_path / "registry").as_uri())
    reached, message = HFRegistryHook().test_connection()
    assert reached
    assert "No model was ever logged there" in message
    folder = text_classifier(tmp_path / "model")
    HFRegistryHook().registry.log_folder(folder, task="text-classification", model_name="tiny")
    reached, message = HFRegistryHook().test_connection()
    assert reached
    assert message.endswith("It holds 1 model(s): tiny.")


def test_the_test_button_tells_wrong_keys_and_missing_buckets(connect, seaweedfs):
    extra = {"endpoint_url": seaweedfs.endpoint_url}
    connect("hfreg_default", host="s3://no-such-bucket", login="nobody", password="wrong-secret", extra=extra)
    assert HFRegistryHook().test_connection()[0] is False
    known = {"login": seaweedfs.access_key, "password": seaweedfs.secret_key}
    connect("hfreg_default", host="s3://no-such-bucket", extra=extra, **known)
    reached, message = HFRegistryHook().test_connection()
    assert not reached
    assert "no-such-bucket" in message


def test_a_size_of_the_cache_that_is_none_is_told_with_its_setting(connect, monkeypatch, tmp_path):
    connect("hfreg_default", host=(tmp_path / "registry").as_uri())
    monkeypatch.setenv("AIRFLOW__HFREG__CACHE_SIZE_GIB", "much")
    with pytest.raises(SettingsError, match=r"\[hfreg\] cache_size_gib .* is 'much'; write a number of GiB"):
        _ = HFRegistryHook().registry


def test_the_cache_folder_is_a_setting(connect, monkeypatch, tmp_path):
    connect("hfreg_default", host=(tmp_path / "registry").as_uri())
    monkeypatch.setenv("AIRFLOW__HFREG__CACHE_FOLDER", str(tmp_path / "cache"))
    monkeypatch.setenv("AIRFLOW__HFREG__CACHE_SIZE_GIB", "0.5")
    folder = text_classifier(tmp_path / "model")
    version = HFRegistryHook().registry.log_folder(folder, task="text-classification", model_name="tiny")
    assert version.local_folder().is_relative_to(tmp_path / "cache")
