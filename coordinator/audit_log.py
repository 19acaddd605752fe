"""What the operators did: a JSON line before each act and one after, each bound to the last.

    {"n": 1, "t": 1795951847, "who": "wren", "op": "revoke", "args": {...}, "prev": "00..."}
    {"n": 2, "t": 1795951847, "of": 1, "said": "ok", "prev": SHA-256 of line 1}

Laws: the first line is on the disk before the act begins, so nothing is done that is not in it; an
act without a second line was cut by a crash. Lines are only added. A changed, removed or moved line
breaks the chain, which ``doctor`` says; the last line changed, or lines cut off at the end, do not,
so keep backups elsewhere: each holds the log of its time. A start moves a broken log aside, says so
in the new one and goes on: a bit that rotted must not stop a federation. No secret is written: an
invite's word is in the answer, which is not here, and a text over 200 characters stands as its
SHA-256. The ledger is the federation's own record of what became of contributions; this is the
house's, of who typed the command.
"""

import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ..core.errors import VerificationFailed
from .clock import Clock
from .fs import Fs
from .store import draining

_NOTHING = "0" * 64
_LONGEST = 200
_PATIENCE_S = 10.0
"""What a stop waits for the acts under way; a service manager waits longer."""
BROKEN = ".broken-"
"""Stands between the log's name and the Unix seconds at which a broken one was moved aside."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line: an act (``op``, ``args``), or what came of act number ``of`` (``said``)."""

    n: int
    t: int
    who: str
    op: str
    args: Mapping[str, object]
    of: int
    said: str


class AuditLog:
    """Adds to one file; one process at a time, any number of threads."""

    def __init__(self, path: Path, *, fs: Fs, clock: Clock) -> None:
        """Go on after the last whole line; the holder of the folder's lock may."""
        self._fs, self._clock = fs, clock
        self._lock = threading.Condition()
        self._under_way = set[int]()
        self._closing = False
        kept = 0
        self._n, self._prev = 0, _NOTHING
        broken = ""
        try:
            for line, entry in _lines(path):
                self._n, self._prev, kept = entry.n, _digest(line), kept + len(line)
        except VerificationFailed as error:
            broken = error.what
            fs.rename(path, path.with_name(f"{path.name}{BROKEN}{clock.wall_s()}"))
            self._n, self._prev, kept = 0, _NOTHING, 0
        self._fd = fs.create(path, os.O_RDWR | os.O_APPEND, 0o600)
        os.ftruncate(self._fd, kept)  # a line that was cut had begun nothing
        fs.sync_folder(path.parent)
        if broken:
            self.ended(self.begun("serve", "audit-log-moved", {"why": broken}), "ok")

    def close(self) -> None:
        """Let the acts under way write their second lines, begin no other, and close the file.

        A thread that wrote to a file closed before it would end the process in the middle of a
        stop, or write into the file that has its number next. Who takes longer is told as cut.
        """
        with self._lock:
            self._closing = True
            self._lock.wait_for(lambda: not self._under_way, _PATIENCE_S)
            self._under_way.clear()
            os.close(self._fd)

    def begun(self, who: str, op: str, args: Mapping[str, object]) -> int:
        """Write that ``who`` is about to do ``op``; return the number of the line.

        Raises Unreachable ``draining``: the coordinator stops.
        """
        told = {name: _told(value) for name, value in sorted(args.items())}
        with self._lock:
            if self._closing:
                raise draining()
            number = self._write({"who": who, "op": op, "args": told})
            self._under_way.add(number)
            return number

    def ended(self, of: int, said: str) -> None:
        """Write what came of line ``of``: ``ok``, or the code of the error."""
        with self._lock:
            if of in self._under_way:  # else the log was closed meanwhile
                try:
                    self._write({"of": of, "said": said})
                finally:
                    self._under_way.discard(of)
                    self._lock.notify_all()

    def _write(self, told: Mapping[str, object]) -> int:
        n = self._n + 1
        value = {"n": n, "t": self._clock.wall_s(), **told, "prev": self._prev}
        line = json.dumps(value).encode() + b"\n"
        try:
            self._fs.write(self._fd, line)
        except BaseException:
            os.ftruncate(self._fd, os.fstat(self._fd).st_size - self._torn())
            raise
        self._fs.sync(self._fd, "the audit log")
        self._n, self._prev = n, _digest(line)
        return n

    def _torn(self) -> int:
        """Return how many bytes of an unfinished line stand at the end: a full disk's."""
        size = os.fstat(self._fd).st_size
        tail = os.pread(self._fd, min(size, 1 << 20), max(0, size - (1 << 20)))
        return len(tail) - (tail.rfind(b"\n") + 1)


def entries(path: Path) -> Iterator[Entry]:
    """Yield every entry, oldest first. Raises VerificationFailed where the chain breaks."""
    for _, entry in _lines(path):
        yield entry


def _lines(path: Path) -> Iterator[tuple[bytes, Entry]]:
    if not path.is_file():
        return
    prev = _NOTHING
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):
            return  # the act it was to tell of had not begun
        try:
            value = cast("dict[str, Any]", json.loads(line))
            entry = Entry(
                n=int(value["n"]),
                t=int(value["t"]),
                who=str(value.get("who", "")),
                op=str(value.get("op", "")),
                args=dict(value.get("args", {})),
                of=int(value.get("of", 0)),
                said=str(value.get("said", "")),
            )
            fits = entry.n == number and value["prev"] == prev
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise _broken(number) from None
        if not fits:
            raise _broken(number)
        yield line, entry
        prev = _digest(line)


def _digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def _told(value: object) -> object:
    text = value if isinstance(value, str) else json.dumps(value)
    if len(text) <= _LONGEST:
        return value
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _broken(number: int) -> VerificationFailed:
    return VerificationFailed(
        f"line {number} of the audit log does not follow the one before",
        why="a line was changed, removed or moved after it was written",
        fix="compare it with that of a backup, move it away, and start with a new one",
        code="audit-log-broken",
    )
