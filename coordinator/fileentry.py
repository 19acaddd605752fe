"""What a manifest says of one file of a release: its length and its hashes (security.md 4.8).

Cost: one pass over the file, the whole hashed on this thread and the parts on another.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..core.release import CHUNK_BYTES, FileEntry


def file_entry(out: Path, name: str) -> FileEntry:
    """Return length and SHA-256 of ``out/name``, whole and of each 16 MiB."""
    whole, parts, size = hashlib.sha256(), list[str](), 0
    with (out / name).open("rb") as file, ThreadPoolExecutor(1) as beside:
        while chunk := file.read(CHUNK_BYTES):
            part = beside.submit(_sha256, chunk)
            whole.update(chunk)
            size += len(chunk)
            parts.append(part.result())
    return FileEntry(name, size, whole.hexdigest(), tuple(parts))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
