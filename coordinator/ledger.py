"""The ledger in the store: append a leaf, sign the new checkpoint, make the receipt.

Law (reliability.md 2.4): all three happen inside the caller's transaction, so a checkpoint that was
rolled back never leaves the process, and one that left is in the database. Checkpoints only grow,
each consistent with the one before (I7), since only the peaks are carried. Cost: O(log n) a leaf.
Source: security.md 4.6 and 4.7. Not here: the tree's arithmetic (core/merkle.py), what leaves say
(core/leaf.py), the public files (heads.py).
"""

import sqlite3
from dataclasses import dataclass

from ..core import merkle
from ..core.checkpoint import Checkpoint, sign_checkpoint
from ..core.document import sign
from ..core.fields import NO_ID
from ..core.head import LedgerHead
from ..core.keys import SigningKey
from ..core.leaf import parse_leaf
from ..core.merkle import Peaks
from ..core.receipt import make_receipt

_HASH = 32


@dataclass(frozen=True, slots=True)
class Appended:
    """A leaf's place, and the receipt that may leave the process after COMMIT."""

    index: int
    receipt: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """The newest state of the ledger: what the public files say."""

    size: int
    root: bytes
    checkpoint: bytes


class Ledger:
    """Signs with the ledger key of one log."""

    def __init__(self, key: SigningKey, log: str) -> None:
        """Keep key and log id (hex)."""
        self._key = key
        self.log = log

    @property
    def key(self) -> str:
        """The public half of the ledger key, hex."""
        return self._key.public_hex

    def take_over(self, key: SigningKey) -> None:
        """Sign with another key from now on; in the writer thread, right after its keyring."""
        self._key = key

    def append(
        self, db: sqlite3.Connection, body: bytes, *, key: SigningKey | None = None
    ) -> Appended:
        """Append one leaf inside the caller's transaction.

        ``key``: the ledger key that this very leaf, a keyring, hands over to.
        """
        tree = peaks(db)
        index, proof = tree.size, tree.proof_of_next()
        leaf = merkle.leaf_hash(body)
        grown = tree.append(leaf)
        note = sign_checkpoint(key or self._key, Checkpoint(self.log, grown.size, grown.root))
        kind = parse_leaf(body)["kind"]
        db.execute("INSERT INTO leaf VALUES (?, ?, ?, ?)", (index, kind, body, leaf))
        db.execute(
            "INSERT INTO head VALUES (0, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET size = excluded.size, peaks = excluded.peaks,"
            " checkpoint = excluded.checkpoint",
            (grown.size, b"".join(grown.hashes), note),
        )
        return Appended(index, make_receipt(body, index, proof, note))

    def head_document(self, head: Head, *, n: int, manifest: str, now_s: int) -> bytes:
        """Return the signed head: size, root and the newest release (0 and zeros for none)."""
        told = LedgerHead(
            log=self.log,
            manifest=manifest or NO_ID,
            release=n,
            root=head.root.hex(),
            size=head.size,
            t=now_s,
        )
        return sign("head", told.body(), (self._key,)).to_bytes()


def head(db: sqlite3.Connection) -> Head:
    """Return the newest state of the ledger."""
    tree = peaks(db)
    note = db.execute("SELECT checkpoint FROM head").fetchone()
    return Head(tree.size, tree.root, b"" if note is None else note[0])


def leaf_body(db: sqlite3.Connection, index: int) -> bytes:
    """Return one leaf's body."""
    return db.execute("SELECT body FROM leaf WHERE idx = ?", (index,)).fetchone()[0]


def peaks(db: sqlite3.Connection) -> Peaks:
    """Return the tree of the newest state."""
    row = db.execute("SELECT size, peaks FROM head").fetchone()
    if row is None:
        return Peaks()
    size, joined = row
    return Peaks(size, tuple(joined[i : i + _HASH] for i in range(0, len(joined), _HASH)))
