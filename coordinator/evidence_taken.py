"""Takes pictures of what waits from the admission worker, and tells it what there is to draw.

Law: they are taken in the writer thread, each checked first (T5), and only of a contribution that
is still there; which release was the newest then stands among its figures. Where they lie and when
they go: evidence.py. Not here: the drawing (admission/).
"""

import base64
import binascii
import json
import sqlite3
from collections.abc import Mapping
from typing import Any, Final

from ..core.errors import InputError
from ..core.evidence_picture import check_evidence, places
from . import contribution_rows, publications
from .board import Turn
from .contribution_rows import Contribution
from .evidence import LIVE, NAMES, names
from .folder import DataFolder
from .house import House

PICTURED: Final = "pictured_with_release"
"""The figure that says so: the release that was the newest then, 0 before the first."""


def keep(house: House, leaf: int, pictures: Mapping[str, Any], *, release: int) -> dict[str, Any]:
    """Keep pictures of one contribution, base64 by name; ``done`` when all are there.

    Raises InputError: of no known name, or no base64. Raises VerificationFailed: no such picture.
    """
    files = {name: _bytes(name, text) for name, text in pictures.items()}
    folder = house.folder.evidence / str(leaf)

    def write(turn: Turn) -> bool:
        entry = contribution_rows.of_leaf(turn.db, leaf)
        if entry is None or entry.state not in LIVE:  # it went away while it was drawn
            return False
        if not house.settings.admission.pictures:
            return False
        house.fs.make_folder(house.folder.evidence, mode=0o700)
        house.fs.make_folder(folder, mode=0o700)
        for name, data in files.items():
            house.fs.write_whole(folder / f"{name}.png", data, mode=0o600)
        whole = {each.name for each in places(has_release=release > 0)}
        if whole <= set(names(house.folder, leaf)):
            figures = {**json.loads(entry.figures), PICTURED: release}
            contribution_rows.set_figures(turn.db, leaf, json.dumps(figures))
            return True
        return False

    return {"done": house.board.run(write)}


def is_pictured(folder: DataFolder, entry: Contribution) -> bool:
    """Return whether all its pictures are there; after a restore the figure alone is."""
    release = json.loads(entry.figures).get(PICTURED)
    if release is None:
        return False
    return {each.name for each in places(has_release=release > 0)} <= set(names(folder, entry.leaf))


def released(db: sqlite3.Connection) -> tuple[int, list[dict[str, Any]]]:
    """Return the newest release's number, 0 for none, and what it holds, for the worker to draw."""
    newest = publications.newest(db)
    found = list[dict[str, Any]]()
    for item in () if newest is None else newest.plan.included:
        there, entry = (
            contribution_rows.readable(db, item.leaf),
            contribution_rows.of_leaf(db, item.leaf),
        )
        if there is not None and entry is not None:
            lease, upload = there
            found.append(
                {
                    "leaf": item.leaf,
                    "first": entry.first,
                    "slot": item.slot,
                    "triggers": list(lease.triggers),
                    "vectors": list(item.vectors),
                    "blob": upload.blob,
                    "lambda_1024": item.lambda_1024,
                }
            )
    return (0 if newest is None else newest.n), found


def _bytes(name: str, text: object) -> bytes:
    try:
        data = base64.b64decode(str(text), validate=True)
    except binascii.Error:
        data = b""
    if name not in NAMES or not data:
        raise InputError(
            f"a picture named {name[:40]!r}",
            why="a contribution has pictures of fixed names, in base64",
            fix="use the orthofed admit of the coordinator's version",
            code="malformed",
        )
    check_evidence(data)
    return data
