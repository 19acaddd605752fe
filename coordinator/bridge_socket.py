"""The socket that the bridge connects to: moves lines, and decides nothing.

Laws: mode 0660, so that one other account can be let in by its group; at most ``_CONNECTIONS`` at
once, the next one is closed at the door; a line that is longer than it may be, or takes longer than
``_LINE_S``, ends its connection and no other; whoever asks too often waits in a thread of its own.
So a hostile bridge costs some threads and no turn of anybody else (flower.md 5).
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from .bridge_request import LINE_BYTES
from .control import short_name

_CONNECTIONS: Final = 8
_KNOCKING: Final = 64
_IDLE_S: Final = 600.0
_LINE_S: Final = 10.0
_PAUSE_S: Final = 0.05
_TOO_LARGE: Final = b'{"v":1,"error":"too-large"}\n'


class BridgeSocket:
    """Listens until it is closed; ``answer`` takes a line and returns one."""

    def __init__(self, path: Path, answer: Callable[[bytes], bytes]) -> None:
        """Take over the path; the caller owns the coordinator's folder."""
        path.unlink(missing_ok=True)
        self._path = path
        self._answer = answer
        self._places = threading.BoundedSemaphore(_CONNECTIONS)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closing = False
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with short_name(path) as name:
                self._listener.bind(name)
            path.chmod(0o660)  # until here nobody but the owner may write to it, so connect
            self._listener.listen(_KNOCKING)
        except BaseException:
            self._listener.close()
            raise
        self._thread = threading.Thread(target=self._accept, name="bridge", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering, hang up, remove the socket."""
        with self._lock:
            self._closing = True
            connections = list(self._open)
        for each in (self._listener, *connections):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        self._path.unlink(missing_ok=True)

    def _accept(self) -> None:
        while not self._closing:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                if not self._closing:
                    time.sleep(_PAUSE_S)  # no file descriptor left: somebody else's have to go
                continue
            if not self._places.acquire(blocking=False):
                connection.close()
                continue
            threading.Thread(
                target=self._serve, args=(connection,), name="bridge-line", daemon=True
            ).start()

    def _serve(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)
        try:
            with connection, contextlib.suppress(OSError):
                self._answer_lines(connection)
        finally:
            with self._lock:
                self._open.discard(connection)
            self._places.release()

    def _answer_lines(self, connection: socket.socket) -> None:
        rest = b""
        while not self._closing:
            line, rest = _read_line(connection, rest)
            if line is None:
                if len(rest) > LINE_BYTES:
                    connection.sendall(_TOO_LARGE)
                return
            answer = self._answer(line)
            if b'"rate-limited"' in answer:
                time.sleep(_PAUSE_S)
            connection.settimeout(_LINE_S)
            connection.sendall(answer)


def _read_line(connection: socket.socket, rest: bytes) -> tuple[bytes | None, bytes]:
    """Return a line and what came after it; no line when the peer ended, or was too long or slow.

    Raises TimeoutError: nothing came for too long.
    """
    begun_s = time.monotonic()
    while b"\n" not in rest:
        if len(rest) > LINE_BYTES:
            return None, rest
        left_s = _LINE_S - (time.monotonic() - begun_s)
        if rest and left_s <= 0:
            return None, b""
        connection.settimeout(left_s if rest else _IDLE_S)
        more = connection.recv(LINE_BYTES)
        if not more:
            return None, b""
        if not rest:
            begun_s = time.monotonic()
        rest += more
    line, _, rest = rest.partition(b"\n")
    return line, rest
