"""Removes blobs that no row asks for: those of lost uploads, and of withdrawals that are through.

Laws (reliability.md 2.5, 2.7): a blob goes only inside the writer thread, where no row can come to
name it meanwhile, and only while nobody makes a backup: that holds ``data/removal.lock`` shared,
and the kernel lets go of it when the process ends, however it ends. So do copies of the database
that a kill left (snapshot.py). Pictures of what is gone (evidence.py) are in no backup and go at
once. What could not be removed now is removed another time. Cost: a listing of the folder; nothing
is read.
"""

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import upload_rows
from .evidence import sweep_evidence
from .folder import DataFolder
from .fs import Fs
from .store import Store


def sweep(store: Store, folder: DataFolder, *, fs: Fs) -> int:
    """Remove blobs without a row; return how many, 0 while a backup is made."""
    store.run(lambda db: sweep_evidence(db, folder, fs=fs))
    with removal_lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB) as held:
        if not held:
            return 0
        for path in folder.snapshots.iterdir():  # nobody looks at a copy: a kill left these
            fs.remove(path)
        wanted = store.run(upload_rows.wanted_blobs)
        spare = [path for path in _blobs(folder) if path.name not in wanted]
        return sum(store.run(lambda db, p=path: _remove(db, p, fs)) for path in spare)


@contextmanager
def removal_lock(folder: DataFolder, how: int) -> Iterator[bool]:
    """Hold the lock as ``fcntl.flock`` says; give whether it was to be had."""
    fd = os.open(folder.removal_lock, os.O_RDWR | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, how)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)


def _blobs(folder: DataFolder) -> Iterator[Path]:
    for part in sorted(folder.blobs.glob("[0-9a-f][0-9a-f]")):
        yield from part.iterdir()


def _remove(db: sqlite3.Connection, path: Path, fs: Fs) -> bool:
    if path.name in upload_rows.wanted_blobs(db, path.name):
        return False
    fs.remove(path)
    return True
