"""Large files to and from a real server, with answers that are spoiled on their way."""

import contextlib
import hashlib
import io
import os
import threading
import time
import tracemalloc

import pytest
from botocore.exceptions import IncompleteReadError
from botocore.response import StreamingBody

from airflow_provider_hfreg.errors import (
    DigestMismatchError,
    KeyNotFoundError,
    ObjectChangedError,
    StorageError,
    StorageUnavailableError,
)
from airflow_provider_hfreg.storage.s3 import S3Store
from airflow_provider_hfreg.storage.s3.download import RANGE_BYTES
from airflow_provider_hfreg.storage.s3.in_order import in_order
from airflow_provider_hfreg.storage.s3.parts import ObjectParts
from airflow_provider_hfreg.testing.faults import files_hold_at_most
from airflow_provider_hfreg.testing.proxy import Spoiled, proxied

_MIB = 1 << 20
_SIZE = 3 * RANGE_BYTES + 12345


def digest_of(content):
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.fixture(scope="module")
def content():
    return os.urandom(_SIZE)


@pytest.fixture
def stored(s3_url, s3_settings, content, tmp_path):
    """A store with an object of four ranges."""
    store, path = S3Store(s3_url, s3_settings), tmp_path / "sent"
    path.write_bytes(content)
    store.upload("large", path, digest=digest_of(content))
    return store


@pytest.fixture(params=[None, _SIZE], ids=["of an unknown size", "of a known size"])
def download(stored, seaweedfs, tmp_path, content, request):
    """A function that downloads the object through a proxy with faults, and returns what came and the proxy."""

    def act(spoil=lambda _: None, **changes):
        with proxied(seaweedfs, spoil) as proxy:
            S3Store(stored.url, proxy.settings(**changes)).download(
                "large", tmp_path / "came", digest=digest_of(content), size_bytes=request.param
            )
        return (tmp_path / "came").read_bytes(), proxy

    return act


def is_range(request, number):
    return request.method == "GET" and request.range.startswith(f"bytes={number * RANGE_BYTES}-")


class Once:
    """Spoils the first request for a range, and no other."""

    def __init__(self, number, spoiled):
        self.number, self.spoiled, self.done = number, spoiled, False

    def __call__(self, request):
        if self.done or not is_range(request, self.number):
            return None
        self.done = True
        return self.spoiled


def test_each_range_is_asked_for_once_and_nothing_else(download, content):
    came, proxy = download()
    assert came == content
    asked = sorted(int(request.range.removeprefix("bytes=").split("-")[0]) for request in proxy.requests)
    assert asked == [0, RANGE_BYTES, 2 * RANGE_BYTES, 3 * RANGE_BYTES]
    assert proxy.received_bytes == _SIZE


def test_all_ranges_are_asked_for_at_once_where_the_size_is_known(stored, seaweedfs, content, tmp_path):
    """Each answer is kept back until all have been asked for."""
    together = threading.Barrier(4)
    with proxied(seaweedfs, lambda _: together.wait(60) and None) as proxy:
        S3Store(stored.url, proxy.settings(max_attempts=1)).download("large", tmp_path / "came", size_bytes=_SIZE)
    assert (tmp_path / "came").read_bytes() == content


def test_a_download_holds_a_block_of_each_range_and_not_the_ranges(stored, content, tmp_path):
    """Also where all have come and are hashed slowly."""
    tracemalloc.start()
    try:
        stored.download(
            "large",
            tmp_path / "came",
            digest=digest_of(content),
            size_bytes=_SIZE,
            on_bytes=lambda _: time.sleep(0.3),
        )
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < RANGE_BYTES < _SIZE


def test_a_part_that_is_longer_than_was_asked_for_touches_no_other(stored):
    """A server that answers 206 with too much, as no real one does: the answer is made here."""
    written = {}

    class Overflowing:
        name = "bucket"
        client = property(lambda self: self)

        def request(self, *_):
            return contextlib.nullcontext()

        def get_object(self, **_):
            body = StreamingBody(io.BytesIO(b"0123456789"), 10)
            status = {"HTTPStatusCode": 206}
            return {"Body": body, "ETag": "e", "ContentRange": "bytes 4-7/20", "ResponseMetadata": status}

    with pytest.raises(IncompleteReadError):
        ObjectParts(Overflowing(), "name", "s3://bucket/name").fetch_to(
            written.__setitem__, 4, 4, on_answer=lambda _: None
        )
    assert written == {4: b"0123"}


def test_many_connections_bring_more_than_the_bound_of_one(stored, seaweedfs, content, tmp_path):
    """Four ranges, each as long on its way as one alone would be."""
    with proxied(seaweedfs, connection_bytes_per_s=RANGE_BYTES / 2) as proxy:
        store = S3Store(stored.url, proxy.settings())
        began = time.monotonic()
        store.get("large", length=RANGE_BYTES)
        alone_s = time.monotonic() - began
        store.download("large", tmp_path / "came", size_bytes=_SIZE)
        together_s = time.monotonic() - began - alone_s
    assert (tmp_path / "came").read_bytes() == content
    assert alone_s >= 2
    assert together_s < 3 * 2


@pytest.mark.parametrize("size_bytes", [1, 10, RANGE_BYTES, _SIZE - 1, _SIZE + 1, 5 * _SIZE])
def test_what_comes_is_the_object_whatever_size_was_said(stored, content, tmp_path, size_bytes):
    stored.download("large", tmp_path / "came", digest=digest_of(content), size_bytes=size_bytes)
    assert (tmp_path / "came").read_bytes() == content


@pytest.mark.parametrize(("size_bytes", "asked"), [(_SIZE, 0), (None, 1)])
def test_a_disk_that_is_too_full_is_told_before_more_than_a_range_has_moved(
    stored, seaweedfs, tmp_path, size_bytes, asked
):
    with proxied(seaweedfs) as proxy, files_hold_at_most(3 * RANGE_BYTES):
        store = S3Store(stored.url, proxy.settings())
        with pytest.raises(OSError, match="File too large"):
            store.download("large", tmp_path / "came", size_bytes=size_bytes)
    assert len(proxy.requests) == asked


@pytest.mark.parametrize("number", [0, 2, 3])
@pytest.mark.parametrize(
    "spoiled",
    [Spoiled(status=503), Spoiled(cut_after=1000), Spoiled(cut_after=0), Spoiled(lose_answer=True)],
    ids=["busy", "cut", "nothing", "answer lost"],
)
def test_a_range_that_fails_once_is_asked_for_again(download, content, number, spoiled):
    came, proxy = download(Once(number, spoiled))
    assert came == content
    assert len(proxy.requests) == 5


def test_a_range_that_is_always_cut_is_told_and_may_be_tried_again(download):
    with pytest.raises(StorageUnavailableError, match="large failed") as caught:
        download(lambda request: Spoiled(cut_after=9) if is_range(request, 1) else None)
    assert caught.value.retryable


def test_a_server_that_stays_busy_is_told(download):
    with pytest.raises(StorageUnavailableError, match="SlowDown"):
        download(lambda request: Spoiled(status=503) if is_range(request, 2) else None, max_attempts=2)


@pytest.mark.parametrize("number", [0, 2])
def test_a_whole_object_for_a_range_is_refused(download, number):
    with pytest.raises(StorageError, match="ignores byte ranges"):
        download(lambda request: Spoiled(without_range=is_range(request, number)))


def test_an_object_smaller_than_a_range_comes_whole_from_a_server_that_ignores_ranges(stored, seaweedfs, tmp_path):
    stored.put("small", b"content")
    with proxied(seaweedfs, lambda _: Spoiled(without_range=True)) as proxy:
        S3Store(stored.url, proxy.settings()).download("small", tmp_path / "came")
    assert (tmp_path / "came").read_bytes() == b"content"


def test_a_byte_that_is_changed_on_the_way_is_noticed(download, content):
    with pytest.raises(DigestMismatchError, match=rf"s3://.*/large .* expected {digest_of(content)}, got sha256:"):
        download(lambda request: Spoiled(flip_at=77) if is_range(request, 2) else None)


def test_two_states_of_an_object_never_mix(download, stored, content, tmp_path):
    """The object is replaced by another of its size when its third range is asked for."""
    other = tmp_path / "other"
    other.write_bytes(content[::-1])

    def replace(request):
        if is_range(request, 2):
            stored.upload("large", other)

    with pytest.raises(ObjectChangedError, match="changed by another writer"):
        download(replace)


def test_an_object_that_is_deleted_during_a_download_is_told(download, stored):
    def delete(request):
        if is_range(request, 1):
            stored.delete(["large"])

    with pytest.raises(KeyNotFoundError, match="large"):
        download(delete)


def test_a_server_that_is_killed_during_a_download_is_waited_for(download, content, seaweedfs):
    """Requests that find no server are repeated until it is back."""
    restarted = threading.Event()

    def restart(request):
        if is_range(request, 2) and not restarted.is_set():
            restarted.set()
            seaweedfs.restart()

    came, _ = download(restart, max_attempts=10)
    assert restarted.is_set()
    assert came == content


def test_a_file_that_is_no_more_what_it_was_is_not_stored_and_leaves_no_parts(stored, tmp_path):
    path = tmp_path / "changed"
    path.write_bytes(os.urandom(40 * _MIB))
    with pytest.raises(DigestMismatchError, match="changed holds other bytes"):
        stored.upload("changed", path, digest=digest_of(b"as it was"))
    assert stored.find_info("changed") is None
    client, bucket = stored._bucket.client, stored._bucket.name
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket, Prefix=stored._prefix)


def test_the_server_keeps_the_checksum_of_every_part(stored, content):
    head = stored._bucket.client.head_object(
        Bucket=stored._bucket.name, Key=f"{stored._prefix}large", ChecksumMode="ENABLED"
    )
    assert head["ChecksumSHA256"].endswith("-2")


@pytest.mark.parametrize("size_bytes", [7, 40 * _MIB])
def test_bytes_changed_on_their_way_to_the_server_are_refused(stored, seaweedfs, tmp_path, size_bytes):
    path = tmp_path / "spoiled"
    path.write_bytes(bytes(size_bytes))
    with proxied(seaweedfs, lambda _: Spoiled(flip_sent_at=5)) as proxy:
        store = S3Store(stored.url, proxy.settings(max_attempts=2))
        with pytest.raises(StorageError):
            store.upload("spoiled", path)
    assert stored.find_info("spoiled") is None


# --- the order


@pytest.mark.parametrize("at_first", [None, 1, 3])
def test_results_come_in_order_and_few_are_held(at_first):
    begun, lock = [], threading.Lock()

    def task(number):
        with lock:
            begun.append(number)
        time.sleep(0.001 * (number % 3))
        return number

    came = []
    for number in in_order((lambda n=n: task(n) for n in range(60)), threads=4, at_first=at_first):
        came.append(number)
        assert len(begun) <= number + 4 + 3
    assert came == list(range(60))


def most_held(*, task_s, use_s):
    """Use results as slowly as is said, and return how many were begun and not yet used at most."""
    begun, most = [], 0

    def task():
        begun.append(None)
        time.sleep(task_s)

    for number, _ in enumerate(in_order([task] * 40, threads=8, at_first=2)):
        most = max(most, len(begun) - number)
        time.sleep(use_s)
    return most


def test_what_is_done_slower_than_it_is_used_is_done_by_all_threads():
    assert most_held(task_s=0.05, use_s=0) >= 8


def test_what_is_done_faster_than_it_is_used_is_not_held_in_numbers():
    assert most_held(task_s=0, use_s=0.05) <= 4


def test_after_a_failure_nothing_more_is_begun():
    begun = []

    def task(number):
        begun.append(number)
        if number == 3:
            raise StorageError("broken")

    with pytest.raises(StorageError, match="broken"):
        list(in_order((lambda n=n: task(n) for n in range(100)), threads=2))
    assert len(begun) <= 3 + 2 + 3


# --- a completion whose answer is lost


def is_completion(request):
    return request.method == "POST" and "uploadId=" in request.path


def upload_without_an_answer(stored, seaweedfs, path, before_repetition=lambda: None):
    """Upload through a proxy that loses the first completion's answer; return how many completions were asked for."""
    asked = []

    def lose(request):
        if not is_completion(request):
            return None
        asked.append(request)
        if len(asked) == 2:
            before_repetition()
        return Spoiled(lose_answer=len(asked) == 1)

    with proxied(seaweedfs, lose) as proxy:
        S3Store(stored.url, proxy.settings()).upload("again", path)
    return len(asked)


def test_an_upload_that_was_completed_and_not_answered_is_done(stored, seaweedfs, content, tmp_path):
    (tmp_path / "sent").write_bytes(content)
    assert upload_without_an_answer(stored, seaweedfs, tmp_path / "sent") == 2
    assert stored.get("again") == content


def test_an_upload_that_the_server_has_forgotten_is_done_if_its_bytes_are_there(stored, seaweedfs, content, tmp_path):
    """This server answers a repeated completion while its object is there, not all do: so it is another upload's."""
    (tmp_path / "sent").write_bytes(content)

    def put_anew():
        stored.delete(["again"])
        stored.upload("again", tmp_path / "sent")

    assert upload_without_an_answer(stored, seaweedfs, tmp_path / "sent", put_anew) == 2
    assert stored.get("again") == content


@pytest.mark.parametrize("other", [None, b"another", "of its size"])
def test_an_upload_that_nobody_can_tell_of_may_be_tried_again(stored, seaweedfs, content, tmp_path, other):
    """What the lost completion made is gone or replaced by the time at which it is repeated."""
    (tmp_path / "sent").write_bytes(content)
    (tmp_path / "other").write_bytes(content[::-1])

    def change():
        stored.delete(["again"])
        if other == "of its size":
            stored.upload("again", tmp_path / "other")
        elif other is not None:
            stored.put("again", other)

    with pytest.raises(StorageUnavailableError, match=r"again failed: .*[Tt]ry again\.") as caught:
        upload_without_an_answer(stored, seaweedfs, tmp_path / "sent", change)
    assert caught.value.retryable
