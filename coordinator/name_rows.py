"""The rows of names: every concept and trigger ever leased, by its skeleton.

Laws: each function runs inside a transaction that its caller began and that COMMITs as a whole;
rows of names are never deleted (I6), and no two members' names read alike (T23). Not here: what
reads alike (core/names.py), when a name may be taken (naming.py).
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

NameKind = Literal["concept", "trigger"]


@dataclass(frozen=True, slots=True)
class Name:
    """A name that was leased once, and by whom."""

    name: str
    member: str
    slot: int
    fence: int


_NAME = "SELECT name, member, slot, fence FROM name WHERE kind = ?"


def at(db: sqlite3.Connection, kind: NameKind, skeleton: str) -> tuple[Name, ...]:
    """Return the names of a kind that were ever leased and have this skeleton.

    One at the most, but for names that an earlier version's rule had kept apart.
    """
    rows = db.execute(_NAME + " AND skeleton = ?", (kind, skeleton))
    return tuple(Name(*row) for row in rows)


def beginning(db: sqlite3.Connection, kind: NameKind, start: str) -> tuple[Name, ...]:
    """Return every name of a kind that was ever leased and whose skeleton begins so."""
    rows = db.execute(_NAME + " AND skeleton >= ? AND skeleton < ?", (kind, start, start + "~"))
    return tuple(Name(*row) for row in rows)


def by_skeleton(db: sqlite3.Connection, kind: NameKind) -> Iterator[tuple[str, Name]]:
    """Yield every name of a kind with the skeleton that it is kept under."""
    query = "SELECT skeleton, name, member, slot, fence FROM name WHERE kind = ?"
    for skeleton, *rest in db.execute(query, (kind,)):
        yield skeleton, Name(*rest)


def claim(db: sqlite3.Connection, kind: NameKind, skeleton: str, name: Name) -> None:
    """Write a name for ever; an earlier row of the same member moves to its new lease (T23, I6).

    Of a member's twins (migrations.py) the one that has this very name moves, or the first.
    Raises sqlite3.IntegrityError when another member's name has this skeleton.
    """
    moved = db.execute(
        "UPDATE name SET name = ?1, slot = ?2, fence = ?3 WHERE (kind, skeleton, twin) ="
        " (SELECT kind, skeleton, twin FROM name WHERE kind = ?4 AND skeleton = ?5 AND member = ?6"
        "  ORDER BY name <> ?1, twin LIMIT 1)",
        (name.name, name.slot, name.fence, kind, skeleton, name.member),
    ).rowcount
    if not moved:
        db.execute(
            "INSERT INTO name VALUES (?, ?, 0, ?, ?, ?, ?)",
            (kind, skeleton, name.name, name.member, name.slot, name.fence),
        )
