"""Reads every byte that has to stay: database, blobs, releases, public files; names each bad file.

Laws: what a row or a manifest names must be there with its SHA-256; what the ledger signed must
carry its signature; a file is named by its path below the folder. Nothing is changed or repaired.
Given is a *copy* of the database (snapshot.py), so a running coordinator is not kept waiting. Cost:
reading everything once. Source: reliability.md 2.7, R16. Not here: the rows among themselves
(rowcheck.py), the machine's own state (doctor.py).
"""

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..core.checkpoint import Checkpoint, open_checkpoint
from ..core.document import parse
from ..core.errors import OrthoFedError
from ..core.keyring import Keyring
from ..core.release import ReleaseManifest
from ..proto.methods import CHUNK_BYTES
from . import ledger, meta_rows, publications, upload_rows
from .folder import DataFolder
from .mark import read_mark, root_at
from .rowcheck import check_rows
from .snapshot import DatabaseCopy
from .tilecheck import check_tiles
from .tiles import tile_files


@dataclass(frozen=True, slots=True)
class Finding:
    """One bad file, named by its path below the folder, and what is wrong with it."""

    file: str
    what: str


@dataclass(slots=True)
class Scrubbed:
    """What was read, and what was found; no finding: all is as it was signed."""

    findings: list[Finding] = field(default_factory=list)
    leaves: int = 0
    files: int = 0
    num_bytes: int = 0


@dataclass(frozen=True, slots=True)
class PublicFiles:
    """The public files as they were before the database was copied: never newer than it."""

    files: tuple[tuple[str, bytes | None], ...]
    tiles: tuple[str, ...]
    mark: bytes | None

    @classmethod
    def read(cls, folder: DataFolder) -> "PublicFiles":
        """Read what follows the ledger."""
        names = (_CHECKPOINT, "public/head.json")
        files = tuple((name, _bytes(folder.root / name)) for name in names)
        return cls(files, tuple(tile_files(folder.public)), _bytes(folder.mark_file()))


def unread(root: Path, error: OSError) -> Finding:
    """Return the finding of a file below ``root`` that the system does not give."""
    path = Path(os.fsdecode(error.filename or root))
    name = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
    if isinstance(error, FileNotFoundError):
        return Finding(name, "is missing")
    return Finding(name, f"cannot be read: {error.strerror or error}")


def scrub(
    folder: DataFolder,
    copy: DatabaseCopy,
    public: PublicFiles,
    found: Scrubbed,
    *,
    say: Callable[[str], None],
) -> None:
    """Check everything, into ``found``; the copy is read and left alone."""
    say("checking the database")
    with contextlib.closing(copy.open()) as db:
        faults = [copy.fault] if copy.fault else []
        wrong = [Finding("data/state.db", what) for what in (*faults, *check_rows(db))]
        found.findings += wrong
        try:
            found.leaves = ledger.head(db).size
            say("reading blobs")
            found.findings += _blobs(db, folder, found)
            say("reading releases and public files")
            found.findings += _releases(db, folder, found)
            found.findings += _public(db, folder, public, found)
        except (OrthoFedError, sqlite3.Error, ValueError, TypeError, KeyError):
            if not wrong:
                raise  # the rows are sound, so this is a fault of our own


def _blobs(db: sqlite3.Connection, folder: DataFolder, found: Scrubbed) -> Iterator[Finding]:
    wanted, spare = upload_rows.wanted_blobs(db), upload_rows.spare_blobs(db)
    for upload in upload_rows.committed(db):
        if upload.blob not in wanted:
            continue
        path = folder.blob(upload.blob)
        name = path.relative_to(folder.root).as_posix()
        if not path.is_file():
            if upload.blob not in spare:
                yield Finding(name, "is missing")
            continue
        whole, chunks, size = hashlib.sha256(), list[bytes](), 0
        try:
            with path.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    whole.update(chunk)
                    chunks.append(hashlib.sha256(chunk).digest())
                    size += len(chunk)
        except OSError as error:  # a sector that the disk lost, and what it says names no file
            yield Finding(name, f"cannot be read: {error.strerror}")
            continue
        found.files += 1
        found.num_bytes += size
        if (whole.hexdigest(), size) != (upload.blob, upload.num_bytes):
            yield Finding(name, "is not what its name says: its SHA-256 differs")
        elif tuple(chunks) != upload.chunks:
            yield Finding("data/state.db", f"the chunks of contribution {upload.leaf} differ")
        if upload.wraps:
            yield from _wraps(folder, upload.wraps, found)


def _wraps(folder: DataFolder, sha256: str, found: Scrubbed) -> Iterator[Finding]:
    """Check the wraps of a private contribution: without them nobody can open it."""
    path = folder.blob(sha256)
    name = path.relative_to(folder.root).as_posix()
    if not path.is_file():
        yield Finding(name, "is missing")
        return
    found.files += 1
    found.num_bytes += path.stat().st_size
    try:
        is_whole = sha256_of(path) == sha256
    except OSError as error:
        yield Finding(name, f"cannot be read: {error.strerror}")
        return
    if not is_whole:
        yield Finding(name, "is not what its name says: its SHA-256 differs")


def _releases(db: sqlite3.Connection, folder: DataFolder, found: Scrubbed) -> Iterator[Finding]:
    for n in publications.numbers(db):
        row = publications.published(db, n)
        if row is None:
            continue
        manifest = ReleaseManifest.from_document(parse(row.document, kind="release"))
        root = f"public/releases/{n}"
        wanted = {file.name: (file.bytes, file.sha256) for file in manifest.files}
        document = hashlib.sha256(row.document).hexdigest()
        wanted["manifest.json"] = (len(row.document), document)
        yield from _folder(folder.root, root, wanted, found)


def _folder(
    root: Path, name: str, wanted: dict[str, tuple[int, str]], found: Scrubbed
) -> Iterator[Finding]:
    """Compare a folder with what it has to hold, to the byte and to the file."""
    here = root / name
    for each, (size, sha256) in sorted(wanted.items()):
        path = here / each
        if not path.is_file():
            yield Finding(f"{name}/{each}", "is missing")
            continue
        found.files += 1
        found.num_bytes += path.stat().st_size
        try:
            is_whole = path.stat().st_size == size and sha256_of(path) == sha256
        except OSError as error:
            yield Finding(f"{name}/{each}", f"cannot be read: {error.strerror}")
            continue
        if not is_whole:
            yield Finding(f"{name}/{each}", "is not what was signed: its SHA-256 differs")
    there = {p.relative_to(here).as_posix() for p in here.rglob("*") if p.is_file()}
    for each in sorted(there - set(wanted)):
        yield Finding(f"{name}/{each}", "belongs to nothing that was signed")


def _public(
    db: sqlite3.Connection, folder: DataFolder, public: PublicFiles, found: Scrubbed
) -> Iterator[Finding]:
    log, keyrings = meta_rows.value(db, "log").decode(), meta_rows.keyrings(db)
    # They may be behind the newest keyring, when a kill came between it and them.
    keys = {Keyring.from_body(parse(each, kind="keyring").body).ledger for each in keyrings}
    fixed = {"public/spec.json": meta_rows.value(db, "spec")}
    fixed |= {f"public/keyring/{n}.json": data for n, data in enumerate(keyrings, start=1)}
    for name, data in fixed.items():
        if _bytes(folder.root / name) != data:
            yield Finding(name, "is not what the ledger says")
    for name, data in public.files:
        found.files += 1
        what, size = _head_fault(db, data, name, log, keys)
        if what:
            yield Finding(name, what)
        elif name == _CHECKPOINT:
            found.files += len(public.tiles)
            for tile, fault in check_tiles(db, folder.public, public.tiles, size):
                yield Finding(f"public/{tile}", fault)
    what = _mark_fault(db, folder, public)
    if what:
        yield Finding("high-water", what)


def _head_fault(
    db: sqlite3.Connection, data: bytes | None, name: str, log: str, keys: set[str]
) -> tuple[str, int]:
    """Say what is wrong with the checkpoint or the head, empty for nothing; and its size."""
    if data is None:
        return "", 0  # the next start writes it
    try:
        if name == _CHECKPOINT:
            opened = _opened(data, keys, log)
            size, root = opened.size, opened.root.hex()
        else:
            signed = parse(data, kind="head")
            signed.verify(keys)
            size, root = int(str(signed.body["size"])), str(signed.body["root"])
    except OrthoFedError as error:
        return f"is not what was signed: {error.what}", 0
    return ("" if root_at(db, size) == root else "is of another history than the database"), size


def _opened(data: bytes, keys: set[str], log: str) -> Checkpoint:
    """Return a checkpoint that one of the keys signed; raises VerificationFailed."""
    *others, last = keys
    for key in others:
        with contextlib.suppress(OrthoFedError):
            return open_checkpoint(data, key, log)
    return open_checkpoint(data, last, log)


def _mark_fault(db: sqlite3.Connection, folder: DataFolder, public: PublicFiles) -> str:
    if public.mark is None:
        return "" if ledger.head(db).size <= _FOUNDED else "is missing"
    try:
        mark = read_mark(folder.mark_file())
    except OrthoFedError as error:
        return error.what
    if mark is None or mark.to_bytes() != public.mark:
        return ""  # written again meanwhile
    if root_at(db, mark.size) != mark.root:
        return "is not of this database, or knows a newer one"
    return ""


_FOUNDED = 2
_CHECKPOINT = "public/checkpoint"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
