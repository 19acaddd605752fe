"""The rows of the store as values: every SQL statement about members, leases and uploads.

Laws: each function runs inside a transaction that its caller began and that COMMITs as a whole;
rows of names are never deleted (I6), receipts are kept for ever, leases too, since they answer
resends. Values from the wire are bound as parameters only. Not here: when a change is allowed
(leases.py, service.py), the ledger's rows (ledger.py), a release's (publications.py).
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from .leases import Phase, Slot

Db = sqlite3.Connection
NameKind = Literal["concept", "trigger"]
_WRAPS = "json_extract(CAST(u.document AS TEXT), '$.body.wraps')"


@dataclass(frozen=True, slots=True)
class Member:
    """A registered member key; the operator's own may lease the slots kept for them."""

    key: str
    operator: bool


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


@dataclass(frozen=True, slots=True)
class Name:
    """A name that was leased once, and by whom."""

    name: str
    member: str
    slot: int
    fence: int


@dataclass(frozen=True, slots=True)
class Upload:
    """One announced contribution; ``leaf`` and ``receipt`` come with its commit."""

    id: bytes
    slot: int
    fence: int
    client: str
    document: bytes
    chunks: tuple[bytes, ...]
    blob: str
    num_bytes: int
    leaf: int | None = None
    receipt: bytes | None = None

    @property
    def wraps(self) -> str:
        """The SHA-256 of a private contribution's wraps, empty for a public one."""
        return json.loads(self.document)["body"].get("wraps", "")


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


def make_slots(db: sqlite3.Connection, num: int) -> None:
    """Write ``num`` free slots."""
    db.executemany(
        "INSERT INTO slot VALUES (?, 'free', 0, '', '', 0, 0, -1)", ((i,) for i in range(num))
    )


def add_seat(db: sqlite3.Connection, index: int, seat: Slot) -> None:
    """Write a seat that was not there."""
    db.execute(
        "INSERT INTO slot VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(index, seat.phase, seat.fence, seat.client, seat.member, seat.held_s),
            *(seat.kept, seat.home),
        ),
    )


def slots(db: sqlite3.Connection) -> tuple[Slot, ...]:
    """Return all slots as they were saved; deadlines are not among it."""
    rows = db.execute(
        "SELECT s.state, s.fence, s.client, s.member, s.held_s, s.kept, coalesce(l.client, ''),"
        " s.home"
        " FROM slot s LEFT JOIN lease l ON l.slot = s.id AND l.fence = s.kept ORDER BY s.id"
    )
    return tuple(_slot(*row) for row in rows)


def _slot(  # a row
    phase: Phase, fence: int, client: str, member: str, held_s: int, kept: int, keeper: str,
    home: int,
) -> Slot:  # fmt: skip
    return Slot(phase, fence, client, member, held_s, kept=kept, keeper=keeper, home=home)


def save_slot(db: sqlite3.Connection, index: int, slot: Slot, *, before: Slot) -> None:
    """Write one slot; the row must still be what memory thinks (I1 holds in the database too)."""
    changed = db.execute(
        "UPDATE slot SET state = ?, fence = ?, client = ?, member = ?, held_s = ?, kept = ?,"
        " home = ?"
        " WHERE id = ? AND state = ? AND fence = ? AND client = ? AND kept = ?",
        (
            *(slot.phase, slot.fence, slot.client, slot.member, slot.held_s, slot.kept, slot.home),
            *(index, before.phase, before.fence, before.client, before.kept),
        ),
    ).rowcount
    if changed != 1:
        raise AssertionError(f"slot {index} in memory is not the one in the database")


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


def add_member(db: sqlite3.Connection, key: str, *, invite: str, operator: bool) -> None:
    """Register one member key."""
    db.execute("INSERT INTO member VALUES (?, ?, ?)", (key, invite, int(operator)))


def member(db: sqlite3.Connection, key: str) -> Member | None:
    """Return a member."""
    row = db.execute("SELECT key, operator FROM member WHERE key = ?", (key,)).fetchone()
    return None if row is None else Member(row[0], bool(row[1]))


_LEASE = (
    "SELECT member, request, slot, fence, client, concept, triggers, vectors, day, leaf, replaces,"
    " block, joins, share FROM lease"
)


def leases(db: sqlite3.Connection) -> Iterator[Lease]:
    """Yield every lease ever granted, by leaf."""
    yield from map(_lease, db.execute(_LEASE + " ORDER BY leaf"))


def leases_that_joined(db: sqlite3.Connection) -> Iterator[Lease]:
    """Yield every lease of another owner's concept, by leaf."""
    yield from map(_lease, db.execute(_LEASE + " WHERE joins IS NOT NULL ORDER BY leaf"))


def leases_of_member(db: sqlite3.Connection, member_key: str) -> tuple[Lease, ...]:
    """Return every lease that a member was ever granted."""
    return tuple(map(_lease, db.execute(_LEASE + " WHERE member = ?", (member_key,))))


def lease_of_request(db: sqlite3.Connection, member_key: str, request: str) -> Lease | None:
    """Return the lease that this very request was granted."""
    where = " WHERE member = ? AND request = ?"
    return next(map(_lease, db.execute(_LEASE + where, (member_key, request))), None)


def lease_of_client(db: sqlite3.Connection, client: str) -> Lease | None:
    """Return the one lease of a client key."""
    return next(map(_lease, db.execute(_LEASE + " WHERE client = ?", (client,))), None)


def lease_at(db: sqlite3.Connection, slot: int, fence: int) -> Lease:
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


def add_lease(db: sqlite3.Connection, lease: Lease) -> None:
    """Write one granted lease."""
    db.execute(
        "INSERT INTO lease VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(lease.member, lease.request, lease.slot, lease.fence, lease.client, lease.concept),
            *(",".join(lease.triggers), ",".join(str(v) for v in lease.vectors)),
            *(lease.day, lease.leaf, lease.replaces, lease.block, lease.joins, lease.share),
        ),
    )


def num_leases(db: sqlite3.Connection, member_key: str, day: int) -> int:
    """Return how many leases a member was granted on one day."""
    query = "SELECT COUNT(*) FROM lease WHERE member = ? AND day = ?"
    return db.execute(query, (member_key, day)).fetchone()[0]


_NAME = "SELECT name, member, slot, fence FROM name WHERE kind = ?"


def names_at(db: sqlite3.Connection, kind: NameKind, skeleton: str) -> tuple[Name, ...]:
    """Return the names of a kind that were ever leased and have this skeleton.

    One at the most, but for names that an earlier version's rule had kept apart.
    """
    rows = db.execute(_NAME + " AND skeleton = ?", (kind, skeleton))
    return tuple(Name(*row) for row in rows)


def names_from(db: sqlite3.Connection, kind: NameKind, start: str) -> tuple[Name, ...]:
    """Return every name of a kind that was ever leased and whose skeleton begins so."""
    rows = db.execute(_NAME + " AND skeleton >= ? AND skeleton < ?", (kind, start, start + "~"))
    return tuple(Name(*row) for row in rows)


def names_by_skeleton(db: sqlite3.Connection, kind: NameKind) -> Iterator[tuple[str, Name]]:
    """Yield every name of a kind with the skeleton that it is kept under."""
    query = "SELECT skeleton, name, member, slot, fence FROM name WHERE kind = ?"
    for skeleton, *rest in db.execute(query, (kind,)):
        yield skeleton, Name(*rest)


def claim_name(db: sqlite3.Connection, kind: NameKind, skeleton: str, name: Name) -> None:
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


_UPLOAD = "SELECT id, slot, fence, client, document, chunks, blob, bytes, leaf, receipt FROM upload"


def upload(db: sqlite3.Connection, upload_id: bytes) -> Upload | None:
    """Return one upload."""
    return _one_upload(db.execute(_UPLOAD + " WHERE id = ?", (upload_id,)))


def upload_of_client(db: sqlite3.Connection, upload_id: bytes, client: str) -> Upload | None:
    """Return one upload if it is this client's; another's row is not even read (T20)."""
    return _one_upload(db.execute(_UPLOAD + " WHERE id = ? AND client = ?", (upload_id, client)))


def upload_of_leaf(db: sqlite3.Connection, leaf: int) -> Upload | None:
    """Return the upload that became the contribution at ``leaf``."""
    return _one_upload(db.execute(_UPLOAD + " WHERE leaf = ?", (leaf,)))


def upload_at(db: sqlite3.Connection, slot: int, fence: int) -> Upload | None:
    """Return the upload of one lease."""
    return _one_upload(db.execute(_UPLOAD + " WHERE slot = ? AND fence = ?", (slot, fence)))


def uncommitted(db: sqlite3.Connection) -> Iterator[Upload]:
    """Yield every upload that was announced and not committed."""
    yield from map(_an_upload, db.execute(_UPLOAD + " WHERE leaf IS NULL").fetchall())


def committed(db: sqlite3.Connection) -> Iterator[Upload]:
    """Yield every upload that is a contribution, by leaf."""
    rows = db.execute(_UPLOAD + " WHERE leaf IS NOT NULL ORDER BY leaf")
    yield from map(_an_upload, rows.fetchall())


def open_uploads(db: sqlite3.Connection) -> tuple[tuple[bytes, int], ...]:
    """Return id and slot of the uploads that are not committed and whose lease still stands."""
    rows = db.execute(
        "SELECT u.id, u.slot FROM upload u JOIN slot s ON s.id = u.slot AND s.fence = u.fence"
        " WHERE u.leaf IS NULL AND s.state IN ('leased', 'revising')"
    )
    return tuple(rows)


def _one_upload(rows: sqlite3.Cursor) -> Upload | None:
    row = rows.fetchone()
    return None if row is None else _an_upload(row)


def _an_upload(row: tuple[Any, ...]) -> Upload:
    upload_id, slot, fence, client, document, chunks, blob, num_bytes, leaf, receipt = row
    hashes = tuple(chunks[i : i + 32] for i in range(0, len(chunks), 32))
    return Upload(upload_id, slot, fence, client, document, hashes, blob, num_bytes, leaf, receipt)


def put_upload(db: sqlite3.Connection, new: Upload) -> bytes | None:
    """Write an upload; return the id of the uncommitted one of this lease that it replaces."""
    replaced = db.execute(
        "DELETE FROM upload WHERE slot = ? AND fence = ? AND leaf IS NULL RETURNING id",
        (new.slot, new.fence),
    ).fetchone()
    db.execute(
        "INSERT INTO upload VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL)",
        (
            *(new.id, new.slot, new.fence, new.client, new.document, b"".join(new.chunks)),
            *(new.blob, new.num_bytes),
        ),
    )
    return None if replaced is None or replaced[0] == new.id else replaced[0]


def drop_upload(db: sqlite3.Connection, upload_id: bytes) -> None:
    """Remove an upload that was refused; a committed one stays for ever."""
    db.execute("DELETE FROM upload WHERE id = ? AND leaf IS NULL", (upload_id,))


def finish_upload(db: sqlite3.Connection, upload_id: bytes, *, leaf: int, receipt: bytes) -> None:
    """Keep the receipt with its upload: the answer to every later retry (I4)."""
    query = "UPDATE upload SET leaf = ?, receipt = ? WHERE id = ? AND leaf IS NULL"
    if db.execute(query, (leaf, receipt, upload_id)).rowcount != 1:
        raise AssertionError("an upload was committed twice")


def add_contribution(db: sqlite3.Connection, new: Contribution) -> None:
    """Write one contribution; the unique (slot, fence) is I2."""
    db.execute(
        "INSERT INTO contribution VALUES (?, ?, ?, ?, ?, ?, ?)",
        (new.leaf, new.slot, new.fence, new.state, new.why, new.figures, new.first),
    )


_CONTRIBUTION = "SELECT leaf, slot, fence, state, why, figures, first FROM standing"


def contributions(db: sqlite3.Connection) -> tuple[Contribution, ...]:
    """Return every contribution by leaf."""
    rows = db.execute(_CONTRIBUTION + " ORDER BY leaf")
    return tuple(Contribution(*row) for row in rows)


def contribution(db: sqlite3.Connection, leaf: int) -> Contribution | None:
    """Return the contribution of one leaf."""
    row = db.execute(_CONTRIBUTION + " WHERE leaf = ?", (leaf,)).fetchone()
    return None if row is None else Contribution(*row)


def set_contribution(
    db: sqlite3.Connection, leaf: int, state: ContributionState, *, why: str
) -> None:
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


def contribution_states(db: sqlite3.Connection) -> list[tuple[int, ContributionState, int]]:
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
    found = _one_upload(db.execute(_UPLOAD + " WHERE leaf = ?", (leaf,)))
    lease = None if found is None else lease_of_client(db, found.client)
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
        f" WHERE l.member = ? AND c.state = 'accepted' AND {_WRAPS} IS NULL"
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


_WANTED = (
    f"SELECT u.blob, {_WRAPS} FROM upload u"  # noqa: S608  # a constant
    " LEFT JOIN contribution c ON c.leaf = u.leaf"
    " LEFT JOIN slot s ON s.id = u.slot"
    " LEFT JOIN contribution k ON k.slot = s.id AND k.fence = s.kept"
    " WHERE ((u.leaf IS NULL AND s.fence = u.fence AND s.state IN ('leased', 'revising'))"
    " OR (u.leaf IS NOT NULL"
    " AND (c.state <> 'withdrawn' OR (s.state = 'emptying' AND k.first = c.first))))"
)


def wanted_blobs(db: sqlite3.Connection, blob: str = "") -> set[str]:
    """Return the blobs and wraps that have to be there, or just this one, if it has to be.

    Those of uploads whose lease stands, and of contributions until their withdrawal is through: one
    of an ``emptying`` slot's concept is in the newest release still.
    """
    query = _WANTED + (f" AND ? IN (u.blob, {_WRAPS})" if blob else "")
    found = {name for row in db.execute(query, (blob,) if blob else ()) for name in row if name}
    return found & {blob} if blob else found


def kept_blobs(db: sqlite3.Connection) -> set[str]:
    """Return the blobs and wraps of contributions: those of ``wanted_blobs`` that are in no part.

    They are what a backup has to hold.
    """
    rows = db.execute(_WANTED + " AND u.leaf IS NOT NULL")
    return {name for row in rows for name in row if name}


def contribution_at(db: sqlite3.Connection, slot: int, fence: int) -> Contribution | None:
    """Return the contribution of one lease."""
    row = db.execute(_CONTRIBUTION + " WHERE slot = ? AND fence = ?", (slot, fence)).fetchone()
    return None if row is None else Contribution(*row)


def meta(db: sqlite3.Connection, key: str) -> bytes:
    """Return one value that init wrote."""
    return db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()[0]


def set_meta(db: sqlite3.Connection, values: Iterable[tuple[str, bytes]]) -> None:
    """Write values once, at init."""
    db.executemany("INSERT INTO meta VALUES (?, ?)", values)


def add_keyring(db: sqlite3.Connection, n: int, document: bytes) -> None:
    """Write one keyring document."""
    db.execute("INSERT INTO keyring VALUES (?, ?)", (n, document))


def keyrings(db: sqlite3.Connection) -> tuple[bytes, ...]:
    """Return keyring documents 1, 2, 3, ... in order."""
    return tuple(row[0] for row in db.execute("SELECT document FROM keyring ORDER BY n"))
