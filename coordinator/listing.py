"""The operator's list of contributions: what each is, how it stands, and what was measured."""

import json
import sqlite3
from typing import Any

from . import contribution_rows, lease_rows, members


def listed(db: sqlite3.Connection) -> list[dict[str, Any]]:
    """Return every contribution by leaf, as ``orthofed coordinator contributions`` prints it."""
    names = {(lease.slot, lease.fence): lease for lease in lease_rows.every(db)}
    out = {each.key for each, revoked in members.all_members(db) if revoked is not None}
    return [
        {
            "leaf": entry.leaf,
            "slot": entry.slot,
            "concept": names[entry.slot, entry.fence].concept,
            "triggers": list(names[entry.slot, entry.fence].triggers),
            "member": names[entry.slot, entry.fence].member,
            "revoked": names[entry.slot, entry.fence].member in out,
            "state": entry.state,
            "why": entry.why,
            "replaces": names[entry.slot, entry.fence].replaces,
            "beside": names[entry.slot, entry.fence].block,
            "joins": names[entry.slot, entry.fence].joins,
            "figures": json.loads(entry.figures),
        }
        for entry in contribution_rows.every(db)
    ]
