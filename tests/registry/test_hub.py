"""A model of the hub: a double of the hub's HTTP interface on this machine, and the hub's real client."""

import hashlib
import http.server
import json
import threading
import urllib.parse

import pytest

from airflow_provider_hfreg.errors import (
    LocalFileError,
    ModelNotFoundError,
    StorageDeniedError,
    StorageUnavailableError,
    UnsafeModelError,
)
from airflow_provider_hfreg.storage.local import LocalStore
from airflow_provider_hfreg.testing.encoder_models import sentence_embedder
from airflow_provider_hfreg.testing.faults import files_hold_at_most

TASK = "text-classification"
COMMIT = "c0ffee" + "0" * 34
TOKEN = "hf" + "_" + "aB3" * 12


class Hub(http.server.ThreadingHTTPServer):
    """Serves one repository: its description, and the files of its commit."""

    daemon_threads = True

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.files = {path.name: path.read_bytes() for path in folder.iterdir()}
        self.requests = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class HubHandler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self._answer(with_body=False)

    def do_GET(self):
        self._answer(with_body=True)

    def log_message(self, *arguments):
        pass

    def _answer(self, *, with_body):
        path = urllib.parse.unquote(self.path.partition("?")[0])
        self.server.requests.append((self.command, path, self.headers.get("Authorization")))
        resolved = f"/acme/finbert/resolve/{COMMIT}/"
        if path in ("/api/models/acme/finbert", "/api/models/acme/finbert/revision/main"):
            siblings = [{"rfilename": name} for name in self.server.files]
            self._send(json.dumps({"id": "acme/finbert", "sha": COMMIT, "siblings": siblings}).encode(), with_body)
        elif path == "/api/models/acme/gated":
            self._refuse(403, "GatedRepo")
        elif path.startswith(resolved) and path.removeprefix(resolved) in self.server.files:
            self._send(self.server.files[path.removeprefix(resolved)], with_body)
        else:
            self._refuse(404, "RepoNotFound" if "acme/finbert" not in path else "RevisionNotFound")

    def _send(self, content, with_body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if with_body:
            self.wfile.write(content)

    def _refuse(self, status, code):
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def hub(classifier, monkeypatch):
    """The hub's double, where the hub's client looks."""
    server = Hub(classifier)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def log(registry, repo_id="acme/finbert", **changes):
    return registry.log_hub_model(repo_id, model_name="finbert", version_name="v1", task=TASK, **changes)


def test_a_hub_model_is_pinned_to_its_commit_and_equals_the_same_folder(hub, file_registry, classifier):
    mv = log(file_registry, revision="main")
    assert mv.spec.source == {"repo_id": "acme/finbert", "commit": COMMIT}
    assert not file_registry.log_folder(classifier, model_name="finbert", version_name="v1", task=TASK).created


def test_only_what_may_be_stored_is_fetched(hub, file_registry):
    hub.files |= {"pytorch_model.bin": b"\x80\x02", "tf_model.h5": b"x", ".gitattributes": b"x"}
    log(file_registry)
    fetched = {path.rsplit("/", 1)[-1] for _, path, _ in hub.requests}
    assert "model.safetensors" in fetched
    assert not fetched & {"pytorch_model.bin", "tf_model.h5", ".gitattributes"}


def test_a_repository_of_sentence_transformers_says_how_it_pools(hub, file_registry, tmp_path):
    folder = sentence_embedder(tmp_path / "embedder", pooling="cls")
    hub.files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    hub.files["train_script.py"] = b"import torch\n"
    mv = file_registry.log_hub_model("acme/finbert", model_name="embedder", task="feature-extraction")
    assert mv.spec.parameters == {"pooling": "cls", "normalize": True}
    assert "train_script.py" not in {file.path for file in mv.manifest.files}


def test_a_repository_of_pickles_alone_is_refused_before_a_file_is_fetched(hub, file_registry):
    hub.files = {"config.json": b"{}", "pytorch_model.bin": b"\x80\x02"}
    with pytest.raises(UnsafeModelError, match=r"acme/finbert at c0ffee.* holds pytorch_model\.bin"):
        log(file_registry)
    assert not any("resolve" in path for _, path, _ in hub.requests)


def test_the_token_goes_into_the_requests_and_nowhere_else(hub, file_registry, tmp_path, caplog):
    caplog.set_level("DEBUG")
    log(file_registry, token=TOKEN)
    assert {header for _, _, header in hub.requests} == {f"Bearer {TOKEN}"}
    store = LocalStore(file_registry.url)
    assert not any(TOKEN.encode() in store.get(info.key) for info in store.list_infos())
    assert not any(TOKEN.encode() in path.read_bytes() for path in (tmp_path / "host").rglob("*") if path.is_file())
    assert TOKEN not in caplog.text


def test_without_a_token_none_is_sent_even_if_the_host_has_one(hub, file_registry, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    log(file_registry)
    assert {header for _, _, header in hub.requests} == {None}


def test_a_repository_that_is_not_there_is_told_with_its_name(hub, file_registry):
    with pytest.raises(ModelNotFoundError, match="acme/nothing on http"):
        log(file_registry, "acme/nothing")
    with pytest.raises(ModelNotFoundError, match="acme/finbert at 'v9'"):
        log(file_registry, revision="v9")


def test_a_gated_repository_says_what_to_do(hub, file_registry):
    with pytest.raises(StorageDeniedError, match="accept its conditions"):
        log(file_registry, "acme/gated")


def test_a_hub_out_of_reach_says_what_to_do(file_registry, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(StorageUnavailableError, match="log the folder"):
        log(file_registry)


@pytest.mark.parametrize("room_bytes", [0, 60_000])
def test_a_download_that_finds_no_room_is_not_laid_to_the_hub(hub, file_registry, tmp_path, room_bytes):
    file_registry._begin()
    with (
        files_hold_at_most(room_bytes),
        pytest.raises(LocalFileError, match=r"Fetching .*host.* failed: File too large.* set another one"),
    ):
        log(file_registry)
    assert file_registry.models() == []
    assert not list((tmp_path / "host" / "scratch").iterdir())
