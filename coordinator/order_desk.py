"""What the operator can order of a member: to train, score or withdraw a concept.

Laws: an order says what is wanted and gives no right: no slot, name or lease is looked at when it
is carried out that would not be looked at without it. What cannot be carried out is refused here,
in words, and not after a day: a name that is another member's, a release that does not hold the
concept. An order to train a concept that stands is one for a corrective round: it names the newest
release, against whose other concepts the owner trains its own further. The same order once more is
the open one. At most ``MAX_ORDERS`` of a member are open, so an answer to its client has a bound.
Not here: the rows (orders.py), how they end (intake.py, removal.py, score_calls.py). Source:
flower.md 6.
"""

import secrets
import sqlite3
from dataclasses import dataclass, replace
from typing import Any

from ..core import names
from ..core.errors import InputError, Refused
from ..core.fields import is_hex
from ..proto.methods import MAX_ORDERS
from ..proto.wire import OrderKind
from . import contribution_rows, lease_rows, ledger, members, name_rows, orders, publications
from .contribution_rows import Contribution
from .holding import live
from .house import House
from .orders import FleetOrder

_DAY_S = 86_400
_MOST_DAYS = 365
_SHORTEST_ID = 8
_MOST_RELEASE = (1 << 31) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """One order as it was typed: ``member`` by the digits of a key; ``release`` 0 for none."""

    kind: OrderKind
    member: str
    concept: str
    release: int = 0
    days: int = 30


def give(house: House, wish: Wish) -> dict[str, Any]:
    """Write the order; return it, and whether it is new.

    Raises InputError or Refused: nobody could carry it out.
    """
    if not 1 <= wish.days <= _MOST_DAYS or not 0 <= wish.release <= _MOST_RELEASE:
        raise InputError(
            f"an order for {wish.days} days and release {wish.release}",
            why=f"an order waits for 1 to {_MOST_DAYS} days, and releases are numbered from 1",
            fix="choose numbers within these bounds",
            code="bad-order",
        )
    if wish.release and wish.kind != "score":
        raise InputError(
            f"an order to {wish.kind} that names release {wish.release}",
            why="a contribution is trained on the base, and withdrawn from every later release",
            fix="leave --release away; a concept that stands is trained against the newest one",
            code="bad-order",
        )
    wish = replace(wish, concept=names.slug(wish.concept))
    now_s = house.clock.wall_s()

    def write(db: sqlite3.Connection) -> tuple[FleetOrder, bool]:
        orders.lapse(db, now_s=now_s)
        member = members.find_member(db, wish.member)
        members.check_stands(db, member)
        new = FleetOrder(
            id=secrets.token_bytes(16),
            member=member,
            kind=wish.kind,
            concept=wish.concept,
            release=_checked_release(db, wish, member),
            state="open",
            made=now_s,
            until=now_s + wish.days * _DAY_S,
            size=ledger.head(db).size,
        )
        waiting = orders.open_orders(db, now_s=now_s, member=member)
        for before in waiting:
            if _same(before, new):
                return before, False
        if len(waiting) >= MAX_ORDERS:
            raise Refused(
                f"{len(waiting)} open orders of this member, allowed are {MAX_ORDERS}",
                why="its client asks for all of them at once, every minute",
                fix="take one back with orthofed coordinator cancel-order",
                code="too-many-orders",
            )
        orders.add_order(db, new)
        return new, True

    order, new = house.store.run(write)
    return {"order": told(order, now_s), "new": new}


def listed_orders(house: House) -> list[dict[str, Any]]:
    """Return every order ever given, the oldest first."""
    now_s = house.clock.wall_s()
    return [
        {**told(order, now_s), "said": _said(house, order)}
        for order in house.store.run(orders.all_orders)
    ]


def cancel(house: House, digits: str) -> dict[str, Any]:
    """Take back the open order whose id begins so; return it.

    Raises InputError: no such digits, or several orders'. Raises Refused: none that is open.
    """
    if not _SHORTEST_ID <= len(digits) <= 32 or not is_hex(digits, len(digits)):  # noqa: PLR2004  # an id's digits
        raise InputError(
            f"an order named by {len(digits)} characters",
            why=f"an order is named by {_SHORTEST_ID} to 32 lower-case hex digits of its id",
            fix="take them from orthofed coordinator orders",
            code="bad-order-id",
        )
    now_s = house.clock.wall_s()

    def write(db: sqlite3.Connection) -> FleetOrder:
        waiting = orders.open_orders(db, now_s=now_s)
        found = [order for order in waiting if order.id.hex().startswith(digits)]
        if not found:
            raise Refused(
                f"no open order has an id that begins with {digits}",
                why="it was carried out, taken back, or never given",
                fix="look at orthofed coordinator orders",
                code="not-found",
            )
        if len(found) > 1:
            raise InputError(
                f"{digits} begins the ids of {len(found)} orders",
                why="one order is meant",
                fix="give more of its digits",
                code="ambiguous-order",
            )
        orders.cancel_order(db, found[0].id)
        return replace(found[0], state="cancelled")

    return told(house.store.run(write), now_s)


def told(order: FleetOrder, now_s: int) -> dict[str, Any]:
    """Return an order as commands print it; one that is past its time shows so."""
    late = order.state == "open" and order.until <= now_s
    return {
        "id": order.id.hex(),
        "member": order.member,
        "kind": order.kind,
        "concept": order.concept,
        "release": order.release,
        "state": "expired" if late else order.state,
        "made": order.made,
        "until": order.until,
        "leaf": order.leaf,
    }


def _said(house: House, order: FleetOrder) -> dict[str, Any] | None:
    """Return what the member's node answered last, by its own word and since the start."""
    said = house.sightings.heard(order.id) if order.state == "open" else None
    return None if said is None else {"state": said.state, "code": said.code, "step": said.step}


def _same(one: FleetOrder, other: FleetOrder) -> bool:
    return (one.kind, one.concept, one.release) == (other.kind, other.concept, other.release)


def _checked_release(db: sqlite3.Connection, wish: Wish, member: str) -> int:
    """Return the release that the order names, once it can be carried out."""
    held = _live(db, member, wish.concept)
    if wish.kind == "train" and held is None:
        _check_name(db, wish, member)
        return 0
    if held is None:
        raise Refused(
            f"this member has no contribution {wish.concept}",
            why=f"to {wish.kind} is about a concept that was taught and stands",
            fix="look at orthofed coordinator members and contributions",
            code="not-taught",
        )
    if wish.kind == "withdraw":
        return 0
    if wish.kind == "train" and held.state != "accepted":
        raise Refused(
            f"{wish.concept} is taught already: contribution {held.leaf} is {held.state}",
            why="a corrective round is for what releases hold",
            fix="approve or reject it first",
            code="already-taught",
        )
    return _release_with(db, wish.release, held)


def _check_name(db: sqlite3.Connection, wish: Wish, member: str) -> None:
    alike = name_rows.at(db, "concept", names.skeleton(wish.concept))
    if any(name.member != member for name in alike):
        raise Refused(
            f"the concept name {wish.concept} is another member's",
            why="a name, and what reads like it, is its member's for ever",
            fix="order it of that member, or choose another name",
            code="name-taken",
        )


def _live(db: sqlite3.Connection, member: str, concept: str) -> Contribution | None:
    """Return the contribution of that name that the member's slot holds."""
    for lease in lease_rows.of_member(db, member):
        if lease.concept == concept:
            entry = contribution_rows.at(db, lease.slot, lease.fence)
            held = None if entry is None else live(contribution_rows.of_concept(db, entry.first))
            if held is not None:
                return held
    return None


def _release_with(db: sqlite3.Connection, n: int, held: Contribution) -> int:
    """Return the number of the release, the newest one for 0; it holds the contribution."""
    found = publications.published(db, n) if n else publications.newest(db)
    if found is None or held.leaf not in {item.leaf for item in found.plan.included}:
        raise Refused(
            f"release {n} does not hold contribution {held.leaf}"
            if n
            else f"contribution {held.leaf} is in no newest release",
            why="a concept is measured in a release that it is part of",
            fix="publish one with orthofed coordinator release, or name another with --release",
            code="not-in-release",
        )
    return found.n
