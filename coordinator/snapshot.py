"""Gives a copy of the database, while the coordinator runs or not, and keeps blobs from leaving.

Laws: a running coordinator makes the copy itself, on its one connection (store.py), into its own
folder; the command that asked reads it there, so it writes its own output as the user who runs it
and needs no right of the service. While the copy is looked at, the shared removal lock is held, so
every blob that it names stays. When nobody runs, database and log are copied as they are: a look
changes nothing, not even what a kill left. Copies that were left behind: sweeper.py.
"""

import contextlib
import fcntl
import secrets
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from ..core.errors import OrthoFedError, Refused
from .closing import sum_fault
from .control import ControlClient
from .folder import DataFolder
from .house import House
from .sweeper import removal_lock

_NAME = 32


@dataclass(frozen=True, slots=True)
class DatabaseCopy:
    """A copy that nobody writes; ``fault``: what the original's sum says of it, if anything."""

    path: Path
    fault: str = ""

    def open(self) -> sqlite3.Connection:
        """Open the copy for reading; nothing is made beside it."""
        name = quote(str(self.path.absolute()))
        return sqlite3.connect(f"file:{name}?immutable=1", uri=True, isolation_level=None)


@contextmanager
def database_copy(folder: DataFolder) -> Iterator[DatabaseCopy]:
    """Give a copy, removed afterwards; no blob is removed meanwhile."""
    path = folder.snapshots / secrets.token_hex(_NAME // 2)
    with removal_lock(folder, fcntl.LOCK_SH):
        try:
            yield DatabaseCopy(path, _make(folder, path))
        finally:
            for end in ("", "-wal", "-shm"):
                path.with_name(path.name + end).unlink(missing_ok=True)


def take(house: House, name: str) -> None:
    """Make the copy ``name`` in the folder of copies; the running coordinator's part."""
    if len(name) != _NAME or not name.isalnum():  # T10
        raise ValueError("a copy is named by hex digits")
    house.store.snapshot(house.folder.snapshots / name)


def _make(folder: DataFolder, path: Path) -> str:
    """Make the copy; return what the original's sum says of it."""
    try:
        with folder.locked():
            folder.snapshots.mkdir(mode=0o700, exist_ok=True)
            _copy_files(folder.database, path)
            return sum_fault(folder)
    except Refused:  # it runs
        ControlClient(folder.control).ask("snapshot", {"name": path.name}, patience_s=None)
        return ""


def _copy_files(database: Path, path: Path) -> None:
    """Copy database and log, and let SQLite bring the copy up to date: never the original."""
    if not database.is_file():
        raise OrthoFedError(
            f"{database.name} is missing",
            why="everything that the coordinator promised is in it",
            fix="put it back, or restore a backup",
            code="database-misplaced",
        )
    for end in ("", "-wal"):
        source = database.with_name(database.name + end)
        if source.is_file():
            shutil.copyfile(source, path.with_name(path.name + end))
    _settle(path)


def _settle(path: Path) -> None:
    # A damaged copy is left as it is: whoever looks at it will say so. A damaged name in SQLite's
    # own error text is no UTF-8, and Python raises that instead.
    with (
        contextlib.suppress(sqlite3.Error, UnicodeDecodeError),
        contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db,
    ):
        db.execute("PRAGMA locking_mode=EXCLUSIVE")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
