"""The high-water mark: size and root of the newest head, in a file outside the database.

Laws: the mark only rises, and a database behind it is an older copy, refused at start, since going
on from it would sign a second history for leaves that people hold receipts of (T28). A database
beyond the mark must continue it: the root of its first leaves is the mark's. Going on all the same
is the operator's word alone: ``declare`` says what is lost, for everybody to read, and lowers the
mark. On another volume (``high_water`` in coordinator.toml) the file outlives the disk.
"""

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from ..core import merkle
from ..core.errors import InputError, VerificationFailed
from ..core.fields import Fields
from .clock import Clock
from .folder import DataFolder
from .fs import Fs
from .ledger import head

_FORKS = "forks.json"
_FIRST_LEAVES = 2
"""What a new ledger holds: the spec and keyring 1."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Size and root (hex) of a head that left the process."""

    size: int
    root: str

    def to_bytes(self) -> bytes:
        """Return the file's bytes."""
        return json.dumps({"root": self.root, "size": self.size}).encode() + b"\n"


def read_mark(path: Path) -> Mark | None:
    """Return the mark of a file, None when there is no file; raise VerificationFailed."""
    try:
        fields = Fields(json.loads(path.read_bytes()), "a mark", need=("root", "size"))
        return Mark(fields.integer("size"), fields.hex("root"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError, VerificationFailed) as error:
        raise VerificationFailed(
            "the high-water mark cannot be read",
            why="without it an old backup would not be noticed",
            fix=f"restore {path}; if it is lost, run orthofed coordinator fork",
            code="bad-high-water",
        ) from error


def check_place(path: Path) -> None:
    """Check that the mark can lie at ``path``, on a volume that is there.

    The folder is never made: it would lie below the place where the volume should be mounted.
    Raises InputError ``no-mark-folder``.
    """
    if not path.parent.is_dir() or path.is_dir():
        wrong = "which is a folder" if path.is_dir() else f"but there is no folder {path.parent}"
        raise InputError(
            f"`high_water` is {path}, {wrong}",
            why="the high-water mark is a file that is written there; without it an old copy of"
            " the database would not be noticed",
            fix="mount its volume, or make the folder; or correct `high_water` in coordinator.toml"
            " and move the file along",
            code="no-mark-folder",
        )


def check_mark(db: sqlite3.Connection, path: Path) -> None:
    """Refuse a database that the mark says is old; raises VerificationFailed.

    Raises InputError: the mark's volume is not there.
    """
    check_place(path)
    mark, found = read_mark(path), here(db)
    if mark is None and found.size <= _FIRST_LEAVES:
        return  # nothing was promised yet
    if mark is None:
        raise VerificationFailed(
            f"the high-water mark {path} is missing, the database has {found.size} ledger leaves",
            why="without the mark an old copy of the database would not be noticed",
            fix="put the file back; if it is lost and the database is the newest there is, run"
            " orthofed coordinator fork",
            code="no-high-water",
        )
    if found.size < mark.size:
        raise _behind(
            f"the database has {found.size} ledger leaves, the high-water mark says {mark.size}"
        )
    if root_at(db, mark.size) != mark.root:
        raise _behind(f"the database's first {mark.size} leaves are not those of the mark")


def here(db: sqlite3.Connection) -> Mark:
    """Return what the mark of this database would be."""
    state = head(db)
    return Mark(state.size, state.root.hex())


def declare(
    db: sqlite3.Connection, folder: DataFolder, *, fs: Fs, clock: Clock
) -> tuple[Mark | None, Mark]:
    """Make this database the newest there is, by the operator's word; return old and new mark.

    What is lost is added to ``public/forks.json``, which any reader can fetch. Raises InputError,
    VerificationFailed: that file cannot be read, or the mark has no volume; nothing is done then.
    """
    path = folder.mark_file()
    check_place(path)
    try:
        before = read_mark(path)
    except VerificationFailed:
        before = None
    now = here(db)
    entry = {
        "kept": now.size,
        "root": now.root,
        "lost_from": now.size,
        "lost_to": 0 if before is None else before.size,
        "lost_root": "" if before is None else before.root,
        "t": clock.wall_s(),
    }
    told = read_forks(folder)
    fs.write_whole(folder.public / _FORKS, json.dumps([*told, entry], indent=1).encode() + b"\n")
    fs.write_whole(path, now.to_bytes())
    return before, now


def read_forks(folder: DataFolder) -> list[object]:
    """Return what every fork of before said in public; empty where there was none.

    Raises VerificationFailed ``bad-forks``.
    """
    path = folder.public / _FORKS
    try:
        told = json.loads(path.read_bytes())
    except FileNotFoundError:
        return []
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, list):
        raise VerificationFailed(
            f"public/{_FORKS} cannot be read",
            why="it tells everybody what earlier forks lost, and another would be written after it",
            fix=f"put {path} back from a backup; if there is no good copy, move it away",
            code="bad-forks",
        )
    return cast("list[object]", told)


def root_at(db: sqlite3.Connection, size: int) -> str:
    """Return the root (hex) of the first ``size`` leaves, empty when there are not so many."""
    state = head(db)
    if size > state.size:
        return ""
    if state.size == size:
        return state.root.hex()
    rows = db.execute("SELECT hash FROM leaf WHERE idx < ? ORDER BY idx", (size,))
    return merkle.root([row[0] for row in rows]).hex()


def _behind(what: str) -> VerificationFailed:
    return VerificationFailed(
        what,
        why="it is an older copy: receipts that people hold are not in it, and to go on would sign"
        " a second history",
        fix="put the newest database or backup back; if there is none, run orthofed coordinator"
        " fork, which says in public what is lost",
        code="database-behind",
    )
