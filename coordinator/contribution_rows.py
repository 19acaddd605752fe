"""The rows of contributions and of their withdrawals: what stands in the ledger, and how it stands.

Laws: each function runs inside a transaction that its caller began and that COMMITs as a whole; a
lease gives one contribution at most (I2); the receipt of a withdrawal is kept for ever. Not here:
who decides a state (judge.py, verdicts.py, removal.py), the leaves (ledger.py), what a release
holds (publications.py).
"""

import json
import sqlite3
from dataclasses import dataclass
from typing import Literal

from . import lease_rows, upload_rows
from .lease_rows import Lease
from .upload_rows import WRAPS, Upload

ContributionState = Literal[
    "pending", "accepted", "quarantined", "rejected", "superseded", "withdrawn"
]
"""As core/standing.py says it; rows hold all but ``superseded``, which follows from the others."""


@dataclass(frozen=True, slots=True)
class Contribution:
    """One contribution in the ledger, with what admission said.

    ``why``: a sentence for its contributor. ``figures``: what was measured, a JSON object.
    ``first``: the first contribution of its concept, itself but after a corrective round.
    """

    leaf: int
    slot: int
    fence: int
    state: ContributionState
    why: str
    figures: str
    first: int


def add(db: sqlite3.Connection, new: Contribution) -> None:
    """Write one contribution; the unique (slot, fence) is I2."""
    db.execute(
        "INSERT INTO contribution VALUES (?, ?, ?, ?, ?, ?, ?)",
        (new.leaf, new.slot, new.fence, new.state, new.why, new.figures, new.first),
    )


_CONTRIBUTION = "SELECT leaf, slot, fence, state, why, figures, first FROM standing"


def every(db: sqlite3.Connection) -> tuple[Contribution, ...]:
    """Return every contribution by leaf."""
    rows = db.execute(_CONTRIBUTION + " ORDER BY leaf")
    return tuple(Contribution(*row) for row in rows)


def of_leaf(db: sqlite3.Connection, leaf: int) -> Contribution | None:
    """Return the contribution of one leaf."""
    row = db.execute(_CONTRIBUTION + " WHERE leaf = ?", (leaf,)).fetchone()
    return None if row is None else Contribution(*row)


def at(db: sqlite3.Connection, slot: int, fence: int) -> Contribution | None:
    """Return the contribution of one lease."""
    row = db.execute(_CONTRIBUTION + " WHERE slot = ? AND fence = ?", (slot, fence)).fetchone()
    return None if row is None else Contribution(*row)


def set_state(db: sqlite3.Connection, leaf: int, state: ContributionState, *, why: str) -> None:
    """Say anew what admission, its client or the operator decided."""
    query = "UPDATE contribution SET state = ?, why = ? WHERE leaf = ?"
    if db.execute(query, (state, why, leaf)).rowcount != 1:
        raise AssertionError(f"leaf {leaf} is no contribution")


def of_concept(db: sqlite3.Connection, first: int) -> tuple[Contribution, ...]:
    """Return every contribution of the concept whose first one this is, by leaf."""
    rows = db.execute(_CONTRIBUTION + " WHERE first = ? ORDER BY leaf", (first,))
    return tuple(Contribution(*row) for row in rows)


_CONCEPT = (
    "coalesce((SELECT joins FROM lease l WHERE l.slot = s.slot AND l.fence = s.fence), s.first)"
)


def states(db: sqlite3.Connection) -> list[tuple[int, ContributionState, int]]:
    """Return leaf and state of every contribution and the first of its concept, by leaf.

    Of a concept with several owners that is its first owner's first one.
    """
    query = f"SELECT leaf, state, {_CONCEPT} FROM standing s ORDER BY leaf"  # noqa: S608  # a constant
    return db.execute(query).fetchall()


def accepted_layers(db: sqlite3.Connection) -> list[tuple[int, list[float]]]:
    """Return leaf and norms of each layer of accepted contributions, the newest 64 public ones."""
    query = (
        "SELECT leaf, json_extract(figures, '$.layers') AS layers FROM standing"
        " WHERE state = 'accepted' AND layers IS NOT NULL ORDER BY leaf DESC LIMIT 64"
    )
    return [(leaf, json.loads(layers)) for leaf, layers in db.execute(query)]


def readable(db: sqlite3.Connection, leaf: int) -> tuple[Lease, Upload] | None:
    """Return lease and upload of a contribution."""
    found = upload_rows.of_leaf(db, leaf)
    lease = None if found is None else lease_rows.of_client(db, found.client)
    return None if found is None or lease is None else (lease, found)


def set_figures(db: sqlite3.Connection, leaf: int, figures: str) -> None:
    """Write what was measured of a contribution; a JSON object."""
    db.execute("UPDATE contribution SET figures = ? WHERE leaf = ?", (figures, leaf))


def num_accepted(db: sqlite3.Connection, member_key: str) -> int:
    """Return how many public contributions of a member stand accepted.

    A private one was never looked at, so it does not speak for its member.
    """
    query = (
        "SELECT COUNT(*) FROM standing c JOIN upload u ON u.leaf = c.leaf"  # noqa: S608  # a constant
        " JOIN lease l ON l.slot = c.slot AND l.fence = c.fence"
        f" WHERE l.member = ? AND c.state = 'accepted' AND {WRAPS} IS NULL"
    )
    return db.execute(query, (member_key,)).fetchone()[0]


def add_withdrawal(
    db: sqlite3.Connection, contribution_leaf: int, *, leaf: int, receipt: bytes
) -> None:
    """Write one withdrawal with the receipt that answers every retry."""
    db.execute("INSERT INTO withdrawal VALUES (?, ?, ?)", (contribution_leaf, leaf, receipt))


def withdrawal_receipt(db: sqlite3.Connection, contribution_leaf: int) -> bytes | None:
    """Return the receipt of a contribution's withdrawal."""
    query = "SELECT receipt FROM withdrawal WHERE contribution = ?"
    row = db.execute(query, (contribution_leaf,)).fetchone()
    return None if row is None else row[0]
