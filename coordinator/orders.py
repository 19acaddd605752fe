"""The rows of work orders: what the operator asks of one member.

Laws: an order gives no right, so nothing about slots or leases looks at these rows; the coordinator
alone closes one, in the transaction of the ledger leaf that carries it out, or of the figures that
were asked for, so an order is done if and only if these are there; while an order is open there is
no second one of its member, kind, concept and release. An order that is past its time shows as
expired, and counts as done all the same when the work comes. Each function runs inside its caller's
transaction. Not here: who may order what (order_desk.py), when a node is told (dispatch.py).
Source: flower.md 6.
"""

import sqlite3
from dataclasses import dataclass
from typing import Any, Literal

from ..proto.wire import OrderKind

OrderState = Literal["open", "done", "cancelled", "expired"]


@dataclass(frozen=True, slots=True)
class FleetOrder:
    """One order. ``made``, ``until``: Unix seconds; ``size``: the ledger's, when it was made.

    ``leaf``: the ledger leaf that carried it out, of a score order the contribution that was
    measured; None before.
    """

    id: bytes
    member: str
    kind: OrderKind
    concept: str
    release: int
    state: OrderState
    made: int
    until: int
    size: int
    leaf: int | None = None


_ORDER = (
    "SELECT id, member, kind, concept, release, state, made, until, size, leaf FROM fleet_order"
)


def add_order(db: sqlite3.Connection, new: FleetOrder) -> None:
    """Write one order."""
    db.execute(
        "INSERT INTO fleet_order VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(new.id, new.member, new.kind, new.concept, new.release, new.state),
            *(new.made, new.until, new.size, new.leaf),
        ),
    )


def open_orders(db: sqlite3.Connection, *, now_s: int, member: str = "") -> tuple[FleetOrder, ...]:
    """Return the orders that wait, of one member or of all, the oldest first."""
    where = " WHERE state = 'open' AND until > ?" + (" AND member = ?" if member else "")
    rows = db.execute(
        _ORDER + where + " ORDER BY made, rowid", (now_s, member) if member else (now_s,)
    )
    return tuple(map(_an_order, rows))


def all_orders(db: sqlite3.Connection) -> tuple[FleetOrder, ...]:
    """Return every order ever given, the oldest first."""
    return tuple(map(_an_order, db.execute(_ORDER + " ORDER BY made, rowid")))


def order(db: sqlite3.Connection, order_id: bytes) -> FleetOrder | None:
    """Return one order."""
    return next(map(_an_order, db.execute(_ORDER + " WHERE id = ?", (order_id,))), None)


def lapse(db: sqlite3.Connection, *, now_s: int) -> None:
    """Write down that the time of some orders is over, so that they can be given anew."""
    query = "UPDATE fleet_order SET state = 'expired' WHERE state = 'open' AND until <= ?"
    db.execute(query, (now_s,))


def carry_out(
    db: sqlite3.Connection,
    member: str,
    kind: OrderKind,
    concept: str,
    *,
    leaf: int,
    release: int = 0,
) -> None:
    """Close what this leaf carries out; nothing when nobody ordered it.

    ``release``: only the orders that name it, 0 for all.
    """
    db.execute(
        "UPDATE fleet_order SET state = 'done', leaf = ?"
        " WHERE state IN ('open', 'expired') AND member = ? AND kind = ? AND concept = ?"
        " AND (release = ? OR ? = 0)",
        (leaf, member, kind, concept, release, release),
    )


def cancel_order(db: sqlite3.Connection, order_id: bytes) -> None:
    """Take an open order back."""
    query = "UPDATE fleet_order SET state = 'cancelled' WHERE state = 'open' AND id = ?"
    db.execute(query, (order_id,))


def cancel_all(db: sqlite3.Connection, member: str) -> None:
    """Take back every open order of a member that is put out."""
    query = "UPDATE fleet_order SET state = 'cancelled' WHERE state = 'open' AND member = ?"
    db.execute(query, (member,))


def _an_order(row: tuple[Any, ...]) -> FleetOrder:
    return FleetOrder(*row)
