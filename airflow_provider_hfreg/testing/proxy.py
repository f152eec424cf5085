"""
A proxy before a real S3 server: counts what passes, and spoils answers on purpose.

.. code-block:: python

    with proxied(server, lambda request: Spoiled(status=503) if request.number == 3 else None) as proxy:
        S3Store("s3://bucket", proxy.settings())

The server behind it is real and knows nothing of it: requests arrive with their own Host header, so signatures hold.
Only on 127.0.0.1; one connection to the server per request.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from airflow_provider_hfreg.storage.s3 import S3Store
from airflow_provider_hfreg.storage.settings import S3Settings
from airflow_provider_hfreg.testing.servers import S3Server

_BLOCK_BYTES = 1 << 20
_OF_ONE_CONNECTION = {"connection", "keep-alive", "transfer-encoding"}


@dataclass(frozen=True)
class ProxiedRequest:
    """
    A request that is to be forwarded.

    :param number: from 1.
    :param path: with the query.
    :param range: such as ``bytes=0-99``, or ``""``.
    """

    number: int
    method: str
    path: str
    range: str = ""


@dataclass(frozen=True)
class Spoiled:
    """
    What is done to one request.

    :param status: answered instead of asking the server.
    :param cut_after: of the answer's body only so many bytes are sent, and the connection is closed.
    :param without_range: the whole object is answered, with 200, as by a proxy that knows no ranges.
    :param flip_at: the byte at this place of the answer's body is changed.
    :param flip_sent_at: likewise of the request's body.
    :param lose_answer: the server does it, and the connection is closed without an answer.
    """

    status: int | None = None
    cut_after: int | None = None
    without_range: bool = False
    flip_at: int | None = None
    flip_sent_at: int | None = None
    lose_answer: bool = False


Spoil = Callable[[ProxiedRequest], Spoiled | None]


@dataclass
class Proxy:
    """A running proxy, and what passed through it; the counts grow while it runs."""

    server: S3Server
    spoil: Spoil
    connection_bytes_per_s: float | None = None
    endpoint_url: str = ""
    requests: list[ProxiedRequest] = field(default_factory=list)
    sent_bytes: int = 0
    received_bytes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def settings(self, **changes: Any) -> S3Settings:
        """Return settings that reach the server through it."""
        return self.server.settings(**{"endpoint_url": self.endpoint_url, **changes})

    def note(self, method: str, path: str, asked: str) -> ProxiedRequest:
        """Count a request."""
        with self.lock:
            request = ProxiedRequest(len(self.requests) + 1, method, path, asked)
            self.requests.append(request)
            return request

    def add(self, *, sent: int = 0, received: int = 0) -> None:
        """Count bytes of bodies, sent to the server and received from it."""
        with self.lock:
            self.sent_bytes += sent
            self.received_bytes += received

    def forget(self) -> None:
        """Begin to count anew."""
        with self.lock:
            self.requests, self.sent_bytes, self.received_bytes = [], 0, 0


@contextlib.contextmanager
def proxied(
    server: S3Server, spoil: Spoil = lambda _: None, *, connection_bytes_per_s: float | None = None
) -> Iterator[Proxy]:
    """
    Run a proxy before ``server``.

    :param spoil: asked before each request, from several threads.
    :param connection_bytes_per_s: no answer's body comes faster, as a far store bounds each of its connections.
    """
    proxy = Proxy(server, spoil, connection_bytes_per_s)
    handler = type("Handler", (_Handler,), {"proxy": proxy})
    listening = _Listening(("127.0.0.1", 0), handler)
    proxy.endpoint_url = f"http://127.0.0.1:{listening.server_port}"
    thread = threading.Thread(target=listening.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield proxy
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


class _Listening(ThreadingHTTPServer):
    daemon_threads = True  # a client's idle connection must not keep the end waiting

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is what tests are made of."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def _forward(self) -> None:
        request = self.proxy.note(self.command, self.path, self.headers.get("Range", ""))
        spoiled = self.proxy.spoil(request) or Spoiled()
        length = int(self.headers.get("Content-Length", 0))
        if spoiled.status is not None:
            self.rfile.read(length)
            self._send_error(spoiled.status)
            return
        if spoiled.without_range:
            self._send_whole()
            return
        address = urlsplit(self.proxy.server.endpoint_url)
        with contextlib.closing(http.client.HTTPConnection(address.hostname or "", address.port, timeout=300)) as there:
            self._send_request(there, length, spoiled)
            answer = there.getresponse()
            if spoiled.lose_answer:
                answer.read()
                self.close_connection = True
                return
            self._send_answer(answer, spoiled)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _forward  # noqa: N815 - the names that http.server calls

    def _send_request(self, there: http.client.HTTPConnection, length: int, spoiled: Spoiled) -> None:
        there.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in {*_OF_ONE_CONNECTION, "expect"}:
                there.putheader(name, value)
        there.endheaders()
        position = 0
        while position < length and (block := self.rfile.read(min(_BLOCK_BYTES, length - position))):
            there.send(_flipped(block, spoiled.flip_sent_at, position))
            position += len(block)
            self.proxy.add(sent=len(block))

    def _send_answer(self, answer: http.client.HTTPResponse, spoiled: Spoiled) -> None:
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {*_OF_ONE_CONNECTION, "date", "server"}:
                self.send_header(name, value)
        body = None if answer.headers.get("Content-Length") else answer.read()  # an error's comes without its length
        if body is not None and self.command != "HEAD":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        position, began = 0, time.monotonic()
        while block := body if body is not None else answer.read(_BLOCK_BYTES):
            body = b"" if body is not None else None
            if self.proxy.connection_bytes_per_s is not None:
                due_s = (position + len(block)) / self.proxy.connection_bytes_per_s
                time.sleep(max(0.0, began + due_s - time.monotonic()))
            self._send_block(block, position, spoiled)
            position += len(block)
            if self.close_connection:
                return

    def _send_block(self, block: bytes, position: int, spoiled: Spoiled) -> None:
        block = _flipped(block, spoiled.flip_at, position)
        if spoiled.cut_after is not None and position + len(block) > spoiled.cut_after:
            block, self.close_connection = block[: max(0, spoiled.cut_after - position)], True
        self.wfile.write(block)
        self.proxy.add(received=len(block))

    def _send_whole(self) -> None:
        # The range is signed, so the same request without it is another one, which only an own client can sign.
        bucket, _, key = unquote(urlsplit(self.path).path).lstrip("/").partition("/")
        content, etag = S3Store(f"s3://{bucket}", self.proxy.server.settings()).get_with_etag(key)
        self.send_response(200)
        self.send_header("ETag", etag)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _send_error(self, status: int) -> None:
        body = b"<Error><Code>SlowDown</Code><Message>spoiled by the proxy</Message></Error>"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def _flipped(block: bytes, place: int | None, position: int) -> bytes:
    """
    Return a block of a body in which one bit is another, if the place is in it.

    >>> _flipped(b"abc", 11, position=10)
    b'acc'
    """
    at = -1 if place is None else place - position
    return block[:at] + bytes([block[at] ^ 1]) + block[at + 1 :] if 0 <= at < len(block) else block
