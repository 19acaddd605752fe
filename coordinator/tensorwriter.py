"""Writes one safetensors file of a release, tensor by tensor, hashing as it goes.

Laws (formats.md 1 and 7): our own header, equal content gives equal bytes; the tensor hash, SHA-256
of everything after the header, stands inside the header, so a header of equal length is written
first and put right at the end. Never more than one tensor in memory. The caller syncs the folder.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ..core.tensorfile import header_bytes
from .fs import Fs

Entry = tuple[str, str, tuple[int, ...]]
"""Name, type and shape of one tensor."""
_NO_HASH = "0" * 64


def write_tensors(
    path: Path,
    entries: Sequence[Entry],
    data: Iterable[bytes],
    *,
    metadata: Callable[[str], dict[str, str]],
    fs: Fs,
    keep_order: bool = False,
) -> str:
    """Write the file and return its tensor hash in hex.

    ``data`` gives the tensors' bytes in file order, in pieces of any size; ``metadata`` makes the
    header's metadata from the tensor hash.
    """
    blank = header_bytes(entries, metadata(_NO_HASH), keep_order=keep_order)
    digest = hashlib.sha256()
    fd = fs.create(path, os.O_RDWR | os.O_EXCL, 0o644)
    try:
        fs.write(fd, blank)
        for piece in data:
            digest.update(piece)
            fs.write(fd, piece)
        header = header_bytes(entries, metadata(digest.hexdigest()), keep_order=keep_order)
        if len(header) != len(blank):
            raise AssertionError("a header's length depends on the tensor hash")
        fs.write(fd, header, offset=0)
        fs.sync(fd, path.name)
    finally:
        os.close(fd)
    return digest.hexdigest()
