"""Hangs up on who is slow: in TLS, in headers, in a body, in what follows a body.

Law: every ``WATCHED_S`` from the question on, an answer brings body bytes at the slowest rate that
is borne, or its connection is shut. A socket's timeout alone sees silence; a byte every nineteen
seconds, in a header that never ends, is no silence (T18). Cost: one thread while answers are open.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Generator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

from urllib3.connection import HTTPConnection, HTTPSConnection

WATCHED_S: Final = 30.0


@dataclass(slots=True)
class Answer:
    """One answer under watch: ``come`` bytes of its body since ``since_s``; ``cut`` once shut."""

    come: int = 0
    since_s: float = field(default_factory=time.monotonic)
    cut: str = ""
    connection: HTTPConnection | None = None
    line: socket.socket | None = None  # the connection forgets it when an answer has no length


_ASKED: ContextVar[Answer | None] = ContextVar("asked", default=None)


class Watch:
    """The answers that are open at one server; ``slowest`` in bytes a second."""

    def __init__(self, slowest: int) -> None:
        """Watch nothing yet; the thread runs while there is something to watch."""
        self._slowest = slowest
        self._answers: list[Answer] = []
        self._changed = threading.Condition()
        self._running = False

    @contextlib.contextmanager
    def on(self) -> Generator[Answer]:
        """Watch one answer until the block ends."""
        answer = Answer()
        with self._changed:
            self._answers.append(answer)
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, daemon=True).start()
        try:
            yield answer
        finally:
            with self._changed:
                self._answers.remove(answer)
                self._changed.notify()

    def _run(self) -> None:
        with self._changed:
            while self._answers:
                now_s = time.monotonic()
                for answer in self._answers:
                    self._look(answer, now_s)
                self._changed.wait(WATCHED_S / 10)
            self._running = False

    def _look(self, answer: Answer, now_s: float) -> None:
        took_s = now_s - answer.since_s
        if took_s < WATCHED_S:
            return
        if answer.come >= self._slowest * took_s:
            answer.since_s, answer.come = now_s, 0
            return
        answer.cut = f"{answer.come} bytes in {took_s:.0f} s"
        sock = answer.line or (answer.connection.sock if answer.connection else None)
        if sock is not None:
            with contextlib.suppress(OSError):  # it may be gone already
                socket.socket.shutdown(sock, socket.SHUT_RDWR)  # of TLS too: its own forgets it


@contextlib.contextmanager
def asked(answer: Answer) -> Generator[None]:
    """Have connections that this thread uses in the block belong to ``answer``."""
    token = _ASKED.set(answer)
    try:
        yield
    finally:
        _ASKED.reset(token)


class WatchedConnection(HTTPConnection):
    """A connection that says which answer it is used for."""

    def connect(self) -> None:
        """Connect, under watch."""
        _used(self)
        super().connect()

    def send(self, data: Any) -> None:  # noqa: ANN401  # the library's own type is private
        """Ask, under watch: also when the connection is an old one."""
        _used(self)
        super().send(data)
        _used(self)  # it may have been connected meanwhile


class WatchedTlsConnection(WatchedConnection, HTTPSConnection):
    """The same, over TLS."""


def _used(connection: HTTPConnection) -> None:
    if (answer := _ASKED.get()) is not None:
        answer.connection, answer.line = connection, connection.sock
