"""The rows of uploads: what was announced, what was committed, and which blobs they need.

Laws: each function runs inside a transaction that its caller began and that COMMITs as a whole; a
committed upload and its receipt are kept for ever (I4). Values from the wire are bound as
parameters only. Not here: the bytes (blobs.py), when an upload is taken (intake.py).
"""

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

WRAPS = "json_extract(CAST(u.document AS TEXT), '$.body.wraps')"
"""SQL: the wraps of upload ``u``, NULL for a public one."""


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


_UPLOAD = "SELECT id, slot, fence, client, document, chunks, blob, bytes, leaf, receipt FROM upload"


def of_id(db: sqlite3.Connection, upload_id: bytes) -> Upload | None:
    """Return one upload."""
    return _one_upload(db.execute(_UPLOAD + " WHERE id = ?", (upload_id,)))


def of_client(db: sqlite3.Connection, upload_id: bytes, client: str) -> Upload | None:
    """Return one upload if it is this client's; another's row is not even read (T20)."""
    return _one_upload(db.execute(_UPLOAD + " WHERE id = ? AND client = ?", (upload_id, client)))


def of_leaf(db: sqlite3.Connection, leaf: int) -> Upload | None:
    """Return the upload that became the contribution at ``leaf``."""
    return _one_upload(db.execute(_UPLOAD + " WHERE leaf = ?", (leaf,)))


def at(db: sqlite3.Connection, slot: int, fence: int) -> Upload | None:
    """Return the upload of one lease."""
    return _one_upload(db.execute(_UPLOAD + " WHERE slot = ? AND fence = ?", (slot, fence)))


def uncommitted(db: sqlite3.Connection) -> Iterator[Upload]:
    """Yield every upload that was announced and not committed."""
    yield from map(_an_upload, db.execute(_UPLOAD + " WHERE leaf IS NULL").fetchall())


def committed(db: sqlite3.Connection) -> Iterator[Upload]:
    """Yield every upload that is a contribution, by leaf."""
    rows = db.execute(_UPLOAD + " WHERE leaf IS NOT NULL ORDER BY leaf")
    yield from map(_an_upload, rows.fetchall())


def still_open(db: sqlite3.Connection) -> tuple[tuple[bytes, int], ...]:
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


def put(db: sqlite3.Connection, new: Upload) -> bytes | None:
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


def drop(db: sqlite3.Connection, upload_id: bytes) -> None:
    """Remove an upload that was refused; a committed one stays for ever."""
    db.execute("DELETE FROM upload WHERE id = ? AND leaf IS NULL", (upload_id,))


def finish(db: sqlite3.Connection, upload_id: bytes, *, leaf: int, receipt: bytes) -> None:
    """Keep the receipt with its upload: the answer to every later retry (I4)."""
    query = "UPDATE upload SET leaf = ?, receipt = ? WHERE id = ? AND leaf IS NULL"
    if db.execute(query, (leaf, receipt, upload_id)).rowcount != 1:
        raise AssertionError("an upload was committed twice")


_WANTED = (
    f"SELECT u.blob, {WRAPS} FROM upload u"  # noqa: S608  # a constant
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
    query = _WANTED + (f" AND ? IN (u.blob, {WRAPS})" if blob else "")
    found = {name for row in db.execute(query, (blob,) if blob else ()) for name in row if name}
    return found & {blob} if blob else found


def spare_blobs(db: sqlite3.Connection) -> set[str]:
    """Return those of rejected contributions: nothing is built of them, so one can be missed.

    They stay as long as they are there, since what is like them is kept out (neighbours.py).
    """
    query = f"SELECT u.blob, {WRAPS} FROM upload u"  # noqa: S608  # a constant
    rows = db.execute(
        f"{query} JOIN contribution c ON c.leaf = u.leaf WHERE c.state = 'rejected'"
    ).fetchall()
    return {name for row in rows for name in row if name}


def kept_blobs(db: sqlite3.Connection) -> set[str]:
    """Return the blobs and wraps of contributions: those of ``wanted_blobs`` that are in no part.

    They are what a backup has to hold.
    """
    rows = db.execute(_WANTED + " AND u.leaf IS NOT NULL")
    return {name for row in rows for name in row if name}
