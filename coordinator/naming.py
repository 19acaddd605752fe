"""Which names a member may take: free ones, and its own that no contribution carries.

Laws: a name that was leased is its member's for ever (T23, I6): nobody else gets it or one that
reads like it, also after a withdrawal, and its owner only while no contribution carries it that was
not withdrawn. Each function runs inside its caller's transaction. Not here: what reads alike
(core/names.py), the rows (name_rows.py).
"""

import sqlite3

from ..core import names
from ..core.errors import Refused
from . import contribution_rows, lease_rows, name_rows
from .joining import is_joined
from .lease_rows import Lease
from .name_rows import Name, NameKind

OwnNames = dict[tuple[NameKind, str], Name]
"""A member's own names that no contribution carries, by kind and spelling."""


def own_names(db: sqlite3.Connection, key: str) -> OwnNames:
    """Return the member's own names that no contribution carries: those it may take again.

    By way of its leases, which are few: a federation's names are many.
    """
    own: OwnNames = {}
    for lease in lease_rows.of_member(db, key):
        if lease.joins is not None:
            continue  # the names are its first owner's
        kinds: list[NameKind] = ["concept", *("trigger" for _ in lease.triggers)]
        for kind, each in zip(kinds, (lease.concept, *lease.triggers), strict=True):
            alike = name_rows.at(db, kind, names.skeleton(each))
            mine = [name for name in alike if name.member == key]
            if not mine:
                raise AssertionError("a leased name is its member's for ever")
            own |= {(kind, name.name): name for name in mine if not _carried(db, name)}
    return own


def check_names(
    db: sqlite3.Connection,
    concept: str,
    triggers: tuple[str, ...],
    own: OwnNames,
    *,
    reserved: tuple[str, ...],
) -> None:
    """Refuse names that are taken or read like another's (T23).

    Its own name, letter by letter, is a member's also beside one that reads like it: an earlier
    version's rule had let both in.

    Raises Refused ``name-taken``, or what core/names.py says of a trigger.
    """
    alike = name_rows.at(db, "concept", names.skeleton(concept))
    others = any(("concept", name.name) not in own for name in alike)
    if others and ("concept", concept) not in own:
        raise _taken(db, concept, reserved=reserved)
    mine = {name for kind, name in own if kind == "trigger"}
    taken: list[str] = []
    for trigger in triggers:
        near = () if trigger in mine else _near(db, trigger)
        taken += [name for name in near if name not in mine]
        try:
            names.check_trigger(trigger, taken=taken, reserved=reserved)
        except Refused as refused:
            raise Refused(
                refused.what,
                why=refused.why,
                fix=f"choose another trigger, such as {_free(db, trigger, reserved=reserved)}",
                code=refused.code,
            ) from refused
        taken.append(trigger)


def leases_of_like_names(
    own: OwnNames, concept: str, triggers: tuple[str, ...]
) -> set[tuple[int, int]]:
    """Return slot and fence of each of the member's leases of a name that reads like these."""
    return {
        (name.slot, name.fence)
        for (kind, _), name in own.items()
        if _reads_like(kind, name.name, concept, triggers)
    }


def claim_names(db: sqlite3.Connection, lease: Lease) -> None:
    """Write concept and triggers of a lease down as its member's, for ever."""
    _claim(db, "concept", Name(lease.concept, lease.member, lease.slot, lease.fence))
    for trigger in lease.triggers:
        _claim(db, "trigger", Name(trigger, lease.member, lease.slot, lease.fence))


def _carried(db: sqlite3.Connection, name: Name) -> bool:
    """Return whether a contribution bears the name; a withdrawn one is in no later release."""
    entry = contribution_rows.at(db, name.slot, name.fence)
    return entry is not None and (entry.state != "withdrawn" or is_joined(db, entry.first))


def _reads_like(kind: NameKind, name: str, concept: str, triggers: tuple[str, ...]) -> bool:
    if kind == "concept":
        return names.skeleton(name) == names.skeleton(concept)
    return any(names.collide(name, trigger) for trigger in triggers)


def _claim(db: sqlite3.Connection, kind: NameKind, name: Name) -> None:
    name_rows.claim(db, kind, names.skeleton(name.name), name)


def _near(db: sqlite3.Connection, trigger: str) -> set[str]:
    """Return every trigger ever leased that may collide with this one."""
    skeletons, start = names.near(trigger)
    found = [name for each in skeletons for name in name_rows.at(db, "trigger", each)]
    found += name_rows.beginning(db, "trigger", start)
    return {name.name for name in found}


def _taken(db: sqlite3.Connection, concept: str, *, reserved: tuple[str, ...]) -> Refused:
    return Refused(
        f"the concept name {concept} is not free",
        why="it is, or reads like, a concept of this federation",
        fix=f"choose another name, such as {_free(db, concept, reserved=reserved)}",
        code="name-taken",
    )


def _free(db: sqlite3.Connection, name: str, *, reserved: tuple[str, ...]) -> str:
    """Return a name near ``name`` that is free, as a concept's and as a trigger.

    A further part behind a hyphen would extend the name that is taken.
    """
    tries = (f"{name[:29]}{n}" for n in range(2, 100))
    return next((each for each in tries if _is_free(db, each, reserved)), "another one")


def _is_free(db: sqlite3.Connection, name: str, reserved: tuple[str, ...]) -> bool:
    if name_rows.at(db, "concept", names.skeleton(name)):
        return False
    try:
        names.check_trigger(name, taken=_near(db, name), reserved=reserved)
    except Refused:
        return False
    return True
