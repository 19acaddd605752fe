"""A backup: one consistent copy of database, blobs and releases, whole or recognisably not.

Laws: the database is copied first, while the coordinator runs (snapshot.py), then every blob and
release file that it names; those never change, so they are linked where source and target lie on
one disk, else copied, and each is hashed as it lies in the backup. ``backup.json`` lists every file
with its SHA-256 and is written last; while it is missing, ``INCOMPLETE`` stands there. Private keys
are never in a backup (security.md 3): whoever finds it cannot sign. Reading it back: restore.py.
"""

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from ..core.document import parse
from ..core.errors import InputError, OrthoFedError, VerificationFailed
from ..core.fields import Fields, bad_field
from ..core.release import ReleaseManifest
from ..core.spec import FederationSpec
from . import meta_rows, publications, upload_rows
from .blobs import sha256_of
from .clock import Clock
from .folder import DataFolder
from .fs import Fs
from .mark import Mark, here
from .rowcheck import check_rows
from .snapshot import DatabaseCopy, database_copy

MANIFEST = "backup.json"
INCOMPLETE = "INCOMPLETE"
DATABASE = "data/state.db"
SETTINGS = "settings.toml"
MARK = "high-water"
SCHEMA = "orthofed.backup/1"
_MOST_FILES = 1 << 24
_NAME_CHARACTERS = 512
_SMALL = ("data/address", "data/audit.log", "public/forks.json")


@dataclass(frozen=True, slots=True)
class BackupFile:
    """One file of a backup: its path, length and SHA-256 (hex)."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class BackupManifest:
    """What a backup holds, and how much of the ledger; ``t`` is Unix seconds."""

    fed: str
    log: str
    size: int
    root: str
    t: int
    files: tuple[BackupFile, ...]

    def to_bytes(self) -> bytes:
        """Return the bytes of ``backup.json``."""
        value = {"schema": SCHEMA, **asdict(self)}
        return json.dumps(value, indent=1).encode() + b"\n"

    @classmethod
    def read(cls, backup: Path) -> "BackupManifest":
        """Return the manifest of a whole backup; raises VerificationFailed for anything else."""
        if (backup / INCOMPLETE).exists() or not (backup / MANIFEST).is_file():
            raise VerificationFailed(
                f"{backup} is no whole backup",
                why=f"it has no {MANIFEST}, which is written last, or still says {INCOMPLETE}",
                fix="use another backup; make this one anew with orthofed coordinator backup",
                code="backup-incomplete",
            )
        try:
            return cls._parsed(json.loads((backup / MANIFEST).read_bytes()))
        except (ValueError, RecursionError, VerificationFailed) as error:
            raise VerificationFailed(
                f"{MANIFEST} cannot be read",
                why="it is damaged, or of a later version",
                fix="use another backup, or the version that made this one",
                code="backup-damaged",
            ) from error

    @classmethod
    def _parsed(cls, value: object) -> "BackupManifest":
        names = ("fed", "files", "log", "root", "schema", "size", "t")
        fields = Fields(value, "a backup manifest", need=names)
        fields.one_of("schema", (SCHEMA,))
        return cls(
            fed=fields.hex("fed"),
            log=fields.hex("log"),
            size=fields.integer("size"),
            root=fields.hex("root"),
            t=fields.integer("t"),
            files=tuple(_file(item) for item in fields.items("files", most=_MOST_FILES)),
        )


def back_up(
    folder: DataFolder, out: Path, *, fs: Fs, clock: Clock, say: Callable[[str], None]
) -> BackupManifest:
    """Make a backup in ``out``, which is absent, empty, or a half-made backup."""
    if not out.is_dir():
        _clear(out)
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
        fs.sync_folder(out.parent)
    with fs.alone(out):
        return _back_up(folder, out, fs=fs, clock=clock, say=say)


def _back_up(
    folder: DataFolder, out: Path, *, fs: Fs, clock: Clock, say: Callable[[str], None]
) -> BackupManifest:
    _clear(out)
    fs.write_whole(out / INCOMPLETE, b"This backup was not finished; it is none.\n")
    say("copying the database")
    with database_copy(folder) as copy:
        made = _Maker(folder, out, fs)
        found = made.all(copy, clock=clock, say=say)
    for path in sorted(out.rglob("*")):
        if path.is_dir():
            fs.sync_folder(path)
    fs.write_whole(out / MANIFEST, found.to_bytes())
    fs.remove(out / INCOMPLETE)
    fs.sync_folder(out)
    try:
        fs.write_whole(folder.last_backup, b"%d\n" % found.t)
    except OrthoFedError as error:  # the source's disk may be full, and the backup is whole
        say(f"the backup's date was not noted: {error.what}")
    return found


def last_backup_s(folder: DataFolder) -> int:
    """Return when the last whole backup was made, in Unix seconds; 0 for never.

    Of this folder: one that was restored has none of its own yet. A note that was damaged is none:
    it must not take the other numbers with it.
    """
    try:
        return int(folder.last_backup.read_bytes())
    except (OSError, ValueError):
        return 0


class _Maker:
    """Puts one file after the other into one backup."""

    def __init__(self, folder: DataFolder, out: Path, fs: Fs) -> None:
        self._folder = folder
        self._out = out
        self._fs = fs
        self._files: list[BackupFile] = []

    def all(
        self, copy: DatabaseCopy, *, clock: Clock, say: Callable[[str], None]
    ) -> BackupManifest:
        """Put everything in and check it; return what was put in."""
        if copy.fault:
            raise _damaged(DATABASE, copy.fault)
        self._copied(copy.path, DATABASE)
        held = DatabaseCopy(self._out / DATABASE)
        db = held.open()
        try:
            for what in check_rows(db):
                raise _damaged(DATABASE, what)
            say("linking or copying blobs and releases, and hashing them")
            for source, name, sha256 in self._named(db):
                self._linked(source, name, sha256)
            mark = here(db)
            spec = FederationSpec.from_bytes(meta_rows.value(db, "spec"))
            log = meta_rows.value(db, "log").decode()
        finally:
            db.close()
        self._copied(self._folder.settings_file, SETTINGS)
        for name in _SMALL:
            if (self._folder.root / name).is_file():
                self._copied(self._folder.root / name, name)
        self._written(MARK, mark.to_bytes())
        files = tuple(sorted(self._files, key=lambda file: file.name))
        return BackupManifest(spec.id, log, mark.size, mark.root, clock.wall_s(), files)

    def _named(self, db: sqlite3.Connection) -> Iterator[tuple[Path, str, str]]:
        """Yield every blob and every release file that the database names, with its SHA-256."""
        spare = upload_rows.spare_blobs(db)
        for blob in sorted(upload_rows.kept_blobs(db)):
            if blob in spare and not self._folder.blob(blob).is_file():
                continue  # lost, and nobody needs it: the rest is worth a backup
            yield self._folder.blob(blob), f"data/blobs/{blob[:2]}/{blob}", blob
        for n in publications.numbers(db):
            row = publications.published(db, n)
            if row is None:
                continue
            root = f"public/releases/{n}"
            manifest = ReleaseManifest.from_document(parse(row.document, kind="release"))
            document = hashlib.sha256(row.document).hexdigest()
            for name, sha256 in (
                *((file.name, file.sha256) for file in manifest.files),
                ("manifest.json", document),
            ):
                yield self._folder.root / root / name, f"{root}/{name}", sha256

    def _linked(self, source: Path, name: str, sha256: str) -> None:
        target = self._place(name)
        try:
            os.link(source, target)
        except FileNotFoundError as error:
            raise _damaged(name, "is missing") from error
        except OSError:  # another disk, or one without links
            self._fs.copy(source, target)
        self._add(target, name, sha256)

    def _copied(self, source: Path, name: str) -> None:
        target = self._place(name)
        self._fs.copy(source, target)
        self._add(target, name, "")

    def _written(self, name: str, data: bytes) -> None:
        self._fs.write_whole(self._out / name, data)
        self._add(self._out / name, name, "")

    def _place(self, name: str) -> Path:
        target = self._out / name
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return target

    def _add(self, path: Path, name: str, wanted: str) -> None:
        found = sha256_of(path)
        if wanted and found != wanted:
            raise _damaged(name, "is not what was signed: its SHA-256 differs")
        self._files.append(BackupFile(name, path.stat().st_size, found))


def _file(value: object) -> BackupFile:
    fields = Fields(value, "a file of a backup", need=("bytes", "name", "sha256"))
    name = fields.text("name", most=_NAME_CHARACTERS)
    path = PurePosixPath(name)
    # T10: a restore makes paths of these names.
    if path.is_absolute() or ".." in path.parts or "\0" in name or str(path) != name:
        raise bad_field("a file of a backup with a name that leads out of it")
    return BackupFile(name, fields.integer("bytes"), fields.hex("sha256"))


def marked(manifest: BackupManifest) -> Mark:
    """Return the mark that a backup carries."""
    return Mark(manifest.size, manifest.root)


def _clear(out: Path) -> None:
    """Make room for a backup; only a half-made one is removed."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if out.is_dir() and (out / INCOMPLETE).is_file():
        for path in out.iterdir():
            if path.name != INCOMPLETE:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return
    raise InputError(
        f"{out} is not empty",
        why="a backup never replaces anything",
        fix="give a folder that does not exist yet",
        code="folder-not-empty",
    )


def _damaged(name: str, what: str) -> OrthoFedError:
    return VerificationFailed(
        f"{name} {what}",
        why="a backup of damage would replace a good one in time",
        fix="run orthofed doctor, and restore what it names from an earlier backup",
        code="source-damaged",
    )
