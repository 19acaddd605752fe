"""Checks that every slot is what the leases and contributions of the ledger made it.

Law: a slot's phase follows from what it holds, and its owner from its last lease (I3, I5); every
slot that says otherwise is named. It reads, and changes nothing. Source: reliability.md 2.7 and 3.
Cost: one pass over slots and contributions. Not here: whether those are the ledger's (rowcheck.py).
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping

from ..core.spec import FederationSpec
from . import contribution_rows, members, publications, slot_rows
from .contribution_rows import Contribution
from .holding import live
from .lease_rows import Lease

_LEASED = ("leased", "revising")


def check_slots(
    db: sqlite3.Connection,
    spec: FederationSpec,
    leases: Mapping[tuple[int, int], Lease],
    fences: Mapping[int, int],
) -> Iterator[str]:
    """Yield what is wrong with the slots.

    ``leases``: by slot and fence. ``fences``: how often each slot was leased, by the ledger.
    """
    newest, plan = publications.newest(db), publications.planned(db)
    bound = {
        slot for held in (newest.plan if newest else None, plan) if held for slot in held.slots
    }
    slots = slot_rows.every(db)
    if sum(not slot.is_seat for slot in slots) != spec.capacity:
        yield f"{len(slots)} slots, the spec has {spec.capacity}"
    used = {slot.home for slot in slots if slot.phase != "free"}
    concepts = _concepts(db)
    for index, slot in enumerate(slots):
        lease = leases.get((index, slot.fence))
        owner = ("", "") if lease is None else (lease.client, lease.member)
        if slot.phase in _LEASED and members.revocation(db, slot.member) is not None:
            yield f"slot {index} is leased to a member that was revoked"
        if slot.fence != fences[index] or (slot.client, slot.member) != owner:
            yield f"slot {index} is not what its last lease made it"
        held = [found.fence for each in concepts[index] if (found := live(each)) is not None]
        is_held, is_bound = held == [slot.kept], index in bound
        kept = contribution_rows.at(db, index, slot.kept)
        fresh = contribution_rows.at(db, index, slot.fence) is None
        fits = {
            "free": not held and not is_bound and not slot.kept,
            "leased": not held and not is_bound and not slot.kept and fresh,
            "filled": is_held,
            "revising": is_held and fresh,
            "emptying": not held and (is_bound or index in used) and kept is not None,
        }
        home = -1 if lease is None else lease.block
        if slot.is_seat != (index >= spec.capacity) or (slot.fence and slot.home != home):
            yield f"slot {index} is not beside the slot that its last lease joined"
        if not fits.get(slot.phase, False):  # I3, I5
            yield f"slot {index} is {slot.phase}, and its contribution says otherwise"


def _concepts(db: sqlite3.Connection) -> defaultdict[int, list[tuple[Contribution, ...]]]:
    """Return by slot the contributions of each concept that it ever held."""
    found: defaultdict[int, list[tuple[Contribution, ...]]] = defaultdict(list)
    for entry in contribution_rows.every(db):
        if entry.first == entry.leaf:
            found[entry.slot].append(contribution_rows.of_concept(db, entry.leaf))
    return found
