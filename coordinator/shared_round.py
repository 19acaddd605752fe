"""One round of a shared concept: an order to each of its owners, and how far the round has come.

    release n holds the parts -> each owner is ordered to train on from n's average
                              -> what they bring is accepted, in place of their earlier parts
                              -> release n + 1 holds it

Laws: the orders are ordinary ones (order_desk.py) and give no right; who does not answer keeps its
earlier part in. How far a round is follows from rows that the ledger makes, never from what a node
says. Not here: the average (core/owners.py), Flower (flower_rounds.py).
"""

import sqlite3
from typing import Any

from ..core import names
from ..core.errors import Refused
from . import contribution_rows, lease_rows, orders, publications
from .contribution_rows import Contribution
from .holding import live
from .house import House
from .order_desk import Wish, give


def begin_round(house: House, concept: str, *, days: int) -> list[dict[str, Any]]:
    """Order every owner of ``concept`` to train on from the newest release; return the orders.

    Raises Refused ``not-shared``: nobody teaches it, or one owner alone.
    """
    name = names.slug(concept)
    owners = house.store.run(lambda db: owners_of(db, name))
    if len(owners) < 2:  # noqa: PLR2004  # a round of one is a corrective round
        raise Refused(
            f"{len(owners)} owners of {name}",
            why="a round is of a concept that several owners teach",
            fix="order its owner to train it: orthofed coordinator order",
            code="not-shared",
        )
    return [
        give(house, Wish(kind="train", member=member, concept=name, days=days))["order"]
        for member in owners
    ]


def owners_of(db: sqlite3.Connection, concept: str) -> dict[str, Contribution]:
    """Return by member what each owner of ``concept`` has in its slot or seat, by leaf."""
    found: dict[str, Contribution] = {}
    for lease in lease_rows.every(db):
        if lease.concept != concept:
            continue
        entry = contribution_rows.at(db, lease.slot, lease.fence)
        if entry is None:
            continue
        held = live(contribution_rows.of_concept(db, entry.first))
        if held is not None:
            found[lease.member] = held
    return found


def under_way(db: sqlite3.Connection, *, now_s: int) -> list[str]:
    """Return the concepts of several owners with an open order to train on, by name.

    Asked every second, so it reads the few leases that joined somebody, not all.
    """
    asked = {
        each.concept
        for each in orders.open_orders(db, now_s=now_s)
        if each.kind == "train" and each.release
    }
    joined = {lease.concept for lease in lease_rows.that_joined(db)} if asked else set[str]()
    return sorted(name for name in asked & joined if len(owners_of(db, name)) > 1)


def progress(db: sqlite3.Connection, concept: str, *, now_s: int) -> dict[str, Any]:
    """Return the newest release's number, its parts, the parts since, and the open orders."""
    newest = publications.newest(db)
    inside = set[int]() if newest is None else {item.leaf for item in newest.plan.included}
    held = owners_of(db, concept)
    open_orders = orders.open_orders(db, now_s=now_s)
    return {
        "release": 0 if newest is None else newest.n,
        "parts": sum(each.leaf in inside for each in held.values()),
        "fresh": sum(
            each.leaf not in inside and each.state == "accepted" for each in held.values()
        ),
        "open": sum(o.kind == "train" and o.concept == concept for o in open_orders),
    }
