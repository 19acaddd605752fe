"""How each member key stands: the rows of revocations, and who is behind a key that people see.

Laws: a revocation is never deleted; a revoked key leases nothing, and what it leased is over
(revocation.py), so no later call needs to look here but for the words. Each function runs inside
its caller's transaction. Not here: who may revoke (desk.py), what becomes of leases and
contributions (revocation.py), members' other rows (records.py).
"""

import sqlite3
from dataclasses import dataclass

from ..core.errors import InputError, Refused
from ..core.fields import is_hex
from . import records

SHORTEST_KEY = 8
"""Hex digits by which an operator may name a key."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """When the operator revoked a member key, in Unix seconds, and what its owner is told."""

    t: int
    why: str

    @property
    def told(self) -> str:
        """What the owner of the key reads."""
        return "the operator revoked this member key" + (f": {self.why}" if self.why else "")


def revocation(db: sqlite3.Connection, member: str) -> Revocation | None:
    """Return the revocation of a member key, None for one that stands."""
    row = db.execute("SELECT t, why FROM revocation WHERE member = ?", (member,)).fetchone()
    return None if row is None else Revocation(*row)


def add_revocation(db: sqlite3.Connection, member: str, new: Revocation) -> None:
    """Write one revocation, for ever."""
    db.execute("INSERT INTO revocation VALUES (?, ?, ?)", (member, new.t, new.why))


def check_stands(db: sqlite3.Connection, member: str) -> None:
    """Raise Refused ``revoked`` for a member key that the operator put out."""
    found = revocation(db, member)
    if found is not None:
        raise Refused(
            found.told,
            why="it can lease, renew and upload nothing more; it can ask and withdraw",
            fix="ask the operator; orthofed client withdraw takes out what you contributed",
            code="revoked",
        )


def check_client_stands(db: sqlite3.Connection, client: str) -> None:
    """Raise Refused ``revoked`` for the client key of a lease whose member key was revoked."""
    lease = records.lease_of_client(db, client)
    if lease is not None:
        check_stands(db, lease.member)


def find_member(db: sqlite3.Connection, digits: str) -> str:
    """Return the one member key that begins so, or that leased for a client key that does.

    The ledger, releases and audits name client keys: so an operator need not know more.
    Raises InputError: no such digits, or more than one member's. Raises Refused: nobody's.
    """
    if not SHORTEST_KEY <= len(digits) <= 64 or not is_hex(digits, len(digits)):  # noqa: PLR2004  # a key's digits
        raise InputError(
            f"a key of {len(digits)} characters",
            why=f"a member is named by {SHORTEST_KEY} to 64 lower-case hex digits of its key, or"
            " of the client key of a lease",
            fix="take them from orthofed coordinator members",
            code="bad-key-prefix",
        )
    bounds = (digits, digits + "g")  # the first text after every hex string that begins so
    found: set[str] = set()
    for query in (
        "SELECT key FROM member WHERE key >= ? AND key < ?",
        "SELECT member FROM lease WHERE client >= ? AND client < ?",
    ):
        found |= {key for (key,) in db.execute(query, bounds)}
    if len(found) > 1:
        raise InputError(
            f"{digits} begins the keys of {len(found)} members",
            why="one member is meant",
            fix="give more of its digits",
            code="ambiguous-key",
        )
    if not found:
        raise Refused(
            f"no member has a key that begins with {digits}",
            why="only who joined is a member",
            fix="look at orthofed coordinator members",
            code="not-found",
        )
    return found.pop()


def close_invite(db: sqlite3.Connection, member: str) -> int:
    """Let the invite that a member came by let nobody else in; return the uses it had left."""
    left = invite_uses(db, member)
    db.execute(
        "UPDATE invite SET uses_left = 0 WHERE key = (SELECT invite FROM member WHERE key = ?)",
        (member,),
    )
    return left


def invite_uses(db: sqlite3.Connection, member: str) -> int:
    """Return how many more members the invite of this one lets in, its time not looked at."""
    query = "SELECT uses_left FROM invite WHERE key = (SELECT invite FROM member WHERE key = ?)"
    return db.execute(query, (member,)).fetchone()[0]


def all_members(db: sqlite3.Connection) -> tuple[tuple[records.Member, Revocation | None], ...]:
    """Return every member, in the order in which they joined, and how it stands."""
    rows = db.execute(
        "SELECT m.key, m.operator, r.t, r.why FROM member m"
        " LEFT JOIN revocation r ON r.member = m.key ORDER BY m.rowid"
    )
    return tuple(
        (records.Member(key, bool(operator)), None if t is None else Revocation(t, why))
        for key, operator, t, why in rows
    )
