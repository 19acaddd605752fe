"""A TCP server on 127.0.0.1 that answers each request with whatever the test writes.

``answer(line, send)`` gets the request's first line; ``asked`` has all of the requests.
"""

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Self

Send = Callable[[bytes], None]
Answer = Callable[[str, Send], None]


class RawWeb:
    """Listens until the block ends; a connection is closed after its answer."""

    def __init__(self, answer: Answer) -> None:
        self.asked: list[str] = []
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near = self._listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with near, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                more = near.recv(65536)
                if not more:
                    return
                head += more
            line = head.decode().splitlines()
            self.asked.append(head.decode())
            self._answer(line[0], near.sendall)
