"""A file on its way, in chunks that arrive in any order, and how far each of them is.

    <sha256>        the bytes, each at its own place; what has not come yet is a hole
    <sha256>.map    8 bytes a chunk, little-endian: how many of its first bytes were written

Laws: bytes are written before the map says so, so a process killed anywhere loses what it had not
written yet and at most one piece a worker; the map is a hint and never believed: whoever goes on
hashes what the map says is there, and a chunk that does not hash to the signed value is thrown
away. A map that is gone stands for bytes without holes. Cost: one small write a piece.
"""

import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from .home import told_when_full
from .origin import Wanted

PIECE: Final = 1 << 20
_ENTRY: Final = struct.Struct("<Q")


class PartFile:
    """One file's part and map. Different chunks may be written by different threads."""

    def __init__(self, wanted: Wanted, path: Path) -> None:
        """Name the files; they are opened when the first chunk asks."""
        self.wanted = wanted
        self.path = path
        self._map_path = path.with_name(f"{path.name}.map")
        self._lock = threading.Lock()
        self._fds: tuple[int, int] | None = None
        self._size = 0  # of the part when it was opened
        self._mapped = b""

    def span(self, index: int) -> tuple[int, int]:
        """Return where chunk ``index`` begins and ends."""
        start = index * self.wanted.chunk_bytes
        return start, min(start + self.wanted.chunk_bytes, self.wanted.entry.bytes)

    def filled(self, index: int) -> int:
        """Return how many first bytes of a chunk an earlier process left."""
        self._open()
        start, end = self.span(index)
        there = max(0, min(end, self._size) - start)
        at = index * _ENTRY.size
        if len(self._mapped) < at + _ENTRY.size:
            return 0 if self._mapped else there
        return min(there, _ENTRY.unpack_from(self._mapped, at)[0])

    def pieces(self, index: int, filled: int) -> Iterator[bytes]:
        """Give the first ``filled`` bytes of a chunk from the disk."""
        part, _ = self._open()
        start, _ = self.span(index)
        done = 0
        while done < filled and (data := os.pread(part, min(PIECE, filled - done), start + done)):
            done += len(data)
            yield data

    def write(self, index: int, at: int, data: bytes | memoryview) -> None:
        """Put bytes at ``at`` of a chunk, then say so in the map."""
        part, mapped = self._open()
        start, _ = self.span(index)
        with told_when_full(self.path, wanted=self.wanted.entry.bytes - start - at):
            view, place = memoryview(data), start + at
            while view:  # a full disk may take some of it
                done = os.pwrite(part, view, place)
                view, place = view[done:], place + done
                self._say(mapped, index, place - start)

    def drop(self, index: int) -> None:
        """Forget what is there of a chunk."""
        _, mapped = self._open()
        self._say(mapped, index, 0)

    def finish(self) -> None:
        """Give the part its length and sync it; the map goes."""
        part, _ = self._open()
        with told_when_full(self.path, wanted=self.wanted.entry.bytes):
            os.ftruncate(part, self.wanted.entry.bytes)
            os.fsync(part)
        self.close()
        self._map_path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Throw all of it away."""
        self.close()
        self.path.unlink(missing_ok=True)
        self._map_path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the files."""
        with self._lock:
            for fd in self._fds or ():
                os.close(fd)
            self._fds = None

    def _say(self, mapped: int, index: int, filled: int) -> None:
        os.pwrite(mapped, _ENTRY.pack(filled), index * _ENTRY.size)

    def _open(self) -> tuple[int, int]:
        with self._lock:
            if self._fds is None:
                # T10: a link that somebody put here leads nowhere.
                flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
                part = os.open(self.path, flags, 0o644)
                self._size = os.fstat(part).st_size
                mapped = self._read_map()
                self._fds = (part, os.open(self._map_path, flags, 0o644))
                if mapped is None and self._size:
                    self._map_whole(self._fds[1])
                    mapped = os.pread(self._fds[1], self._map_bytes, 0)
                self._mapped = mapped or b""
            return self._fds

    def _read_map(self) -> bytes | None:
        try:
            return self._map_path.read_bytes()[: self._map_bytes]
        except FileNotFoundError:
            return None

    @property
    def _map_bytes(self) -> int:
        return len(self.wanted.entry.chunks) * _ENTRY.size

    def _map_whole(self, mapped: int) -> None:
        """Say of a part without a map that it has no holes."""
        for index in range(len(self.wanted.entry.chunks)):
            start, end = self.span(index)
            self._say(mapped, index, max(0, min(end, self._size) - start))
