"""How the operator's commands reach a running coordinator: a Unix socket in the data folder.

One JSON object a line each way: ``{"op": ..., "args": {...}}``, then ``{"ok": ...}`` or
``{"error": {...}}``. Law: the socket is mode 0600 in a folder of mode 0700, so who may use it is
decided by the file system; the process that owns the folder's lock answers, and a command opens the
folder itself only when nobody holds that lock (reliability.md 2.2).
"""

import contextlib
import json
import logging
import os
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from ..core import errors
from ..core.errors import OrthoFedError
from .caller import who_runs
from .meter import FAULT

_LOG = logging.getLogger("orthofed.coordinator")
_LINE = 1 << 20
_TIMEOUT_S = 120.0
_CREDENTIALS = struct.Struct("3i")
"""Linux: process, user and group of a socket's other end."""
_KINDS = {
    kind.__name__: kind
    for kind in (
        errors.OrthoFedError,
        errors.InputError,
        errors.SpecError,
        errors.Unreachable,
        errors.Refused,
        errors.LeaseLost,
        errors.ContributionRejected,
        errors.VerificationFailed,
    )
}


class Desk(Protocol):
    """What the operator can ask; desk.py does it, a line over the socket asks for it."""

    def ask(self, op: str, args: dict[str, Any]) -> dict[str, Any]:
        """Do one thing and return what it says; raises OrthoFedError."""
        ...


class ControlServer:
    """Answers on the socket until it is closed."""

    def __init__(self, path: Path, desk_for: Callable[[str], Desk]) -> None:
        """Take over the socket's path; the caller owns the folder's lock.

        ``desk_for``: the desk for a user of this machine, whom the system names.
        """
        path.unlink(missing_ok=True)

        class Handler(socketserver.StreamRequestHandler):
            timeout = _TIMEOUT_S

            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    line = self.rfile.readline(_LINE)
                    desk = desk_for(_caller(self.connection))
                    self.wfile.write(_answer(desk, line))

        with short_name(path) as name:
            self._server = _Server(name, Handler)
        path.chmod(0o600)
        self._path = path
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="control", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop answering and remove the socket."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._path.unlink(missing_ok=True)


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


class ControlClient:
    """The desk of a running coordinator."""

    def __init__(self, path: Path) -> None:
        """Name the socket; nothing is sent yet."""
        self._path = path

    def ask(
        self, op: str, args: dict[str, Any], *, patience_s: float | None = _TIMEOUT_S
    ) -> dict[str, Any]:
        """Ask the running coordinator; raises what it raised, or Unreachable."""
        line = json.dumps({"op": op, "args": args}).encode() + b"\n"
        try:
            answer = self._exchange(line, patience_s)
        except OSError as error:
            raise errors.Unreachable(
                "the running coordinator does not answer on its control socket",
                why=str(error.strerror or error),
                fix="wait until it has started, then run the command again",
                code="control-unreachable",
            ) from error
        if "error" in answer:
            parts = answer["error"]
            kind = _KINDS.get(parts["kind"], OrthoFedError)
            raise kind(parts["what"], why=parts["why"], fix=parts["fix"], code=parts["code"])
        return answer["ok"]

    def _exchange(self, line: bytes, patience_s: float | None) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(patience_s)
            with short_name(self._path) as name:
                connection.connect(name)
            connection.sendall(line)
            with connection.makefile("rb") as file:
                answer = file.readline(64 * _LINE)
        if not answer.endswith(b"\n"):
            raise ConnectionResetError("it closed the connection")
        return json.loads(answer)


def _caller(connection: socket.socket) -> str:
    """Return who is at the other end, by what the system says of it."""
    if not hasattr(socket, "SO_PEERCRED"):
        return who_runs(os.getpid(), os.getuid())  # the socket lets nobody else in but root
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    process, uid, _ = _CREDENTIALS.unpack(raw)
    return who_runs(process, uid)


def _answer(desk: Desk, line: bytes) -> bytes:
    try:
        asked = json.loads(line)
        answer = {"ok": desk.ask(asked["op"], asked["args"])}
    except OrthoFedError as error:
        answer = _refusal(error)
    except Exception as error:  # noqa: BLE001  # the last line of defence; logged as a bug
        _LOG.error("fault in a command: %s", type(error).__name__, exc_info=error)
        answer = _refusal(_foreseen_by_nobody(error))
    return json.dumps(answer).encode() + b"\n"


def _refusal(error: OrthoFedError) -> dict[str, Any]:
    parts = {"what": error.what, "why": error.why, "fix": error.fix, "code": error.code}
    return {"error": {"kind": type(error).__name__, **parts}}


def _foreseen_by_nobody(error: Exception) -> OrthoFedError:
    """Return what to tell of the machine's own refusal, or of a fault of ours."""
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        return OrthoFedError(
            f"the coordinator met an error of the system: {error.strerror or error}{where}",
            why="the operating system refused it a file or a device",
            fix="mend what is named, then look with orthofed coordinator status what was done",
            code="os-error",
        )
    return OrthoFedError(
        f"the coordinator met a fault of its own: {type(error).__name__}",
        why="nobody foresaw it; its log has the place, and it goes on serving",
        fix="look with orthofed coordinator status what was done, and report the lines of the log",
        code=FAULT,
    )


@contextmanager
def short_name(path: Path) -> Iterator[str]:
    """Give a name of the socket that fits the 108 bytes of a socket address, where Linux helps."""
    if len(os.fsencode(path)) < 100 or not Path("/proc/self/fd").is_dir():  # noqa: PLR2004  # see above
        yield str(path)
        return
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{fd}/{path.name}"
    finally:
        os.close(fd)
