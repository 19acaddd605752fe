"""Writes one safetensors file of a release, tensor by tensor, hashing as it goes.

Laws (formats.md 1 and 7): our own header, equal content gives equal bytes; the tensor hash, SHA-256
of everything after the header, stands inside the header, so a header of equal length is written
first and put right at the end. Hashing runs on a thread beside the writing, 32 MiB or one piece
behind at most. The caller syncs the folder.
"""

import hashlib
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self

from ..core.release_file import Buffer, TensorFile
from .fs import Fs

_MOST_BEHIND = 32 << 20


def write_tensors(path: Path, file: TensorFile, *, fs: Fs) -> str:
    """Write the file and return its tensor hash in hex; nobody changes its pieces afterwards."""
    blank = file.header()
    fd = fs.create(path, os.O_RDWR | os.O_EXCL, 0o644)
    try:
        fs.write(fd, blank)
        with _Hasher() as hasher:
            for piece in file.data:
                hasher.add(piece)
                fs.write(fd, piece)
            digest = hasher.hexdigest()
        header = file.header(digest)
        if len(header) != len(blank):
            raise AssertionError("a header's length depends on the tensor hash")
        fs.write(fd, header, offset=0)
        fs.sync(fd, path.name)
    finally:
        os.close(fd)
    return digest


class _Hasher:
    """SHA-256 on a thread of its own, since a hash takes as long as the writing."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._pool = ThreadPoolExecutor(1)
        self._waiting: deque[tuple[Future[None], int]] = deque()
        self._behind_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def add(self, piece: Buffer) -> None:
        """Hash one more piece; waits while too many bytes are waiting."""
        num_bytes = len(piece)
        while self._waiting and self._behind_bytes + num_bytes > _MOST_BEHIND:
            self._wait()
        self._waiting.append((self._pool.submit(self._digest.update, piece), num_bytes))
        self._behind_bytes += num_bytes

    def hexdigest(self) -> str:
        """Wait for the rest and return the hash."""
        while self._waiting:
            self._wait()
        return self._digest.hexdigest()

    def _wait(self) -> None:
        future, num_bytes = self._waiting.popleft()
        future.result()
        self._behind_bytes -= num_bytes
