"""The rows of leases: every lease ever granted, by whom, for which names.

Laws: each function runs inside a transaction that its caller began and that COMMITs as a whole;
leases are kept for ever, since they answer resends. Not here: when one is granted (leases.py,
enrolment.py).
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Lease:
    """One lease ever granted."""

    member: str
    request: str
    slot: int
    fence: int
    client: str
    concept: str
    triggers: tuple[str, ...]
    vectors: tuple[int, ...]
    day: int
    leaf: int
    replaces: int | None = None  # of a corrective lease: the contribution whose place is taken
    block: int = -1  # whose block is trained against; given where it is not the slot's own
    joins: int | None = None  # of a seat: the first contribution of the concept's first owner
    share: str = ""  # of a seat: by whose word, as canonical JSON

    @property
    def home(self) -> int:
        """The slot whose block is trained against."""
        return self.slot if self.block < 0 else self.block


_LEASE = (
    "SELECT member, request, slot, fence, client, concept, triggers, vectors, day, leaf, replaces,"
    " block, joins, share FROM lease"
)


def every(db: sqlite3.Connection) -> Iterator[Lease]:
    """Yield every lease ever granted, by leaf."""
    yield from map(_lease, db.execute(_LEASE + " ORDER BY leaf"))


def that_joined(db: sqlite3.Connection) -> Iterator[Lease]:
    """Yield every lease of another owner's concept, by leaf."""
    yield from map(_lease, db.execute(_LEASE + " WHERE joins IS NOT NULL ORDER BY leaf"))


def of_member(db: sqlite3.Connection, member_key: str) -> tuple[Lease, ...]:
    """Return every lease that a member was ever granted."""
    return tuple(map(_lease, db.execute(_LEASE + " WHERE member = ?", (member_key,))))


def of_request(db: sqlite3.Connection, member_key: str, request: str) -> Lease | None:
    """Return the lease that this very request was granted."""
    where = " WHERE member = ? AND request = ?"
    return next(map(_lease, db.execute(_LEASE + where, (member_key, request))), None)


def of_client(db: sqlite3.Connection, client: str) -> Lease | None:
    """Return the one lease of a client key."""
    return next(map(_lease, db.execute(_LEASE + " WHERE client = ?", (client,))), None)


def at(db: sqlite3.Connection, slot: int, fence: int) -> Lease:
    """Return the lease that was granted of a slot at a fence."""
    found = db.execute(_LEASE + " WHERE slot = ? AND fence = ?", (slot, fence)).fetchone()
    return _lease(found)


def _lease(row: tuple[Any, ...]) -> Lease:
    member_key, request, slot, fence, client, concept, triggers, vectors, *rest = row
    day, leaf, replaces, block, joins, share = rest
    return Lease(
        member=member_key,
        request=request,
        slot=slot,
        fence=fence,
        client=client,
        concept=concept,
        triggers=tuple(triggers.split(",")),
        vectors=tuple(int(v) for v in vectors.split(",")),
        day=day,
        leaf=leaf,
        replaces=replaces,
        block=block,
        joins=joins,
        share=share,
    )


def joined(db: sqlite3.Connection, first: int) -> tuple[Lease, ...]:
    """Return every lease that joined the concept whose first contribution this is, by leaf."""
    return tuple(map(_lease, db.execute(_LEASE + " WHERE joins = ? ORDER BY leaf", (first,))))


def num_joined(db: sqlite3.Connection, share: str) -> int:
    """Return how many owners came in by a share: contributions, also those that are out again."""
    query = (
        "SELECT COUNT(*) FROM contribution c JOIN lease l ON l.slot = c.slot AND l.fence = c.fence"
        " WHERE l.share = ? AND l.replaces IS NULL"
    )
    return db.execute(query, (share,)).fetchone()[0]


def add(db: sqlite3.Connection, lease: Lease) -> None:
    """Write one granted lease."""
    db.execute(
        "INSERT INTO lease VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(lease.member, lease.request, lease.slot, lease.fence, lease.client, lease.concept),
            *(",".join(lease.triggers), ",".join(str(v) for v in lease.vectors)),
            *(lease.day, lease.leaf, lease.replaces, lease.block, lease.joins, lease.share),
        ),
    )


def num_of_day(db: sqlite3.Connection, member_key: str, day: int) -> int:
    """Return how many leases a member was granted on one day."""
    query = "SELECT COUNT(*) FROM lease WHERE member = ? AND day = ?"
    return db.execute(query, (member_key, day)).fetchone()[0]
