"""How each member key stands: rows of revocations and rotations, and who is behind a key.

Laws: neither is ever deleted. A revoked key leases nothing, and what it leased is over
(revocation.py), so no later call needs to look here but for the words. A key that was rotated away
has nothing any more: every row that was its own names the new key (succession.py). Each function
runs inside its caller's transaction. Not here: who may do so (desk.py, succession.py), members'
other rows (member_rows.py and its like).
"""

import sqlite3
from dataclasses import dataclass

from ..core.errors import InputError, Refused
from ..core.fields import is_hex
from . import lease_rows
from .member_rows import Member

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


@dataclass(frozen=True, slots=True)
class Rotation:
    """``new`` took the place of ``old`` on a day, counted from 1970, by a document of both."""

    old: str
    new: str
    day: int
    document: bytes


def revocation(db: sqlite3.Connection, member: str) -> Revocation | None:
    """Return the revocation of a member key, None for one that stands."""
    row = db.execute("SELECT t, why FROM revocation WHERE member = ?", (member,)).fetchone()
    return None if row is None else Revocation(*row)


def add_revocation(db: sqlite3.Connection, member: str, new: Revocation) -> None:
    """Write one revocation, for ever."""
    db.execute("INSERT INTO revocation VALUES (?, ?, ?)", (member, new.t, new.why))


def rotation(db: sqlite3.Connection, old: str) -> Rotation | None:
    """Return the rotation that a member key was replaced by, None for one that was not."""
    row = db.execute("SELECT old, new, day, document FROM rotation WHERE old = ?", (old,))
    found = row.fetchone()
    return None if found is None else Rotation(*found)


def rotations(db: sqlite3.Connection) -> tuple[Rotation, ...]:
    """Return every rotation, in the order in which they came."""
    rows = db.execute("SELECT old, new, day, document FROM rotation ORDER BY rowid")
    return tuple(Rotation(*row) for row in rows.fetchall())


def rotate(db: sqlite3.Connection, new: Rotation) -> None:
    """Write one rotation, for ever, and give the new key what is the old one's in every row."""
    db.execute(
        "INSERT INTO member SELECT ?, invite, operator FROM member WHERE key = ?",
        (new.new, new.old),
    )
    row = (new.old, new.new, new.day, new.document)
    db.execute("INSERT INTO rotation VALUES (?, ?, ?, ?)", row)
    db.execute("UPDATE lease SET member = ? WHERE member = ?", (new.new, new.old))
    db.execute("UPDATE name SET member = ? WHERE member = ?", (new.new, new.old))
    db.execute("UPDATE fleet_order SET member = ? WHERE member = ?", (new.new, new.old))
    db.execute("UPDATE fleet_key SET member = ? WHERE member = ?", (new.new, new.old))


def num_rotations(db: sqlite3.Connection, member: str, day: int) -> int:
    """Return how many rotations of one day led to this member key."""
    query = "SELECT old FROM rotation WHERE new = ? AND day = ?"
    found = 0
    while (row := db.execute(query, (member, day)).fetchone()) is not None:
        found, member = found + 1, row[0]
    return found


def newest_key(db: sqlite3.Connection, member: str) -> str:
    """Return the key that goes on in the place of this one: itself, if it was not replaced."""
    while (found := rotation(db, member)) is not None:
        member = found.new
    return member


def check_stands(db: sqlite3.Connection, member: str) -> None:
    """Raise Refused for a member key that was put out (``revoked``) or replaced (``rotated``)."""
    if rotation(db, member) is not None:
        raise Refused(
            "this member key was replaced by another one",
            why="a rotation gives a member's place to its new key, for good",
            fix="run orthofed client rotate again if it was cut off; if you never rotated, somebody"
            " else has your key: tell the operator",
            code="rotated",
        )
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
    lease = lease_rows.of_client(db, client)
    if lease is not None:
        check_stands(db, lease.member)


def find_member(db: sqlite3.Connection, digits: str) -> str:
    """Return the one member key that begins so, or that leased for a client key that does.

    The ledger, releases and audits name client keys: so an operator need not know more. A key that
    was rotated away names the one that goes on in its place.
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
        found |= {newest_key(db, key) for (key,) in db.execute(query, bounds).fetchall()}
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


def all_members(db: sqlite3.Connection) -> tuple[tuple[Member, Revocation | None], ...]:
    """Return every member by its newest key, and how it stands; the newest key comes last."""
    rows = db.execute(
        "SELECT m.key, m.operator, r.t, r.why FROM member m"
        " LEFT JOIN revocation r ON r.member = m.key"
        " WHERE m.key NOT IN (SELECT old FROM rotation) ORDER BY m.rowid"
    )
    return tuple(
        (Member(key, bool(operator)), None if t is None else Revocation(t, why))
        for key, operator, t, why in rows
    )
