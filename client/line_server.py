"""Answers on a Unix socket inside somebody else's loop: one line in, one line out, then closed.

Laws: no peer holds the loop up. What has not arrived whole within two seconds is dropped, a line
longer than ``longest`` is handed on cut off, so that it is refused; more than sixteen at a time are
not let in, and an answer that is not taken is lost. The socket appears with its mode: nobody can
connect before. T18 in small. Not here: what a line means.
"""

import contextlib
import os
import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ..core.errors import InputError
from .line_client import short_name

_PEER_S: Final = 2.0
_MOST_PEERS: Final = 16


@dataclass(slots=True)
class _Peer:
    connection: socket.socket
    since_s: float
    heard: bytes = b""


@dataclass(slots=True)
class LineServer:
    """One listening socket; the loop calls what it registered, and `sweep` now and then."""

    path: Path
    mode: int
    answer: Callable[[bytes], bytes]
    selector: selectors.BaseSelector
    longest: int = 4_096
    _socket: socket.socket = field(init=False)
    _peers: list[_Peer] = field(default_factory=list[_Peer])

    def __post_init__(self) -> None:
        """Take over the path; the caller owns the home's daemon lock.

        Raises InputError: something else lies there, or there is no such folder.
        """
        if not self.path.parent.is_dir() or (self.path.exists() and not self.path.is_socket()):
            raise InputError(
                f"{self.path} cannot be a socket",
                why="its folder is missing, or a file of that name is there and stays",
                fix="make the folder, or name another path",
                code="no-place-for-socket",
            )
        self.path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX)
        before = os.umask(0o777 & ~self.mode)
        try:
            with short_name(self.path) as name:
                self._socket.bind(name)
        finally:
            os.umask(before)
        self.path.chmod(self.mode)
        self._socket.listen(_MOST_PEERS)
        self._socket.settimeout(0)
        self.selector.register(self._socket, selectors.EVENT_READ, self._accept)

    def sweep(self) -> None:
        """Drop peers that did not say a whole line in time."""
        for peer in [p for p in self._peers if time.monotonic() - p.since_s > _PEER_S]:
            self._drop(peer)

    def close(self) -> None:
        """Stop listening and remove the socket."""
        for peer in list(self._peers):
            self._drop(peer)
        self.selector.unregister(self._socket)
        self._socket.close()
        self.path.unlink(missing_ok=True)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._socket.accept()
            if len(self._peers) >= _MOST_PEERS:
                connection.close()
                return
            connection.settimeout(0)
            peer = _Peer(connection, time.monotonic())
            self._peers.append(peer)
            self.selector.register(connection, selectors.EVENT_READ, lambda: self._read(peer))

    def _read(self, peer: _Peer) -> None:
        try:
            data = peer.connection.recv(self.longest + 2)
        except BlockingIOError:
            return
        except OSError:
            self._drop(peer)
            return
        peer.heard += data
        line, newline, _ = peer.heard.partition(b"\n")
        if newline or len(line) > self.longest:
            with contextlib.suppress(OSError):
                peer.connection.settimeout(_PEER_S)
                peer.connection.sendall(self.answer(line[: self.longest + 1]) + b"\n")
            self._drop(peer)
        elif not data:
            self._drop(peer)

    def _drop(self, peer: _Peer) -> None:
        self._peers.remove(peer)
        self.selector.unregister(peer.connection)
        peer.connection.close()
