"""Keeps the pictures of contributions that wait, for the operator's eye, and lets go of them.

    data/evidence/<leaf>/<row>-<column>.png    mode 0600, in the private part of the folder

Laws: they are evidence and no part of the record: no release, no backup and no call of a client or
a reader has them, nothing is decided by them, and a contribution may be there without. They come
and go in the writer thread, so none comes to a contribution that is gone; what is withdrawn,
rejected or replaced loses its own at once, and nobody is shown them even before that. Bounded: nine
files of 256 KiB a contribution, each checked before it is kept (T5). Which pictures:
core/evidence_picture.py. Not here: the drawing (admission/), the taking (evidence_taken.py).
"""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ..core.errors import Refused
from ..core.evidence_picture import places
from . import contribution_rows
from .folder import DataFolder
from .fs import Fs

LIVE: Final = ("pending", "accepted", "quarantined")
"""States of a contribution that is there."""
NAMES: Final = frozenset(each.name for each in places(has_release=True))


def names(folder: DataFolder, leaf: int) -> tuple[str, ...]:
    """Return the names of the pictures that are there, in the order of the table."""
    there = {path.name for path in _files(folder.evidence / str(leaf))}
    return tuple(each.name for each in places(has_release=True) if f"{each.name}.png" in there)


def picture(folder: DataFolder, leaf: int, name: str) -> bytes:
    """Return one picture. Raises Refused: there is none. T10: looked up, never a path."""
    try:
        if name in NAMES:
            return (folder.evidence / str(leaf) / f"{name}.png").read_bytes()
    except FileNotFoundError:  # withdrawn between two looks
        pass
    raise Refused(
        "there is no such picture",
        why="it was not drawn, or the contribution is gone",
        fix="look at the contribution's page",
        code="not-found",
    )


def sweep_evidence(db: sqlite3.Connection, folder: DataFolder, *, fs: Fs) -> None:
    """Remove the pictures of all that is not there any more, and what a kill left half written."""
    for own in sorted(folder.evidence.glob("[0-9]*")):
        entry = contribution_rows.of_leaf(db, int(own.name)) if own.name.isdecimal() else None
        is_live = entry is not None and entry.state in LIVE
        for path in list(_files(own)):
            if not is_live or path.name.removesuffix(".png") not in NAMES:
                fs.remove(path)
        if not is_live:
            own.rmdir()


def _files(folder: Path) -> Iterator[Path]:
    try:
        yield from folder.iterdir()
    except FileNotFoundError:
        return
