"""Orders and FleetKey: what a member may ask about its orders and its Flower node.

Laws: a caller sees its own orders and nothing of anybody else's (T20); a member key that was
replaced or revoked has none and is told so; the same node key once more changes nothing, and one
that was replaced never comes back (T3). A few new node keys a day, since each stays for ever. Not
here: the rows (orders.py, node_keys.py), who calls (auth.py).
"""

import sqlite3

from ..core.errors import InputError, Refused
from ..core.node_key import node_key
from ..proto import wire
from . import members, node_keys, orders
from .house import House

_DAY_S = 86_400
_A_DAY = 3


class OrderCalls:
    """The calls of the service Fleet."""

    def __init__(self, house: House) -> None:
        """Act on what the house owns."""
        self._house = house

    def orders(self, key: str, _request: wire.OrdersRequest) -> wire.OrdersReply:
        """Return the caller's open orders, and when its node was seen."""
        house = self._house

        def look(db: sqlite3.Connection) -> tuple[tuple[orders.FleetOrder, ...], int | None]:
            members.check_stands(db, key)
            waiting = orders.open_orders(db, now_s=house.clock.wall_s(), member=key)
            mine = node_keys.node_key_of(db, key)
            return waiting, None if mine is None else mine.node

        waiting, node = house.store.run(look)
        now_s = house.clock.monotonic_s()
        return wire.OrdersReply(
            tuple(wire.Order(o.id, o.kind, o.concept, o.release, o.made) for o in waiting),
            node_seen_s=house.sightings.node_age_s(node, now_s),
            bridge_seen_s=house.sightings.bridge_age_s(now_s),
        )

    def fleet_key(self, key: str, request: wire.FleetKeyRequest) -> wire.FleetKeyReply:
        """Keep the public key of the caller's node; it replaces the one before."""
        line = node_key(request.public_key)
        if line != request.public_key:
            raise InputError(
                "a node key with more than its kind and its bytes",
                why="a comment names a user and a machine, and has no business here",
                fix="send the first two words of the .pub file alone",
                code="bad-node-key",
            )
        day = self._house.clock.wall_s() // _DAY_S
        self._house.store.run(lambda db: _keep(db, key, line, day))
        return wire.FleetKeyReply()


def _keep(db: sqlite3.Connection, member: str, line: str, day: int) -> None:
    members.check_stands(db, member)
    known, newest = node_keys.node_key_named(db, line), node_keys.node_key_of(db, member)
    if known is not None and known == newest:
        return
    if known is not None:
        raise InputError(
            "a node key that was used before",
            why="a node key is one member's, and does not come back once it was replaced",
            fix="make a new one with ssh-keygen and send that",
            code="key-used",
        )
    if node_keys.num_node_keys(db, member, day) >= _A_DAY:
        raise Refused(
            f"{_A_DAY} new node keys of this member today, allowed are {_A_DAY}",
            why="each one stays in the coordinator's database for ever",
            fix="keep one node key a member, and come back tomorrow",
            code="quota-used",
        )
    node_keys.add_node_key(db, member, line, day=day)
