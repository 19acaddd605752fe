"""The rows of scores: what an owner measured of its concept in a release.

Law: numbers that an owner sent, one row a release and contribution, the newest; nobody else saw the
images, so they are its own word and nothing is admitted, kept out or paid by them. Each function
runs inside its caller's transaction.
"""

import sqlite3
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scored:
    """Losses in millionths, over so many pictures and draws; ``t`` in Unix seconds."""

    release: int
    leaf: int
    base: int
    single: int
    merged: int
    pictures: int
    draws: int
    t: int

    @property
    def retention(self) -> float | None:
        """The share of the gain over the base that the release keeps; None if there was none."""
        gain = self.base - self.single
        return round((self.base - self.merged) / gain, 4) if gain > 0 else None


def put_score(db: sqlite3.Connection, new: Scored) -> None:
    """Write one score; it replaces what was measured before."""
    db.execute(
        "INSERT OR REPLACE INTO score VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(new.release, new.leaf, new.base, new.single, new.merged),
            *(new.pictures, new.draws, new.t),
        ),
    )


def mark(db: sqlite3.Connection) -> tuple[int, ...]:
    """Return numbers that differ once a score has come."""
    (row,) = db.execute("SELECT count(*), total(base + single + merged), total(t) FROM score")
    return tuple(map(int, row))


def scores(db: sqlite3.Connection, release: int) -> dict[int, Scored]:
    """Return the scores of a release by the contribution's leaf."""
    rows = db.execute(
        "SELECT release, leaf, base, single, merged, pictures, draws, t FROM score"
        " WHERE release = ?",
        (release,),
    )
    return {row[1]: Scored(*row) for row in rows}
