"""Checks orders, node keys and scores of a database against its ledger's rows.

Law: an order is done if and only if a leaf carried it out; a row that says otherwise is named. It
reads, and changes nothing. Not here: the leaves themselves (rowcheck.py, which calls this).
Source: flower.md 6, reliability.md 2.7.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterator

from ..core.node_key import node_key
from . import contribution_rows, lease_rows, members, orders, publications
from .orders import FleetOrder

Db = sqlite3.Connection
Leaves = defaultdict[tuple[str, str, str], list[int]]


def check_orders(db: Db) -> Iterator[str]:
    """Yield what is wrong with the rows of orders, node keys and scores."""
    leaves = _leaves(db)
    for order in orders.all_orders(db):
        name = f"order {order.id.hex()[:16]}"
        did = leaves[order.kind, order.member, order.concept]
        later = [leaf for leaf in did if leaf >= order.size]
        if (order.leaf is not None) != (order.state == "done"):
            yield f"{name} is {order.state} and names leaf {order.leaf}"
        elif order.state == "done" and not (
            _is_scored(db, order, leaves) if order.kind == "score" else order.leaf in later
        ):
            yield f"{name} is done by leaf {order.leaf}, which did something else"
        elif order.state in ("open", "expired") and order.kind != "score" and later:
            yield f"{name} waits, and leaf {later[0]} carried it out"
        if order.state == "open" and members.revocation(db, order.member) is not None:
            yield f"{name} waits for a member that was revoked"
    yield from _owners(db)
    yield from _scores(db)
    for (public_key,) in db.execute("SELECT public_key FROM fleet_key").fetchall():
        if node_key(public_key) != public_key:
            yield "a node key in another spelling than its own"


def _leaves(db: Db) -> Leaves:
    """Return the leaves that carry out an order, by kind, member and concept."""
    found: Leaves = defaultdict(list)
    withdrawn = dict(db.execute("SELECT contribution, leaf FROM withdrawal").fetchall())
    for lease in lease_rows.every(db):
        entry = contribution_rows.at(db, lease.slot, lease.fence)
        if entry is not None:
            found["train", lease.member, lease.concept].append(entry.leaf)
            if entry.leaf in withdrawn:
                found["withdraw", lease.member, lease.concept].append(withdrawn[entry.leaf])
    return found


def _is_scored(db: Db, order: FleetOrder, leaves: Leaves) -> bool:
    """Return whether the figures of this member's own contribution came."""
    query = "SELECT 1 FROM score WHERE release = ? AND leaf = ?"
    known = db.execute(query, (order.release, order.leaf)).fetchone() is not None
    return known and order.leaf in leaves["train", order.member, order.concept]


def _owners(db: Db) -> Iterator[str]:
    """Yield the rows that a rotation left behind."""
    for table in ("fleet_order", "fleet_key"):
        query = f"SELECT DISTINCT member FROM {table} WHERE member IN (SELECT old FROM rotation)"  # noqa: S608  # two constants
        for (member,) in db.execute(query).fetchall():
            yield f"member {member[:16]} was replaced, and a row of {table} is still its own"


def _scores(db: Db) -> Iterator[str]:
    for n, leaf in db.execute("SELECT release, leaf FROM score").fetchall():
        row = publications.published(db, n)
        if row is None or leaf not in {item.leaf for item in row.plan.included}:
            yield f"release {n} has a score of contribution {leaf}, and does not hold it"
