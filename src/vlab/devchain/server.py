"""JSON-RPC over HTTP on the loopback interface, with limits on what a request may take."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

from vlab.devchain.rpc import Rpc

MAX_REQUEST_BYTES = 1 << 20
IDLE_TIMEOUT_S = 60


class Server(ThreadingHTTPServer):
    """Serves one chain; requests are answered one after the other."""

    daemon_threads = True

    def __init__(self, rpc: Rpc, port: int) -> None:
        """Listen on 127.0.0.1.

        Args:
            rpc: what answers.
            port: 0 takes a free one, see `server_port`.

        Raises:
            OSError: the port is taken.
        """
        self._rpc = rpc
        self._one_at_a_time = threading.Lock()
        super().__init__(("127.0.0.1", port), _Handler)

    def answer(self, body: bytes) -> bytes:
        """Answer one HTTP request's JSON."""
        with self._one_at_a_time:
            return self._rpc.answer(body)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_TIMEOUT_S
    wbufsize = -1  # head and body in one packet, else each answer waits 40 ms for an acknowledgement
    server: Server
    _local: ClassVar = {"127.0.0.1", "localhost"}

    def do_POST(self) -> None:
        length = self.headers.get("content-length", "")
        if self.headers.get("host", "").partition(":")[0] not in self._local:
            self._end(403, b"host is not the loopback interface")  # a web page behind a rebound name
        elif self.headers.get_content_type() != "application/json":
            self._end(415, b"expected content-type application/json")  # which a foreign web page may not send
        elif not length.isdecimal() or int(length) > MAX_REQUEST_BYTES:
            self._end(413, b"expected content-length up to %d" % MAX_REQUEST_BYTES)
        else:
            self._end(200, self.server.answer(self.rfile.read(int(length))), "application/json")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is the base class's
        """Say nothing for each request."""

    def _end(self, status: int, body: bytes, kind: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        if status != 200:  # the body may be unread, so the connection cannot serve another request
            self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(body)
