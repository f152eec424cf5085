"""What only S3 has, on a real server: buckets, credentials, encryption, parts, forks, pages."""

from __future__ import annotations

import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_provider_hfreg.errors import (
    BucketNotFoundError,
    HfregError,
    KeyExistsError,
    ObjectChangedError,
    StorageDeniedError,
    StorageError,
    StorageUnavailableError,
    StorageUrlError,
)
from airflow_provider_hfreg.storage.s3 import S3Store
from airflow_provider_hfreg.storage.s3.multipart import Target, put_parts
from airflow_provider_hfreg.storage.settings import S3Settings

_MIB = 1 << 20

_OPERATIONS = {
    "get": lambda store, path: store.get("key"),
    "get_with_etag": lambda store, path: store.get_with_etag("key"),
    "find_info": lambda store, path: store.find_info("key"),
    "list_infos": lambda store, path: list(store.list_infos()),
    "list_names": lambda store, path: list(store.list_names()),
    "open_reader": lambda store, path: store.open_reader("key"),
    "download": lambda store, path: store.download("key", path),
    "put": lambda store, path: store.put("key", b""),
    "put_if_absent": lambda store, path: store.put_if_absent("key", path),
    "replace_if_match": lambda store, path: store.replace_if_match("key", b"", '"etag"'),
    "upload": lambda store, path: store.upload("key", path),
    "copy": lambda store, path: store.copy("key", "other"),
    "delete": lambda store, path: store.delete(["key"]),
}


@pytest.fixture
def store(s3_url, s3_settings):
    return S3Store(s3_url, s3_settings)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"content")
    return path


@pytest.fixture(scope="module")
def in_no_bucket(seaweedfs):
    return S3Store("s3://no-such-bucket/prefix", seaweedfs.settings())


@pytest.fixture(scope="module")
def as_stranger(seaweedfs):
    return S3Store("s3://bucket/prefix", seaweedfs.settings(secret_access_key="a-wrong-secret"))


@pytest.fixture(scope="module")
def at_no_server():
    settings = S3Settings("http://127.0.0.1:9", access_key_id="key", secret_access_key="secret", max_attempts=1)
    return S3Store("s3://bucket/prefix", settings)


@pytest.mark.parametrize("operation", _OPERATIONS.values(), ids=_OPERATIONS.keys())
def test_a_missing_bucket_is_told_by_every_operation_and_made_by_none(in_no_bucket, path, operation):
    with pytest.raises(BucketNotFoundError, match="aws s3 mb s3://no-such-bucket"):
        operation(in_no_bucket, path)
    with pytest.raises(BucketNotFoundError):
        list(in_no_bucket.list_infos())


@pytest.mark.parametrize("operation", _OPERATIONS.values(), ids=_OPERATIONS.keys())
def test_wrong_credentials_are_told_without_repeating_them(as_stranger, path, operation):
    with pytest.raises(StorageDeniedError, match="credentials") as caught:
        operation(as_stranger, path)
    assert "a-wrong-secret" not in str(caught.value)
    assert not caught.value.retryable


@pytest.mark.parametrize("operation", _OPERATIONS.values(), ids=_OPERATIONS.keys())
def test_a_server_that_is_not_there_is_told_and_may_be_tried_again(at_no_server, path, operation):
    with pytest.raises(StorageUnavailableError, match=r"http://127\.0\.0\.1:9") as caught:
        operation(at_no_server, path)
    assert caught.value.retryable


@pytest.mark.parametrize("endpoint", ["127.0.0.1:9", "not a url", "ftp//x"])
def test_an_endpoint_that_is_no_url_is_told(endpoint):
    settings = S3Settings(endpoint, access_key_id="key", secret_access_key="secret")
    with pytest.raises(HfregError, match="endpoint"):
        S3Store("s3://bucket", settings).get("key")


def test_a_bucket_name_that_cannot_be_is_told(s3_settings):
    with pytest.raises(StorageUrlError, match="bucket name"):
        S3Store("s3://Not_A_Bucket!", s3_settings).get("key")


def test_nothing_secret_is_in_any_repr(s3_settings, store):
    settings = S3Settings(access_key_id="AKIAEXAMPLE", secret_access_key="hidden", session_token="token")
    for text in (repr(settings), str(settings), repr(S3Store("s3://bucket", settings)), repr(store)):
        assert not [secret for secret in ("AKIAEXAMPLE", "hidden", "token", "testsecret") if secret in text]


@pytest.mark.parametrize(
    "wrong",
    [
        {"sse": "rot13"},
        {"sse_kms_key_id": "k"},
        {"sse": "AES256", "sse_kms_key_id": "k"},
        {"access_key_id": "alone"},
        {"access_key_id": "key", "secret_access_key": "secret", "profile_name": "other"},
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(wrong):
    with pytest.raises(StorageUrlError):
        S3Settings(**wrong)


@pytest.mark.parametrize("told_by", ["profile", "environment"])
def test_a_server_that_boto3_finds_by_itself_is_known_for_not_amazons(
    s3_url, s3_settings, tmp_path, monkeypatch, told_by
):
    """By keys and an endpoint of a profile, over other keys in the environment; and by the environment alone."""
    keys = {
        "aws_access_key_id": s3_settings.access_key_id,
        "aws_secret_access_key": s3_settings.secret_access_key,
    }
    lines = [f"{name} = {value}" for name, value in keys.items()]
    config = ["[profile other]", "region = us-east-1", f"endpoint_url = {s3_settings.endpoint_url}"]
    (tmp_path / "credentials").write_text("\n".join(["[other]", *lines]))
    (tmp_path / "config").write_text("\n".join(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    for name, value in keys.items():
        monkeypatch.setenv(name.upper(), value if told_by == "environment" else "of somebody else")
    if told_by == "environment":
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_settings.endpoint_url)
    store = S3Store(s3_url, S3Settings(profile_name="other" if told_by == "profile" else None))
    store.put("key", b"content")
    assert S3Store(s3_url, s3_settings).get("key") == b"content"
    assert store._bucket.client.meta.config.request_checksum_calculation == "when_required"
    assert store._bucket.connection.endpoint == s3_settings.endpoint_url


def test_a_profile_that_is_not_there_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(StorageError, match=r"The config profile \(nobody\) could not be found"):
        S3Store("s3://bucket", S3Settings(profile_name="nobody")).get("key")


def test_a_bucket_root_is_a_store(s3_bucket_url, s3_settings):
    store = S3Store(s3_bucket_url, s3_settings)
    store.put("a/b", b"1")
    assert list(store.list_names()) == ["a/"]
    assert store.below("a").get("b") == b"1"


# --- parts


def _part_uploads(store):
    answer = store._bucket.client.list_multipart_uploads(Bucket=store._bucket.name, Prefix=store._prefix)
    return answer.get("Uploads", [])


def _put_in_parts(store, key, path):
    with store._bucket.write(store.location(key), KeyExistsError):
        target = Target(store._bucket.client, store._bucket.name, store._prefix + key, condition={"IfNoneMatch": "*"})
        put_parts(target, path, part_bytes=5 * _MIB)


def test_a_file_in_parts_is_put_only_if_absent(store, tmp_path):
    path = tmp_path / "large"
    path.write_bytes(os.urandom(11 * _MIB))
    _put_in_parts(store, "large", path)
    assert store.get("large") == path.read_bytes()
    with pytest.raises(KeyExistsError):
        _put_in_parts(store, "large", path)
    assert _part_uploads(store) == []


def test_an_upload_that_fails_leaves_no_parts(store, tmp_path):
    path = tmp_path / "large"
    path.write_bytes(bytes(20 * _MIB))

    def broken(_):
        raise RuntimeError("the caller's own fault")

    with pytest.raises(RuntimeError):
        store.upload("large", path, on_bytes=broken)
    assert _part_uploads(store) == []
    assert store.find_info("large") is None


# --- encryption


def test_every_write_asks_for_the_encryption(seaweedfs, s3_url, path, tmp_path):
    large = tmp_path / "large"
    large.write_bytes(bytes(17 * _MIB))
    store = S3Store(s3_url, seaweedfs.settings(sse="AES256"))
    store.put("put", b"content")
    store.put_if_absent("put-if-absent", path)
    store.put("replaced", b"first")
    store.replace_if_match("replaced", b"second", store.get_with_etag("replaced")[1])
    store.upload("upload", path)
    store.upload("upload-in-parts", large)
    store.copy("put", "copy")
    for info in store.list_infos():
        head = store._bucket.client.head_object(Bucket=store._bucket.name, Key=store._prefix + info.key)
        assert head.get("ServerSideEncryption") == "AES256", info.key
    assert store.get("replaced") == b"second"
    assert store.get("upload-in-parts", start=16 * _MIB, length=3) == bytes(3)


# --- processes


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_a_connection_of_its_own(store):
    for number in range(4):
        store.put(str(number), str(number).encode() * 100_000)
    children = []
    for number in range(4):
        child = os.fork()
        if child == 0:
            right = all(store.get(str(number)) == str(number).encode() * 100_000 for _ in range(10))
            os._exit(0 if right else 1)
        children.append(child)
    assert all(store.get("0") == b"0" * 100_000 for _ in range(10))
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0, 0]


def test_a_store_goes_to_another_process_as_a_pickle(store):
    store.put("key", b"1")
    assert pickle.loads(pickle.dumps(store)).get("key") == b"1"


# --- pages, and what lies in a bucket that we did not put there


def test_more_names_than_one_answer_holds_cost_one_request_per_thousand(store):
    names = [f"{number:05d}.json" for number in range(1005)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda name: store.put(f"versions/{name}", b""), names))
    requests = []
    store._bucket.client.meta.events.register("before-send.s3.ListObjectsV2", lambda **_: requests.append(1))
    assert list(store.list_names("versions/")) == names
    assert len(requests) == 2
    assert [info.key for info in store.list_infos("versions/")] == [f"versions/{name}" for name in names]
    store.delete([f"versions/{name}" for name in names])
    assert list(store.list_infos()) == []


def test_the_empty_object_that_shows_a_folder_is_none_of_ours(store):
    store._bucket.client.put_object(Bucket=store._bucket.name, Key=store._prefix + "folder/", Body=b"")
    store.put("folder/key", b"")
    assert [info.key for info in store.list_infos()] == ["folder/key"]
    assert list(store.list_names("folder/")) == ["key"]


def test_a_reader_does_not_mix_two_versions_of_an_object(store):
    store.put("key", b"a" * 300_000)
    with store.open_reader("key") as reader:
        assert reader.read(10) == b"a" * 10
        store.put("key", b"b" * 300_000)
        reader.seek(200_000)
        with pytest.raises(ObjectChangedError, match="since it was seen"):
            reader.read(10)
