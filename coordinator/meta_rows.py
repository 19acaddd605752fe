"""The rows that founding wrote once, and the keyrings that came after.

Law: each function runs inside a transaction that its caller began and that COMMITs as a whole.
"""

import sqlite3
from collections.abc import Iterable


def value(db: sqlite3.Connection, key: str) -> bytes:
    """Return one value that init wrote."""
    return db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()[0]


def set_values(db: sqlite3.Connection, values: Iterable[tuple[str, bytes]]) -> None:
    """Write values once, at init."""
    db.executemany("INSERT INTO meta VALUES (?, ?)", values)


def add_keyring(db: sqlite3.Connection, n: int, document: bytes) -> None:
    """Write one keyring document."""
    db.execute("INSERT INTO keyring VALUES (?, ?)", (n, document))


def keyrings(db: sqlite3.Connection) -> tuple[bytes, ...]:
    """Return keyring documents 1, 2, 3, ... in order."""
    return tuple(row[0] for row in db.execute("SELECT document FROM keyring ORDER BY n"))
