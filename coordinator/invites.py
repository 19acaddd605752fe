"""The operator's list of invites: how often each can still be used, and until when.

Law: only an invite's public key is kept, so a list can show how it stands and not its word (T1).
"""

import sqlite3
from typing import Any


def listed_invites(db: sqlite3.Connection) -> list[dict[str, Any]]:
    """Return every invite ever made, the newest first; ``until`` in Unix seconds."""
    rows = db.execute(
        "SELECT i.key, i.uses_left, i.until, i.operator, COUNT(m.key) FROM invite i"
        " LEFT JOIN member m ON m.invite = i.key AND m.key NOT IN (SELECT old FROM rotation)"
        " GROUP BY i.key ORDER BY i.rowid DESC"
    )
    names = ("key", "uses_left", "until", "operator", "members")
    return [dict(zip(names, row, strict=True)) for row in rows]
