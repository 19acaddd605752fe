"""What the admission worker is asked, and what becomes of its answers (security.md 8).

Laws: the worker owns nothing; it is told what lies where and answers with numbers, and this process
decides and writes. With ``worker = true`` a contribution that passed the other gates stays pending
until its numbers are there; without, numbers that come later may still put it into quarantine. A
worker that is killed leaves nothing half done: what it did not answer is asked again. What the
operator approved keeps its state, and gets its figures. Not here: the measuring (admission/).
"""

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from ..core.document import parse
from . import contribution_rows, verdicts
from .board import Turn
from .contribution_rows import ContributionState
from .evidence import LIVE as _LIVE
from .evidence_taken import is_pictured, released
from .house import House
from .judge import Finding, Measured, judge_measured, judge_pairs
from .together import shares_of

MEASURED = "interference"
"""The figure that says so: contribution -> share of what it does on its own trigger."""


def to_measure(house: House) -> dict[str, Any]:
    """Return every contribution that is there, and which of them have no numbers or pictures yet.

    Beside them what the newest release holds, for pictures of it; ``pictures``: whether to draw.
    """

    def look(db: sqlite3.Connection) -> list[dict[str, Any]]:
        found = []
        for entry in contribution_rows.every(db):
            there = contribution_rows.readable(db, entry.leaf) if entry.state in _LIVE else None
            if there is None or parse(there[1].document, kind="contribution").body["form"] != (
                "public"
            ):
                continue
            lease, upload = there
            found.append(
                {
                    "leaf": entry.leaf,
                    "first": entry.first,
                    "slot": entry.slot,
                    "concept": lease.concept,
                    "triggers": list(lease.triggers),
                    "vectors": list(lease.vectors),
                    "blob": upload.blob,
                    "state": entry.state,
                    "measured": MEASURED in json.loads(entry.figures),
                    "pictured": is_pictured(house.folder, entry),
                }
            )
        return found

    release, held = house.store.run(released)
    return {
        "contributions": house.store.run(look),
        "pictures": house.settings.admission.pictures,
        "release": release,
        "released": held,
    }


def take(house: House, leaf: int, told: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the numbers of one contribution and return how it stands now."""
    policy = house.settings.admission
    measured = Measured(
        probe_cosine=float(told["probe_cosine"]),
        neutral_percent=float(told["neutral_percent"]),
        on={int(other): float(share) for other, share in dict(told["on"]).items()},
    )

    def write(turn: Turn) -> ContributionState:
        entry = contribution_rows.of_leaf(turn.db, leaf)
        if entry is None:
            raise verdicts.no_contribution(leaf)
        if entry.state not in _LIVE:
            return entry.state
        figures = {
            **json.loads(entry.figures),
            "probe_cosine": round(measured.probe_cosine, 6),
            "neutral_percent": round(measured.neutral_percent, 2),
            "interference_percent": round(measured.worst, 2),
            MEASURED: {str(other): round(share, 2) for other, share in measured.on.items()},
        }
        contribution_rows.set_figures(turn.db, leaf, json.dumps(figures))
        if verdicts.is_approved(entry) or entry.state == "quarantined":
            return entry.state
        findings = judge_measured(measured, policy)
        if entry.state == "pending":  # others were accepted meanwhile
            findings += judge_pairs(_pairs(turn.db, leaf), policy)
        if findings:
            return _say(turn, "quarantined", findings)
        if entry.state == "pending":
            verdicts.say(turn, house, leaf, "accepted", code="measured", why="")
        return "accepted"

    def _say(
        turn: Turn, state: ContributionState, findings: tuple[Finding, ...]
    ) -> ContributionState:
        why = "; ".join(finding.why for finding in findings)
        verdicts.say(turn, house, leaf, "quarantined", code=findings[0].code, why=why)
        return state

    state = house.board.run(write)
    house.heads.poke()
    return {"state": state}


def _pairs(db: sqlite3.Connection, leaf: int) -> dict[int, tuple[float, float]]:
    """Return (to it, from it) of every accepted contribution beside this one."""
    entries = contribution_rows.every(db)
    accepted = {entry.leaf for entry in entries if entry.state == "accepted"}
    shares: dict[tuple[int, int], float] = {}
    for entry in entries:
        if entry.leaf in accepted or entry.leaf == leaf:
            shares |= shares_of(entry)
    return {
        other: (shares[other, leaf], shares[leaf, other])
        for other in accepted - {leaf}
        if (other, leaf) in shares
    }
