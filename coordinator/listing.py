"""The operator's list of contributions: what each is, how it stands, and what was measured."""

import json
from typing import Any

from . import records


def listed(db: records.Db) -> list[dict[str, Any]]:
    """Return every contribution by leaf, as ``orthofed coordinator contributions`` prints it."""
    names = {(lease.slot, lease.fence): lease for lease in records.leases(db)}
    return [
        {
            "leaf": entry.leaf,
            "slot": entry.slot,
            "concept": names[entry.slot, entry.fence].concept,
            "triggers": list(names[entry.slot, entry.fence].triggers),
            "state": entry.state,
            "why": entry.why,
            "figures": json.loads(entry.figures),
        }
        for entry in records.contributions(db)
    ]
