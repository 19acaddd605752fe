"""Where each keyring lies in the ledger, proven to homes that do not read all of it (T25).

Law: a ledger key signs the checkpoints of its own sizes and no others (core/keyring.py), so who
judges a receipt has to know where the keyrings lie. For each keyring but the first, which is leaf
1, there is a tlog-proof of its leaf under a checkpoint by the newest ledger key: a thief of an
older one cannot move it. They are made anew in the transaction of each keyring, and at the first
start with a database that has none. Cost: every leaf's hash once a keyring.
"""

import sqlite3

from ..core import merkle
from ..core.receipt import make_receipt
from . import ledger, meta_rows

_FIRST = 1
"""The leaf of keyring 1."""


def stored(db: sqlite3.Connection) -> tuple[bytes, ...]:
    """Return the proofs of keyrings 2, 3, ... in order."""
    return tuple(row[0] for row in db.execute("SELECT proof FROM keyring_proof ORDER BY n"))


def renew(db: sqlite3.Connection) -> None:
    """Prove every keyring's place under the newest checkpoint, inside the caller's transaction."""
    rows = db.execute("SELECT idx, body FROM leaf WHERE kind = 'keyring' ORDER BY idx").fetchall()
    later = [row for row in rows if row[0] > _FIRST]
    hashes = [each for (each,) in db.execute("SELECT hash FROM leaf ORDER BY idx")] if later else []
    note = ledger.head(db).checkpoint
    db.execute("DELETE FROM keyring_proof")
    for n, (index, body) in enumerate(later, start=2):
        proof = merkle.inclusion_proof(hashes, index, len(hashes))
        row = (n, make_receipt(body, index, proof, note))
        db.execute("INSERT INTO keyring_proof VALUES (?, ?)", row)


def complete(db: sqlite3.Connection) -> None:
    """Make the proofs that are missing: the keyrings came with an earlier version."""
    if len(stored(db)) != len(meta_rows.keyrings(db)) - 1:
        renew(db)
