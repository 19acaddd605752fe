"""The line to ``bridge.sock``: one JSON object each way, as the bridge and its supervisor ask.

Law: at most 64 KiB a request; no answer within 10 s, or none that is whole, is Unreachable, and the
next request connects anew. Nothing is cached: what it says is the coordinator's store. Imports the
standard library only, so that the ServerApp's process stays small.
"""

import contextlib
import json
import os
import socket
from pathlib import Path
from typing import IO, Any

from ..core.errors import Unreachable

_PATIENCE_S = 10.0
_MOST_BYTES = 64 << 10
_ANSWER_BYTES = 4 << 20


class FleetLine:
    """A kept connection, made anew when it broke; one caller at a time."""

    def __init__(self, path: Path) -> None:
        """Name the socket; nothing is sent yet."""
        self._path = path
        self._socket: socket.socket | None = None
        self._file: IO[bytes] | None = None

    def ask(self, call: str, **values: object) -> dict[str, Any]:
        """Return the coordinator's answer.

        Raises Unreachable: no whole answer, or it says ``error``.
        """
        line = json.dumps({"v": 1, "call": call, **values}).encode() + b"\n"
        if len(line) > _MOST_BYTES:
            raise _away(f"a request of {len(line)} bytes, at most {_MOST_BYTES}")
        try:
            answer = self._exchange(line)
        except (OSError, ValueError) as error:
            self.close()
            raise _away(str(error)) from error
        if "error" in answer:
            raise _away(f"it answers {call} with {answer['error']}")
        return answer

    def _exchange(self, line: bytes) -> dict[str, Any]:
        if self._socket is None or self._file is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._socket.settimeout(_PATIENCE_S)
            _connect(self._socket, self._path)
            self._file = self._socket.makefile("rb")
        self._socket.sendall(line)
        answer = self._file.readline(_ANSWER_BYTES)
        if not answer.endswith(b"\n"):
            raise ConnectionResetError("it closed the connection")
        found = json.loads(answer)
        if not isinstance(found, dict):
            raise TypeError("its answer is no object")
        return found

    def close(self) -> None:
        """Give the connection up; the next request makes another."""
        for each in (self._file, self._socket):
            if each is not None:
                with contextlib.suppress(OSError):
                    each.close()
        self._file = self._socket = None


def _connect(connection: socket.socket, path: Path) -> None:
    """Connect, by a name that fits the 108 bytes of a socket address."""
    if len(os.fsencode(path)) < 100:  # noqa: PLR2004  # see above
        connection.connect(str(path))
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        connection.connect(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)


def _away(says: str) -> Unreachable:
    return Unreachable(
        f"no answer from the coordinator's bridge socket: {says}",
        why="orders and node keys are in its store and nowhere else",
        fix="start orthofed coordinator serve, or name its socket with --bridge",
        code="bridge-away",
    )
