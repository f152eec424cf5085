"""A real S3 server that is killed in the middle, and a network that drops the answer to a commit."""

import contextlib
import hashlib
import socket
import threading
import time

import pytest

from airflow_provider_hfreg.errors import HfregError
from airflow_provider_hfreg.storage.s3 import S3Store
from airflow_provider_hfreg.testing import servers
from airflow_provider_hfreg.testing.faults import Fault, Faults, FaultyStore
from airflow_provider_hfreg.versions.format import ensure_format
from airflow_provider_hfreg.versions.layout import Layout
from airflow_provider_hfreg.versions.publish import find_manifest
from airflow_provider_hfreg.versions.refs import Head
from airflow_provider_hfreg.versions.swap import edit, read

WEIGHTS_BYTES = 20_000_000  # sent in parts


# --- a server that is killed


@pytest.fixture(scope="module")
def mortal(tmp_path_factory):
    """A server of its own: the others' tests need theirs."""
    with servers.seaweedfs(tmp_path_factory.mktemp("mortal")) as server:
        yield server


def kill_in_a_moment(server):
    """Let a request begin, and kill the server under it."""
    threading.Timer(0.02, server.kill).start()


@pytest.mark.parametrize(
    ("operation", "key", "when"),
    [("upload", "blobs/", "before"), ("put_if_absent", "versions/", "before"), ("put_if_absent", "versions/", "after")],
    ids=["during an upload", "during the commit", "after the commit"],
)
def test_a_server_killed_while_a_version_is_logged_loses_nothing_that_it_acknowledged(
    mortal, model_folder, publish_folder, operation, key, when
):
    bucket = mortal.create_bucket(f"mortal-{operation.replace('_', '-')}-{when}")
    impatient = mortal.settings(max_attempts=2, connect_timeout_s=2.0, read_timeout_s=10.0)
    store = S3Store(f"{bucket}/registry", impatient)
    ensure_format(store, created="")
    publish_folder(store, model_folder("old", seed=1), version_name="old")
    folder = model_folder("new", seed=2, weight_bytes=WEIGHTS_BYTES)
    act = mortal.kill if when == "after" else lambda: kill_in_a_moment(mortal)
    acknowledged = False
    with contextlib.suppress(HfregError):
        acknowledged = publish_folder(
            FaultyStore(store, Faults(Fault(operation, act, key=key, when=when))), folder, version_name="new"
        ).created
    deadline = time.monotonic() + 30
    while mortal.process.is_running and time.monotonic() < deadline:
        time.sleep(0.05)
    mortal.restart()
    survived = find_manifest(store, "finbert", "new") is not None
    assert survived or not (acknowledged or when == "after")
    assert publish_folder(store, folder, version_name="new").created is not survived
    for version_name in ("old", "new"):
        assert_whole(store, version_name)


def assert_whole(store, version_name):
    for file in find_manifest(store, "finbert", version_name).files:
        assert f"sha256:{hashlib.sha256(store.get(file.key)).hexdigest()}" == file.digest


# --- a network that drops answers


class CuttingProxy:
    """
    Passes connections on to a server; the answer to the first PUT of a key is dropped, and the connection with it.

    :param key: part of the key. "100 Continue" is no answer, and is passed on.
    """

    def __init__(self, port, key):
        self.cuts = 0
        self._target, self._key = ("127.0.0.1", port), key.encode()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                due = threading.Event()
                threading.Thread(target=self._pump, args=(client, server, due, True), daemon=True).start()
                threading.Thread(target=self._pump, args=(server, client, due, False), daemon=True).start()

    def _pump(self, source, target, due, is_request):
        with source, target, contextlib.suppress(OSError):
            while content := source.recv(1 << 16):
                line = content.split(b"\r\n")[0]
                if is_request and not self.cuts and line.startswith(b"PUT ") and self._key in line:
                    due.set()
                if not is_request and due.is_set() and not content.startswith(b"HTTP/1.1 100"):
                    self.cuts += 1
                    break  # done, and nobody is told
                target.sendall(content)
            for end in (source, target):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def behind_proxy(seaweedfs, s3_url):
    """A function that opens the test's place through a proxy that drops one answer."""

    @contextlib.contextmanager
    def behind_proxy(key):
        port = int(seaweedfs.endpoint_url.rsplit(":", 1)[1])
        with CuttingProxy(port, key) as proxy:
            settings = seaweedfs.settings(endpoint_url=f"http://127.0.0.1:{proxy.port}")
            yield S3Store(s3_url, settings), proxy

    return behind_proxy


def test_a_commit_whose_answer_the_network_dropped_is_success_exactly_once(
    behind_proxy, s3_url, s3_settings, model_folder, publish_folder
):
    with behind_proxy("versions/v1.json") as (store, proxy):
        published = publish_folder(store, model_folder())
        assert proxy.cuts == 1
    assert published.created
    direct = S3Store(s3_url, s3_settings)
    assert find_manifest(direct, "finbert", "v1").nonce == published.manifest.nonce
    assert list(direct.list_infos("gc/")) == []
    assert not publish_folder(direct, model_folder()).created


@pytest.mark.parametrize("earlier_edits", [0, 1])
def test_an_edit_whose_answer_the_network_dropped_is_applied_exactly_once(
    behind_proxy, s3_url, s3_settings, earlier_edits
):
    key = Layout.head("finbert")
    direct = S3Store(s3_url, s3_settings)

    def add(store, name):
        return edit(
            store,
            key,
            Head.from_plain,
            Head(),
            lambda head: head.with_tags({name: str(head.revision)}),
        )

    for number in range(earlier_edits):
        add(direct, f"earlier-{number}")
    with behind_proxy("head.json") as (store, proxy):
        add(store, "mine")
        assert proxy.cuts == 1
    head = read(direct, key, Head.from_plain, Head())
    assert head.revision == earlier_edits + 1
    assert head.tags["mine"] == str(earlier_edits)
