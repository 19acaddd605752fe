"""The operator puts a member out: ``revoke``, the rows behind ``members``.

Laws: row, ended leases and, if asked for, rejections are one turn; once more changes nothing but to
reject what is left. From its COMMIT on the key leases nothing (enrolment.py) and its client keys
hold nothing, so they renew, begin, put and commit nothing; they ask and withdraw as before, since a
contribution is its owner's. Its names stay its own, so nobody gets them. The ledger gets no leaf of
it: it knows client keys alone, and a leaf would tell which of them are one member's; what leaves
the model by ``reject`` has its admission leaf like any other (docs/keys.md).
"""

import sqlite3
from collections import Counter
from dataclasses import dataclass
from typing import Any

from ..fleet.journal import short, tell
from . import contribution_rows, lease_rows, members, orders, slot_rows, verdicts
from .board import Turn
from .contribution_rows import Contribution
from .house import House
from .members import Revocation
from .node_ages import node_ages
from .reason import reason
from .slot_events import Back, Free, Revoke

MOST_WHY = 500
"""Characters of its reason: what its owner reads says more than that."""
_LIVE = ("pending", "accepted", "quarantined", "superseded")
_LEASED = ("leased", "revising")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What goes with a revocation: the contributions, and the invite's uses that are left."""

    why: str = ""
    reject: bool = False
    close_invite: bool = False


def revoke(house: House, digits: str, terms: Terms) -> dict[str, Any]:
    """Revoke the member that ``digits`` name; return what became of its leases and contributions.

    Raises InputError or Refused: they name nobody or more than one, or the reason is none.
    """
    why = reason(terms.why, least=0, most=MOST_WHY).replace("\n", " ")  # a part of other sentences

    def write(turn: Turn) -> dict[str, Any]:
        member = members.find_member(turn.db, digits)
        before = members.revocation(turn.db, member)
        said = before or Revocation(house.clock.wall_s(), why)
        if before is None:
            members.add_revocation(turn.db, member, said)
        orders.cancel_all(turn.db, member)
        ended = [each.slot for each in turn.step(Revoke(member)) if isinstance(each, Back | Free)]
        live = _live(turn.db, member)
        if terms.reject:
            for entry in live:
                verdicts.say(turn, house, entry.leaf, "rejected", code="operator", why=said.told)
        uses = members.close_invite if terms.close_invite else members.invite_uses
        return {
            "member": member,
            "why": said.why,
            "was": "standing" if before is None else "revoked",
            "ended": ended,
            "rejected": [entry.leaf for entry in live] if terms.reject else [],
            "kept": [] if terms.reject else [entry.leaf for entry in live],
            "invite_uses": uses(turn.db, member),
            "invite_closed": terms.close_invite,
        }

    done = house.board.run(write)
    tell("member-revoked", member=short(done["member"]))
    house.heads.poke()
    return done


def listed_members(house: House) -> list[dict[str, Any]]:
    """Return every member as ``orthofed coordinator members`` prints it."""
    ages = node_ages(house)
    return [
        {
            **row,
            "node": row["member"] in ages,
            "node_seen_s": ages.get(row["member"]),
        }
        for row in house.store.run(_rows)
    ]


def _rows(db: sqlite3.Connection) -> list[dict[str, Any]]:
    leased = Counter(slot.member for slot in slot_rows.every(db) if slot.phase in _LEASED)
    replaced: dict[str, list[str]] = {}
    for rotation in members.rotations(db):
        before = replaced.get(rotation.old, [])
        replaced[rotation.new] = [*before, rotation.old]
    states: dict[str, Counter[str]] = {}
    for lease in lease_rows.every(db):
        entry = contribution_rows.at(db, lease.slot, lease.fence)
        if entry is not None:
            states.setdefault(lease.member, Counter())[entry.state] += 1
    return [
        {
            "member": each.key,
            "operator": each.operator,
            "state": "standing" if out is None else "revoked",
            "why": "" if out is None else out.why,
            "replaced": replaced.get(each.key, []),
            "leased": leased[each.key],
            "contributions": dict(states.get(each.key, Counter())),
        }
        for each, out in members.all_members(db)
    ]


def _live(db: sqlite3.Connection, member: str) -> list[Contribution]:
    """Return the member's contributions that a release may still hold, by leaf."""
    entries = [
        contribution_rows.at(db, lease.slot, lease.fence)
        for lease in lease_rows.of_member(db, member)
    ]
    live = [entry for entry in entries if entry is not None and entry.state in _LIVE]
    return sorted(live, key=lambda entry: entry.leaf)
