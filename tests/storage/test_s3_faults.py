"""
Answers that no healthy server gives, from a real HTTP server that follows a script: busy, broken off, range ignored.

Each answer of the script is given once, in turn; the last one again and again.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from airflow_provider_hfreg.errors import (
    ConditionalWritesUnsupportedError,
    KeyExistsError,
    StorageError,
    StorageUnavailableError,
)
from airflow_provider_hfreg.storage.s3 import S3Store
from airflow_provider_hfreg.storage.settings import S3Settings


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int = 0  # bytes of the body that are announced and never sent


def _error(status, code):
    return Answer(status, f"<Error><Code>{code}</Code><Message>scripted</Message></Error>".encode())


_OK = Answer(200, b"", {"ETag": '"e"'})
_WHOLE = Answer(200, b"0123456789", {"ETag": '"e"'})


@contextlib.contextmanager
def _serving(*script):
    """Yield a store on a server that answers by the script, and the requests that it has seen."""
    answers, seen = list(script), []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # else a client waits a second for "100 Continue" in vain

        def answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.command == "HEAD" and self.path in ("/bucket", "/bucket/"):
                return self._send(_OK)  # the check of the bucket stands in no script
            seen.append((self.command, dict(self.headers), body))
            return self._send(answers.pop(0) if len(answers) > 1 else answers[0])

        def _send(self, answer):
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body[: len(answer.body) - answer.cut])
            self.close_connection = bool(answer.cut)

        do_GET = do_PUT = do_HEAD = answer  # noqa: N815 - the names that http.server calls

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    settings = S3Settings(
        f"http://127.0.0.1:{server.server_port}", access_key_id="key", secret_access_key="secret", max_attempts=2
    )
    try:
        yield S3Store("s3://bucket", settings), seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"content")
    return path


def test_a_conflict_of_two_conditional_writes_is_repeated_whole(path):
    busy = _error(409, "ConditionalRequestConflict")
    with _serving(busy, busy, _OK) as (store, seen):
        store.put_if_absent("key", path)
    assert [body for _, _, body in seen] == [b"content"] * 3
    assert all(headers["If-None-Match"] == "*" for _, headers, _ in seen)


def test_a_write_to_a_busy_server_is_repeated():
    with _serving(_error(503, "SlowDown"), _OK) as (store, seen):
        store.put("key", b"content")
    assert len(seen) == 2


def test_a_server_that_stays_busy_is_told_and_may_be_tried_again():
    with _serving(_error(503, "SlowDown")) as (store, _), pytest.raises(StorageUnavailableError, match="SlowDown"):
        store.put("key", b"content")


def test_a_lost_answer_looks_like_a_lost_race():
    """The first answer says 500 though the object was stored; only the caller can tell, by reading back."""
    answers = _error(500, "InternalError"), _error(412, "PreconditionFailed")
    with _serving(*answers) as (store, _), pytest.raises(KeyExistsError):
        store.put_if_absent("key", b"content")


def test_a_body_that_breaks_off_is_read_again():
    with _serving(Answer(200, b"0123456789", {"ETag": '"e"'}, cut=4), _WHOLE) as (store, seen):
        assert store.get("key") == b"0123456789"
    assert len(seen) == 2


def test_a_body_that_always_breaks_off_is_told():
    broken = Answer(200, b"0123456789", {"ETag": '"e"'}, cut=4)
    with _serving(broken) as (store, seen), pytest.raises(StorageUnavailableError, match="s3://bucket/key"):
        store.get("key")
    assert len(seen) == 3


def test_a_whole_object_for_a_range_is_refused():
    with _serving(_WHOLE) as (store, _), pytest.raises(StorageError, match="ignores byte ranges"):
        store.get("key", start=2, length=3)


def test_a_range_that_is_cut_short_is_refused():
    """206 with fewer bytes than asked, although the object goes on."""
    short = Answer(206, b"23", {"ETag": '"e"', "Content-Range": "bytes 2-3/10"})
    with _serving(short) as (store, _), pytest.raises(StorageUnavailableError, match="2 read"):
        store.get("key", start=2, length=3)


def test_a_server_without_conditional_writes_says_so_and_is_told():
    with _serving(_error(501, "NotImplemented")) as (store, _), pytest.raises(ConditionalWritesUnsupportedError):
        store.put_if_absent("key", b"content")


def test_a_server_without_checksums_gets_none_from_its_first_refusal_on(path):
    with _serving(_error(501, "NotImplemented"), _OK) as (store, seen):
        store.upload("key", path)
        store.upload("other", path)
    asked = ["X-Amz-Checksum-Sha256" in {name.title() for name in headers} for _, headers, _ in seen]
    assert asked == [True, False, False]
    assert [body for _, _, body in seen] == [b"content"] * 3


def test_a_server_that_shows_another_checksum_than_was_sent_is_told(path):
    other = Answer(200, b"", {"ETag": '"e"', "x-amz-checksum-sha256": "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="})
    with _serving(other) as (store, _), pytest.raises(StorageError, match="shows another checksum"):
        store.upload("key", path)


def test_every_body_is_checked_on_its_way():
    """Without a checksum header, the signature covers the SHA-256 of the body: a flipped bit is refused."""
    with _serving(_OK) as (store, seen):
        store.put("key", b"content")
    ((_, headers, _),) = seen
    signed = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"
    assert headers["X-Amz-Content-SHA256"] == signed
