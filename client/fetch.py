"""Fetches one file into its part file, hashing every byte as it arrives.

A part file is called by the SHA-256 that its file will have. Laws: what a killed process left
there is hashed again before a byte is added; a chunk whose hash is wrong (16 MiB of a release's
file, the whole of a contribution's blob) is thrown away and fetched once more, alone; a second
wrong one ends the pull; each answer has exactly the length asked for and the total known from the
signed manifest, so that no server can feed us without end (T16). Cost: one answer of memory, 1 MiB.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..core.errors import VerificationFailed
from ..core.release import CHUNK_BYTES, FileEntry
from ..proto import methods, wire
from .home import told_when_full

if TYPE_CHECKING:
    from io import FileIO

_TRIES: Final = 2


Read = Callable[[int, int], wire.ReadReply]
"""Asks for a piece by offset and length."""


class Fetch:
    """One file on its way. ``on_bytes(done)`` hears how many bytes are there."""

    def __init__(
        self,
        entry: FileEntry,
        part: Path,
        read: Read,
        on_bytes: Callable[[int], None],
        *,
        of: str,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        """Prepare to fetch ``entry``, whose chunks have ``chunk_bytes`` each, into ``part``.

        ``of`` is what error texts call its owner: a release, a contribution.
        """
        self._entry = entry
        self._part = part
        self._ask = read
        self._on_bytes = on_bytes
        self._of = of
        self._chunk_bytes = chunk_bytes
        self._whole = hashlib.sha256()  # of the finished chunks

    def run(self) -> Path:
        """Return the part file: complete, its hashes right, synced.

        Raises VerificationFailed: the bytes served are not those of the manifest.
        """
        handle = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        with os.fdopen(handle, "r+b", buffering=0) as file:
            for index in range(len(self._entry.chunks)):
                self._chunk(file, index)
            file.truncate(self._entry.bytes)
            if self._whole.hexdigest() != self._entry.sha256:
                file.truncate(0)
                raise self._wrong("its chunks are right and the whole is not")
            with told_when_full(self._part, wanted=self._entry.bytes):
                os.fsync(file.fileno())
        return self._part

    def _chunk(self, file: "FileIO", index: int) -> None:
        """Make chunk ``index`` right: from the disk, as far as it is there, then from the wire."""
        start = index * self._chunk_bytes
        end = min(start + self._chunk_bytes, self._entry.bytes)
        for _ in range(_TRIES):
            whole, chunk = self._whole.copy(), hashlib.sha256()
            for data in self._pieces(file, start, end):
                whole.update(data)
                chunk.update(data)
            if chunk.hexdigest() == self._entry.chunks[index]:
                self._whole = whole
                return
            file.truncate(start)
        raise self._wrong(f"chunk {index} was wrong {_TRIES} times")

    def _pieces(self, file: "FileIO", start: int, end: int) -> Iterator[bytes]:
        file.seek(start)
        while start < end and (data := file.read(min(methods.READ_BYTES, end - start))):
            start += len(data)
            yield data
        while start < end:
            data = self._read(start, min(methods.READ_BYTES, end - start))
            with told_when_full(self._part, wanted=self._entry.bytes - start):
                _write_all(file, data)
            start += len(data)
            self._on_bytes(start)
            yield data

    def _read(self, offset: int, length: int) -> bytes:
        reply = self._ask(offset, length)
        # T16: neither more nor less than was asked for, of the file that was signed.
        if len(reply.data) != length or reply.total_bytes != self._entry.bytes:
            raise self._wrong(
                f"{len(reply.data)} bytes of {reply.total_bytes} came, "
                f"{length} of {self._entry.bytes} were asked for"
            )
        return reply.data

    def _wrong(self, what: str) -> VerificationFailed:
        return VerificationFailed(
            f"{self._entry.name} of {self._of}: {what}",
            why="the manifest is signed, so the other side serves something else",
            fix="run the same command again later, or tell the operator",
            code="download-wrong",
        )


def _write_all(file: "FileIO", data: bytes) -> None:
    """Write without a buffer, so that what a full disk did not take is known at once."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
