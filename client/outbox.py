"""Every message that leaves this client, written down before it is sent.

One JSON line a message: method, bytes, SHA-256, and ``prev`` = SHA-256 of the line before, so that
no line can be changed, dropped or put in later without breaking all that follow. Small messages
are kept whole in ``body`` (hex); a chunk stands as its index and SHA-256, since the blob lies in
the run's folder. Laws: what is not on the allow-list (allowed.py) cannot be sent; a manifest or
chunk that the owner did not approve cannot be sent; a line is synced before its bytes reach the
network. Not here: the request header (time, nonce, public key), which each try makes anew.
The file is begun anew after 5,000 lines; older ones keep their lines under the number of their
first one, and the chain goes on over all of them: what opens it reads the newest alone, so a daemon
that asks for orders each minute for years stays quick; `read_record` checks everything.
Source: security.md 9.1 (egress gate), product.md 5. Cost: one fsync a message.
"""

import hashlib
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from ..core import canonical
from ..core.errors import InputError, VerificationFailed
from ..proto import wire
from .allowed import allow
from .home import sync_folder, told_when_full

ZERO: Final = "0" * 64
LINES_A_FILE: Final = 5_000


class Outbox:
    """A hash-chained file of all that was sent. Safe for several threads of one process."""

    def __init__(self, path: Path) -> None:
        """Open ``path`` and check the chain of this file, from the last line of the one before.

        Raises VerificationFailed: a line was changed, dropped or added.
        """
        self._path = path
        self._lock = threading.Lock()
        self._documents: set[str] = set()
        self._chunks: set[str] = set()
        self._wraps = {b""}
        older = _older(path)
        self._prev, self._count = _end(older[-1]) if older else (ZERO, 0)
        record = _read_chain(path, self._prev, self._count)
        if path.exists() and path.stat().st_size > record.num_bytes:
            os.truncate(path, record.num_bytes)  # killed while writing: it was never sent
        if len(record.sent) >= LINES_A_FILE:
            path.rename(path.with_name(f"{path.stem}-{self._count:09}{path.suffix}"))
            sync_folder(path.parent)
        self._prev, self._count = record.head, record.next

    def approve(self, document: bytes, chunks: Iterable[bytes], wraps: bytes = b"") -> None:
        """Let this manifest, these wraps and the chunks with these SHA-256 pass from now on."""
        self._wraps.add(wraps)
        self._documents.add(hashlib.sha256(document).hexdigest())
        self._chunks.update(chunk.hex() for chunk in chunks)

    def record(self, method: str, request: object, body: bytes) -> None:
        """Write down that ``body``, the bytes of ``request``, is about to be sent.

        Raises InputError: the method is not on the allow-list, or the owner did not approve it.
        """
        allow(method, body)
        entry: dict[str, str | int] = {
            "bytes": len(body),
            "method": method,
            "sha256": hashlib.sha256(body).hexdigest(),
            "v": 1,
        }
        if isinstance(request, wire.PutRequest):
            chunk = hashlib.sha256(request.data).hexdigest()
            self._check(method, approved=chunk in self._chunks)
            entry |= {"chunk": chunk, "index": request.index}
        else:
            begin = request if isinstance(request, wire.BeginRequest) else None
            self._check(method, approved=begin is None or self._is_approved(begin))
            entry["body"] = body.hex()
        with self._lock:
            self._append(entry)

    def _is_approved(self, begin: wire.BeginRequest) -> bool:
        known = hashlib.sha256(begin.document).hexdigest() in self._documents
        return known and begin.wraps in self._wraps

    def _check(self, method: str, *, approved: bool) -> None:
        if approved:
            return
        raise InputError(
            f"a message to {method} was stopped before it left",
            why="its bytes are not what the owner approved",
            fix="run orthofed client train again and look at the list it shows",
            code="egress-refused",
        )

    def _append(self, entry: dict[str, str | int]) -> None:
        line = canonical.encode(entry | {"n": self._count, "prev": self._prev})
        new = not self._path.exists()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        with (
            told_when_full(self._path, wanted=len(line) + 1),
            os.fdopen(os.open(self._path, flags, 0o600), "ab") as file,
        ):
            start = file.tell()
            try:
                file.write(line + b"\n")
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                file.truncate(start)
                raise
        if new:
            sync_folder(self._path.parent)
        self._prev = hashlib.sha256(line).hexdigest()
        self._count += 1


@dataclass(frozen=True, slots=True)
class Sent:
    """One line: its number, the call, bytes and SHA-256 of the message, and where a chunk lay."""

    n: int
    method: str
    num_bytes: int
    sha256: str
    chunk: str = ""  # SHA-256 of a chunk's data, and its index in the blob
    index: int = -1


@dataclass(frozen=True, slots=True)
class Record:
    """What was sent, in order; ``head`` is the hash that the next line will name."""

    sent: tuple[Sent, ...]
    head: str
    num_bytes: int  # of the newest file that are whole lines
    next: int  # number of the next line


def read_record(path: Path) -> Record:
    """Return what ``path`` says was sent, its chain checked; it changes nothing.

    A torn last line is left out: its message was never sent, since sending comes after the sync.

    Raises VerificationFailed: a line was changed, dropped or added.
    """
    sent, record = list[Sent](), Record((), ZERO, 0, 0)
    for each in (*_older(path), path):
        record = _read_chain(each, record.head, record.next)
        sent += record.sent
    return Record(tuple(sent), record.head, record.num_bytes, record.next)


def _older(path: Path) -> list[Path]:
    """Return the files before ``path``, the oldest first."""
    return sorted(path.parent.glob(f"{path.stem}-[0-9]*{path.suffix}"))


def _end(path: Path) -> tuple[str, int]:
    """Return the hash of the last line of an older file, and the number that comes next."""
    lines = path.read_bytes().splitlines()
    entry = _entry(lines[-1]) if lines else None
    if entry is None:
        raise _broken(path, len(lines))
    return hashlib.sha256(lines[-1]).hexdigest(), int(entry.get("n", 0)) + 1


def _read_chain(path: Path, prev: str, number: int) -> Record:
    """Return the lines of one file, the first of which follows from ``prev``."""
    sent = list[Sent]()
    data = path.read_bytes() if path.exists() else b""
    whole = data[: data.rfind(b"\n") + 1]
    for line in whole.splitlines():
        entry = _entry(line)
        if entry is None or (entry.get("prev"), entry.get("n")) != (prev, number + len(sent)):
            raise _broken(path, len(sent) + 1)
        sent.append(_sent(entry))
        prev = hashlib.sha256(line).hexdigest()
    return Record(tuple(sent), prev, len(whole), number + len(sent))


def _entry(line: bytes) -> dict[str, str | int] | None:
    try:
        entry = canonical.decode(line)
    except VerificationFailed:
        return None
    return cast("dict[str, str | int]", entry) if isinstance(entry, dict) else None


def _sent(entry: dict[str, str | int]) -> Sent:
    return Sent(
        n=int(entry["n"]),
        method=str(entry.get("method", "")),
        num_bytes=int(entry.get("bytes", 0)),
        sha256=str(entry.get("sha256", "")),
        chunk=str(entry.get("chunk", "")),
        index=int(entry.get("index", -1)),
    )


def _broken(path: Path, number: int) -> VerificationFailed:
    return VerificationFailed(
        f"line {number} of {path} does not follow from the one before",
        why="the record of what left this client was changed",
        fix="restore the file from your backup, or move it away and keep it as evidence",
        code="outbox-broken",
    )
