"""The rows of invites and of the members that they let in.

Law: each function runs inside a transaction that its caller began and that COMMITs as a whole.
Values from the wire are bound as parameters only. Not here: who stands and who was revoked
(members.py), what joining takes (enrolment.py).
"""

import sqlite3
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Member:
    """A registered member key; the operator's own may lease the slots kept for them."""

    key: str
    operator: bool


def add_invite(db: sqlite3.Connection, key: str, *, uses: int, until: int, operator: bool) -> None:
    """Write one invite's public key."""
    db.execute("INSERT INTO invite VALUES (?, ?, ?, ?)", (key, uses, until, int(operator)))


def spend_invite(db: sqlite3.Connection, key: str, *, now_s: int) -> bool | None:
    """Use the invite once; return whether it is the operator's, None when it is not good."""
    row = db.execute(
        "UPDATE invite SET uses_left = uses_left - 1"
        " WHERE key = ? AND uses_left > 0 AND until > ? RETURNING operator",
        (key, now_s),
    ).fetchone()
    return None if row is None else bool(row[0])


def add(db: sqlite3.Connection, key: str, *, invite: str, operator: bool) -> None:
    """Register one member key."""
    db.execute("INSERT INTO member VALUES (?, ?, ?)", (key, invite, int(operator)))


def of_key(db: sqlite3.Connection, key: str) -> Member | None:
    """Return a member."""
    row = db.execute("SELECT key, operator FROM member WHERE key = ?", (key,)).fetchone()
    return None if row is None else Member(row[0], bool(row[1]))
