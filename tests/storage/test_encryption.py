"""
Server-side encryption is asked for on every write, by whatever way the bytes go.

SSE-S3 is proved on SeaweedFS, which tells of each object how it lies. SSE-KMS it has not: there moto, which only
imitates S3, shows that the headers are on the requests that take them.
"""

from __future__ import annotations

import pytest

from airflow_provider_hfreg.registry import Registry
from airflow_provider_hfreg.storage.s3 import S3Settings, S3Store

_LARGE_BYTES = 40 << 20
_KEY = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"


@pytest.fixture
def large(tmp_path):
    """A file that goes in parts."""
    path = tmp_path / "large"
    path.write_bytes(b"\1" * _LARGE_BYTES)
    return path


def write_in_every_way(store, large):
    """Write objects by each operation of a store; returns their keys."""
    small = large.with_name("small")
    small.write_bytes(b"small")
    store.put("put", b"1")
    store.put_if_absent("if-absent", b"1")
    store.put_if_absent("file-if-absent", small)
    store.replace_if_match("if-absent", b"2", store.get_with_etag("if-absent")[1])
    store.upload("upload", small)
    store.upload("upload-in-parts", large)
    store.copy("put", "copied")
    store.copy("upload-in-parts", "copied-in-parts")
    assert store.below("inner").copy_from(store, "put", "from-elsewhere")
    store.below("inner").put("below", b"1")
    return [info.key for info in store.list_infos()]


def test_sse_s3_is_on_every_object_however_it_was_written(s3_url, seaweedfs, large):
    store = S3Store(s3_url, seaweedfs.settings(sse="AES256"))
    keys = write_in_every_way(store, large)
    assert len(keys) == 9
    shown = {key: head(store, key).get("ServerSideEncryption") for key in keys}
    assert shown == dict.fromkeys(keys, "AES256")
    assert store.get("upload-in-parts", start=_LARGE_BYTES - 3) == b"\1\1\1"


def test_a_registry_asks_for_it_on_all_it_writes(s3_url, seaweedfs, made_once, tmp_path):
    from airflow_provider_hfreg.testing.models import text_classifier

    settings = seaweedfs.settings(sse="AES256")
    registry = Registry(s3_url, s3=settings, cache_folder=tmp_path / "cache")
    version = registry.log_folder(
        made_once("commands model", text_classifier), model_name="finbert", task="text-classification"
    )
    version.set_tags({"a": "b"})
    registry.get_model("finbert").set_alias("champion", version.version_name)
    registry.copy_version(version, version_name="v2")
    store = S3Store(s3_url, settings)
    shown = {info.key: head(store, info.key).get("ServerSideEncryption") for info in store.list_infos()}
    assert len(shown) >= 8  # format, head, state, two manifests, blobs
    assert set(shown.values()) == {"AES256"}
    assert registry.verify().damages == ()


@pytest.fixture
def amazon():
    """A bucket of an imitated S3."""
    moto = pytest.importorskip("moto", reason="extra: test")
    with moto.mock_aws():
        settings = S3Settings(
            access_key_id="key", secret_access_key="secret", region_name="us-east-1", sse="aws:kms", sse_kms_key_id=_KEY
        )
        store = S3Store("s3://models/hfreg", settings)
        store._bucket.create()
        yield store


def test_sse_kms_is_asked_for_by_every_request_that_makes_an_object(amazon, large):
    requests = []

    def note(model, params, **_):
        asked = {name.lower(): value for name, value in params["headers"].items()}
        encryption = asked.get("x-amz-server-side-encryption")
        requests.append((model.name, encryption, asked.get("x-amz-server-side-encryption-aws-kms-key-id")))

    amazon._bucket.client.meta.events.register("before-call.s3", note)
    keys = write_in_every_way(amazon, large)
    making = [request for request in requests if request[0] in ("PutObject", "CreateMultipartUpload", "CopyObject")]
    assert {name for name, *_ in making} == {"PutObject", "CreateMultipartUpload", "CopyObject"}
    assert {(encryption, key) for _, encryption, key in making} == {("aws:kms", _KEY)}
    for key in keys:
        shown = head(amazon, key)
        assert (shown["ServerSideEncryption"], shown["SSEKMSKeyId"]) == ("aws:kms", _KEY), key


def head(store, key):
    return store._bucket.client.head_object(Bucket=store._bucket.name, Key=store._prefix + key)
