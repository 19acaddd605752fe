"""Asks a process of this machine one thing: a line of JSON over a Unix socket, one line back.

Who may ask is decided by the file system: the socket's mode and the folder it lies in. Law: an
answer of more than a megabyte, or none within the time, is no answer.
"""

import contextlib
import json
import os
import socket
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, Final

_LONGEST: Final = 1 << 20
_NAME_BYTES: Final = 100  # of the 108 of a socket address


def ask(path: Path, request: Mapping[str, Any], *, timeout_s: float = 5.0) -> dict[str, Any]:
    """Return the answer to ``request``.

    Raises OSError: nobody listens at ``path``, or the answer did not come or is no object of JSON.
    """
    with short_name(path) as name, socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout_s)
        connection.connect(name)
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile("rb") as answers:
            line = answers.readline(_LONGEST)
    try:
        answer = json.loads(line)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise OSError(0, f"{path.name} answered with {len(line)} bytes that are no object of JSON")
    return answer


@contextlib.contextmanager
def short_name(path: Path) -> Generator[str]:
    """Give a name of the socket that fits a socket address, where Linux helps."""
    if len(os.fsencode(path)) < _NAME_BYTES or not Path("/proc/self/fd").is_dir():
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
