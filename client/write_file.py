"""Writes one file that core describes: whole and synced, its hash taken from what was written.

Law: the pieces that core gives, in their order, and for tensors the header put right at the end,
since the hash of the data stands in it; so the bytes are those that a coordinator writes
(coordinator/tensorwriter.py). Cost: one piece in memory.
"""

import hashlib
import os
from pathlib import Path

from ..core.release import FileEntry
from ..core.release_file import MadeFile, PlainFile, TensorFile
from .home import told_when_full


def write_file(out: Path, file: TensorFile | PlainFile) -> tuple[FileEntry, MadeFile | None]:
    """Write ``file`` below ``out``; return its length and hash, and what info.json says of it.

    Raises OrthoFedError (disk-full).
    """
    path = out / file.name
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = isinstance(file, TensorFile)
    digest = hashlib.sha256()
    with told_when_full(path, wanted=0), path.open("xb") as written:
        if tensors:
            written.write(file.header())
        for piece in file.data:
            written.write(piece)
            digest.update(piece)
        if tensors:
            written.seek(0)
            written.write(file.header(digest.hexdigest()))
        written.flush()
        os.fsync(written.fileno())
    return entry_of(path, file.name), file.made(digest.hexdigest()) if tensors else None


def entry_of(path: Path, name: str) -> FileEntry:
    """Return length and hash of a file that lies at ``path``, under its name in the folder."""
    with path.open("rb") as read:
        sha256 = hashlib.file_digest(read, "sha256").hexdigest()
    return FileEntry(name, path.stat().st_size, sha256, (sha256,))
