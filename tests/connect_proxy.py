"""A proxy as companies have them: CONNECT for TLS, whole addresses for plain HTTP; it keeps notes.

``asked`` is each request's first line, ``logins`` what stood in Proxy-Authorization.
"""

import contextlib
import http.client
import http.server
import socket
import threading
from typing import Any, Self
from urllib.parse import urlsplit


class ConnectProxy:
    """Listens on 127.0.0.1 until the block ends."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.logins: list[str] = []
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.host_port = f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: ConnectProxy

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the library's name
        del format, args

    def _note(self) -> None:
        self.proxy.asked.append(self.requestline)
        self.proxy.logins.append(self.headers.get("proxy-authorization", ""))

    def do_CONNECT(self) -> None:
        self._note()
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port))) as far:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=_pump, args=(far, self.connection), daemon=True)
            back.start()
            _pump(self.connection, far)
            back.join()
        self.close_connection = True

    def do_GET(self) -> None:
        self._note()
        parts = urlsplit(self.path)
        line = http.client.HTTPConnection(parts.netloc)
        wanted = {k: v for k, v in self.headers.items() if not k.lower().startswith("proxy")}
        line.request("GET", parts.path, headers=wanted)
        reply = line.getresponse()
        body = reply.read()
        self.send_response(reply.status)
        for name, value in reply.getheaders():
            if name.lower() in ("content-range", "content-length"):
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        line.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
