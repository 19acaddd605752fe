"""An HTTP server on 127.0.0.1 that gives a folder by ranges, and can be told to misbehave.

``lie(name, start, end)`` returns how the next answer goes wrong, "" for not. ``ranges`` is what was
asked for. With ``tls`` it shows that certificate; ``pause_s`` comes before each 256 KiB of a body.
"""

import http.server
import ssl
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from .certificates import Certificate

Lie = Callable[[str, int, int], str]


class Web:
    """Serves ``folder`` until the block ends."""

    def __init__(self, folder: Path, *, tls: Certificate | None = None) -> None:
        self.folder = folder
        self.lie: Lie = lambda *_: ""
        self.ranges: list[tuple[str, int, int]] = []
        self.tls = tls
        self.pause_s = 0.0
        handler = type("Handler", (_Handler,), {"web": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            with tempfile.NamedTemporaryFile(suffix=".pem") as file:
                file.write(tls.pem + tls.key)
                file.flush()
                context.load_cert_chain(file.name)
            self._server.socket = context.wrap_socket(
                self._server.socket,
                server_side=True,
                do_handshake_on_connect=False,  # in the answering thread, not in the accepting one
            )

    @property
    def url(self) -> str:
        scheme = "http" if self.tls is None else "https"
        return f"{scheme}://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: Web

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the library's name
        del format, args

    def do_GET(self) -> None:
        name = self.path.removeprefix("/")
        path = self.web.folder / name
        if not path.is_file():
            self.send_error(404)
            return
        size = path.stat().st_size
        asked = self.headers.get("range", "")
        start, end = 0, size
        if asked:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, end = int(first), int(last) + 1
        lie = self.web.lie(name, start, end)
        self.web.ranges.append((name, start, end))
        if lie == "error":
            self.send_error(503)
        elif lie == "elsewhere":
            self.send_response(302)
            self.send_header("location", f"http://localhost:1/{name}")
            self.send_header("content-length", "0")
            self.end_headers()
        else:
            self._answer(lie, path, start, end, ranged=bool(asked) and lie != "whole")

    def _answer(self, lie: str, path: Path, start: int, end: int, *, ranged: bool) -> None:
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(start if ranged else 0)
            body = file.read(end - start if ranged else size)
        if lie == "wrong" and body:
            body = bytes([body[0] ^ 1]) + body[1:]
        self.send_response(206 if ranged else 200)
        if ranged:
            shift = 1 if lie == "shifted" else 0
            self.send_header("content-range", f"bytes {start + shift}-{end - 1}/{size}")
        if lie == "gzip":
            self.send_header("content-encoding", "gzip")
        if lie == "endless":
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            piece = b"%x\r\n" % len(body[: 1 << 16]) + body[: 1 << 16] + b"\r\n"
            while body:
                self.wfile.write(piece)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if lie == "cut":
            self.wfile.write(body[: len(body) // 3])
            self.close_connection = True
            return
        step, pause_s = (1, 0.05) if lie == "drip" else (1 << 18, self.web.pause_s)
        for at in range(0, len(body), step):
            time.sleep(pause_s)
            self.wfile.write(body[at : at + step])
