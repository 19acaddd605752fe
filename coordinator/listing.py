"""The operator's list of contributions: what each is, how it stands, and what was measured."""

import json
from typing import Any

from . import members, records


def listed(db: records.Db) -> list[dict[str, Any]]:
    """Return every contribution by leaf, as ``orthofed coordinator contributions`` prints it."""
    names = {(lease.slot, lease.fence): lease for lease in records.leases(db)}
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
        for entry in records.contributions(db)
    ]
