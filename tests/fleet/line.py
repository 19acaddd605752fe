"""The line between a node and SuperLink: a TCP forwarder that a test cuts, mends and slows down.

A cut line ends every connection and refuses new ones, as a router that lost its way out does. A
slow one passes what comes back from SuperLink, or what goes there, at so many bytes a second.
"""

import contextlib
import socket
import threading
import time
from typing import Self

_PIECE = 16_384


class Line:
    """Listens on a port of its own and passes bytes on to ``target``, HOST:PORT."""

    def __init__(self, target: str) -> None:
        """Listen; nothing is wrong with the line yet."""
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._is_cut = False
        self._most: float | None = None
        self.up_bytes = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.cut()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def cut(self) -> None:
        """End every connection; let no new one through."""
        with self._lock:
            self._is_cut = True
            ended, self._open = self._open, set()
        for each in ended:
            _end(each)

    def mend(self) -> None:
        """Let connections through again."""
        with self._lock:
            self._is_cut = False

    def slow(self, bytes_a_second: float | None) -> None:
        """Pass no more than that to SuperLink on each connection; None: as it comes."""
        self._most = bytes_a_second

    def _accept(self) -> None:
        while True:
            try:
                near = self._listener.accept()[0]
            except OSError:
                return
            far = None
            with contextlib.suppress(OSError):
                far = socket.create_connection(self._target, timeout=10)
                far.settimeout(None)
            with self._lock:
                lost = far is None or self._is_cut
                if far is not None and not lost:
                    self._open |= {near, far}
            if far is None or lost:
                near.close()
                if far is not None:
                    far.close()
                continue
            for source, sink, up in ((near, far, True), (far, near, False)):
                threading.Thread(target=self._pump, args=(source, sink, up), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        with contextlib.suppress(OSError):
            while True:
                most = self._most if up else None
                data = source.recv(_PIECE if most is None else max(1, int(most / 4)))
                if not data:
                    break
                if most is not None:
                    time.sleep(len(data) / most)
                sink.sendall(data)
                if up:
                    self.up_bytes += len(data)
        with self._lock:
            self._open -= {source, sink}
        _end(source)
        _end(sink)


def _end(connection: socket.socket) -> None:
    """Wake whoever waits on it, then let it go."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
