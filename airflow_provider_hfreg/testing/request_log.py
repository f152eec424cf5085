"""
S3 requests counted on the wire: a relay in front of a server, for whoever asks what something costs.

It passes every request on as it came, the host's name too, so that signatures stay valid, and keeps method, path and
query of each. A process that is told the relay's endpoint is counted whole, whatever library it uses; several relays
before one server tell several processes apart.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

_HOP_BY_HOP = ("connection", "transfer-encoding", "content-length")
_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Request:
    """
    One request.

    :param path: bucket and key, decoded.
    :param verb: its method, or ``LIST``.
    """

    verb: str
    path: str

    @classmethod
    def of(cls, method: str, target: str) -> Request:
        """
        Return the request of a first line of HTTP.

        >>> Request.of("GET", "/lake?list-type=2&prefix=out%2Fpart-"), Request.of("HEAD", "/lake/a%20b")
        (Request(verb='LIST', path='/lake?list-type=2&prefix=out/part-'), Request(verb='HEAD', path='/lake/a b'))
        """
        parts = urlsplit(target)
        if "list-type=2" in parts.query:
            return cls("LIST", unquote(f"{parts.path}?{parts.query}"))
        return cls(method, unquote(parts.path))


class RequestLog:
    """
    The requests so far. Safe to ask while others are coming.

    :ivar endpoint_url: of the relay.
    """

    def __init__(self, endpoint_url: str) -> None:
        self.endpoint_url = endpoint_url
        self._requests: list[Request] = []
        self._lock = threading.Lock()

    def add(self, request: Request) -> None:
        """Take one."""
        with self._lock:
            self._requests.append(request)

    def clear(self) -> None:
        """Begin anew."""
        with self._lock:
            self._requests.clear()

    def counts(self, name: Callable[[str], str | None]) -> Counter[tuple[str, str]]:
        """
        Return how many there were of each verb and name.

        :param name: of a path, such as "a claim"; None leaves the request out.
        """
        with self._lock:
            named = [(request.verb, name(request.path)) for request in self._requests]
        return Counter((verb, found) for verb, found in named if found is not None)


@contextlib.contextmanager
def request_log(server_url: str) -> Iterator[RequestLog]:
    """
    Relay to a server of plain HTTP, on a free port of 127.0.0.1.

    :param server_url: such as ``http://127.0.0.1:8333``.
    """
    upstream = urlsplit(server_url).netloc

    class Relay(_Relay):
        def connect(self) -> http.client.HTTPConnection:
            return http.client.HTTPConnection(upstream, timeout=_TIMEOUT_S)

        def took(self, request: Request) -> None:
            log.add(request)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Relay)
    server.daemon_threads = True
    log = RequestLog(f"http://127.0.0.1:{server.server_address[1]}")
    threading.Thread(target=server.serve_forever, name="hfreg-request-log", daemon=True).start()
    try:
        yield log
    finally:
        server.shutdown()
        server.server_close()


class _Relay(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _TIMEOUT_S

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection to the server."""
        raise NotImplementedError

    def took(self, request: Request) -> None:
        """Keep a request."""
        raise NotImplementedError

    def do_GET(self) -> None:
        """Pass a request of any method on, and its answer back."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.took(Request.of(self.command, self.path))
        with contextlib.closing(self.connect()) as connection:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("expect", "connection"):  # answered here already; and between two machines
                    connection.putheader(name, value)
            connection.endheaders(body or None)
            answer = connection.getresponse()
            content = answer.read()
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
        if length is not None and answer.status != http.client.NO_CONTENT:
            self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(content)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815 - the names that http.server calls

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the base class's
        """Say nothing: what is kept is what is asked for."""
