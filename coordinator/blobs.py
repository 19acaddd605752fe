"""Uploads on their way and blobs that stay, as files named by hash.

Laws: a part in ``data/part/`` is never trusted: each chunk is compared with the SHA-256 that Begin
announced, before it is written, and after a restart the bitmap is derived again by hashing the part
(reliability.md 4). Parts are not synced; ``keep`` syncs once, links into ``blobs/`` and syncs that
folder (F3). The part stays until its contribution is committed, so that only who sent the bytes can
commit them, and a crash between link and COMMIT costs nothing. Names are hex digits made here, not
text from the wire (T10). Room for the whole blob is reserved at the start (T19). Cost: one chunk of
memory at a time.
"""

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ..core.errors import OrthoFedError, Refused
from ..proto.methods import CHUNK_BYTES
from .folder import DataFolder
from .fs import Fs, no_room


@dataclass(slots=True)
class _Part:
    """One open upload: which chunks are whole, and the lock that guards file and bitmap."""

    whole: bytearray | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True, slots=True)
class Plan:
    """What an upload has to become: its id, its length and the SHA-256 of each chunk."""

    upload_id: bytes
    num_bytes: int
    chunks: tuple[bytes, ...]

    def length(self, index: int) -> int:
        """Return the length of one chunk in bytes."""
        return min(CHUNK_BYTES, self.num_bytes - index * CHUNK_BYTES)


def num_chunks(num_bytes: int) -> int:
    """Return how many chunks a blob of this length has."""
    return -(-num_bytes // CHUNK_BYTES)


class Blobs:
    """The files under ``data/part`` and ``data/blobs``."""

    def __init__(self, folder: DataFolder, *, fs: Fs) -> None:
        """Start with no upload open."""
        self._folder = folder
        self._fs = fs
        self._parts: dict[bytes, _Part] = {}
        self._lock = threading.Lock()

    def begin(self, plan: Plan) -> bytes:
        """Return the bitmap of whole chunks, with room on the disk for the rest (T19)."""
        path = self._path(plan.upload_id)
        if not path.exists():
            free = max(0, self._fs.free_bytes(self._folder.part))
            if free < plan.num_bytes:  # F5
                raise no_room(f"a contribution of {plan.num_bytes} bytes, free are {free}")
            self._make(plan)
        with self._open(plan) as whole:
            return bitmap(whole)

    def put(self, plan: Plan, index: int, data: bytes) -> tuple[int, bool]:
        """Write one chunk; return how many are whole, and whether this one is new."""
        # A wrong chunk changes nothing.
        if hashlib.sha256(data).digest() != plan.chunks[index]:
            raise Refused(
                f"chunk {index} is not the one that was announced",
                why="its SHA-256 differs",
                fix="send the chunk again",
                code="chunk-damaged",
            )
        with self._open(plan) as whole:
            advanced = not whole[index]
            if advanced:
                self._write(self._path(plan.upload_id), index, data)
                whole[index] = 1
            return sum(whole), advanced

    def missing(self, plan: Plan) -> tuple[int, ...]:
        """Return the chunks that are not whole."""
        with self._open(plan) as whole:
            return tuple(i for i, is_whole in enumerate(whole) if not is_whole)

    @contextmanager
    def part_file(self, plan: Plan) -> Iterator[Path]:
        """Give the whole part to read; no chunk changes meanwhile."""
        with self._open(plan):
            path = self._path(plan.upload_id)
            if not path.exists():  # removed a moment ago (stale_parts.py)
                raise unknown_upload()
            yield path

    def keep(self, plan: Plan, sha256: str) -> None:
        """Give the whole part its place among the blobs, durably (F3, F1)."""
        target = self._folder.blob(sha256)
        part = self._path(plan.upload_id)
        if target.exists():
            if sha256_of(target) != sha256:
                raise OrthoFedError(
                    f"the stored blob {sha256[:16]} is damaged",
                    why="its bytes have another SHA-256",
                    fix="ask the operator to restore it from the backup",
                    code="blob-damaged",
                )
            # Who linked it may have been killed before its name was synced.
            self._fs.sync_file(target)
            self._fs.sync_folder(target.parent)
            return
        fd = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fchmod(fd, 0o444)
            self._fs.sync(fd, part.name)
        finally:
            os.close(fd)
        self._fs.link(part, target)

    def keep_wraps(self, plan: Plan, wraps: bytes, sha256: str) -> None:
        """Give the wraps of a private contribution their place, durably (F1).

        They are made outside ``blobs/``, where the sweeper takes what it does not know.
        """
        with self._open(plan):
            if not self.has(sha256):
                made = self._folder.data / f".{plan.upload_id.hex()}.wraps.tmp"
                self._fs.write_whole(made, wraps, mode=0o444)
                self._fs.rename(made, self._folder.blob(sha256))

    def has(self, sha256: str) -> bool:
        """Return whether this blob is there, whole."""
        target = self._folder.blob(sha256)
        return target.is_file() and sha256_of(target) == sha256

    def ids(self) -> set[bytes]:
        """Return the ids of the parts that are there."""
        return {bytes.fromhex(path.name) for path in self._folder.part.iterdir()}

    def drop(self, upload_id: bytes) -> None:
        """Forget an upload and remove what is left of its part."""
        with self._lock:
            self._parts.pop(upload_id, None)
        self._path(upload_id).unlink(missing_ok=True)

    def drop_unknown(self, known: set[bytes]) -> None:
        """Remove every part but the known ones."""
        for path in self._folder.part.iterdir():
            if path.name not in {upload_id.hex() for upload_id in known}:
                path.unlink(missing_ok=True)

    def _path(self, upload_id: bytes) -> Path:
        return self._folder.part / upload_id.hex()  # T10

    def _make(self, plan: Plan) -> None:
        """Make the part, with room for each byte; what was made a moment ago needs no hash."""
        part, path = self._part(plan), self._path(plan.upload_id)
        with part.lock:
            if path.exists():  # by another call of this upload
                return
            fd = self._fs.create(path, os.O_RDWR, 0o600)
            try:
                self._fs.reserve(fd, plan.num_bytes)
            except BaseException:
                path.unlink(missing_ok=True)
                raise
            finally:
                os.close(fd)
            part.whole = bytearray(len(plan.chunks))

    def _write(self, path: Path, index: int, data: bytes) -> None:
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise unknown_upload() from error
        try:
            self._fs.write(fd, data, offset=index * CHUNK_BYTES)
        finally:
            os.close(fd)

    def _part(self, plan: Plan) -> _Part:
        with self._lock:
            return self._parts.setdefault(plan.upload_id, _Part())

    @contextmanager
    def _open(self, plan: Plan) -> Iterator[bytearray]:
        """Give the bitmap under the upload's lock; after a restart it comes from the part."""
        part = self._part(plan)
        with part.lock:
            if part.whole is None:
                part.whole = _hash_part(self._path(plan.upload_id), plan)
            yield part.whole


def unknown_upload() -> Refused:
    """Return the error for an upload id that leads nowhere."""
    return Refused(
        "this upload is not known",
        why="it was replaced, refused, or never begun",
        fix="begin again with the same manifest",
        code="unknown-upload",
    )


def bitmap(whole: bytearray) -> bytes:
    """Return one bit for each chunk, the lowest bit of each byte first.

    >>> bitmap(bytearray([1, 0, 1])).hex()
    '05'
    """
    out = bytearray(-(-len(whole) // 8))
    for i, is_whole in enumerate(whole):
        out[i // 8] |= is_whole << i % 8
    return bytes(out)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash_part(path: Path, plan: Plan) -> bytearray:
    """Return which chunks of the part are whole; all absent when there is no part."""
    whole = bytearray(len(plan.chunks))
    if not path.exists():
        return whole
    with path.open("rb") as file:
        for index, expected in enumerate(plan.chunks):
            data = file.read(plan.length(index))
            whole[index] = hashlib.sha256(data).digest() == expected
    return whole
