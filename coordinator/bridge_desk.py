"""What the bridge may ask: which order for which node, which keys to register; and what it saw.

Laws: it lists open orders and takes down what it is told; it closes nothing, leases nothing, and
learns of members no more than the numbers of their nodes' keys (flower.md 5), and of a concept how
many parts it has, which the ledger says to everybody. What it reports is
memory (sightings.py) but for node ids, which are hints too. A bad line gets a code and the next one
is read as if nothing had been. Not here: bytes on a socket (bridge_socket.py), whose turn it is
(dispatch.py).
"""

import json
import sqlite3
import threading
from typing import Any

from ..core.errors import OrthoFedError
from . import dispatch, node_keys, orders
from .bridge_request import (
    AskDue,
    AskKeys,
    AskRound,
    AskRounds,
    Hint,
    Registered,
    Request,
    Seen,
    Unregistered,
    parse_line,
)
from .dispatch import Dispatch, Due, Waiting
from .house import House
from .limits import Buckets
from .shared_round import progress, under_way
from .sightings import Said

_A_SECOND = 20.0
_AT_ONCE = 40


class BridgeDesk:
    """Answers one line at a time. Safe for several threads."""

    def __init__(self, house: House) -> None:
        """Act on what the house owns; nobody was told anything yet."""
        self._house = house
        self._lock = threading.Lock()
        self._state = Dispatch()
        self._pace = Buckets(per_s=_A_SECOND, burst=_AT_ONCE)

    def answer(self, line: bytes) -> bytes:
        """Return the answer's line; a refusal is an answer too."""
        try:
            self._pace.take("bridge", self._house.clock.monotonic_s())
            said = {"v": 1, **self._act(parse_line(line))}
        except OrthoFedError as error:
            said = {"v": 1, "error": error.code}
        return json.dumps(said, separators=(",", ":")).encode() + b"\n"

    def _act(self, request: Request) -> dict[str, Any]:  # noqa: PLR0911  # one case a request
        house, store = self._house, self._house.store
        match request:
            case Seen(nodes):
                house.sightings.report(nodes, house.clock.monotonic_s())
                return {}
            case AskDue(nodes):
                return {"orders": self._due(frozenset(nodes))}
            case AskRound(concept):
                now_s = house.clock.wall_s()
                return store.run(lambda db: progress(db, concept, now_s=now_s))
            case AskRounds():
                now_s = house.clock.wall_s()
                return {"concepts": store.run(lambda db: under_way(db, now_s=now_s))}
            case Hint():
                said = Said(request.state, request.code, request.step)
                house.sightings.hear(request.order, said)
                return {}
            case AskKeys():
                return store.run(_keys)
            case Registered(public_key, node):
                known = store.run(lambda db: node_keys.set_node(db, public_key, node))
                return {} if known else {"error": "unknown-key"}
            case Unregistered(node):
                store.run(lambda db: node_keys.forget_node(db, node))
                return {}

    def _due(self, free: frozenset[int]) -> list[dict[str, Any]]:
        wall_s, facts = self._house.clock.wall_s(), self._house.facts
        with self._lock:  # two askers at once must not tell one order twice
            found = self._house.store.run(lambda db: _waiting(db, wall_s))
            waiting = tuple(Waiting(order.id, node) for order, node in found)
            event = Due(self._house.clock.monotonic_s(), free, waiting)
            self._state, chosen = dispatch.step(self._state, event)
        by_id = {order.id: order for order, _ in found}
        return [
            {
                "node": each.node,
                "order": each.order.hex(),
                "kind": by_id[each.order].kind,
                "fed": facts.fed,
                "log": facts.log,
                "concept": by_id[each.order].concept,
                "release": by_id[each.order].release,
            }
            for each in chosen
        ]


def _waiting(db: sqlite3.Connection, wall_s: int) -> list[tuple[orders.FleetOrder, int]]:
    """Return each open order whose member has a node that Flower knows, the oldest first."""
    nodes = {key.member: key.node for key in node_keys.nodes_to_be(db)}
    found = [(order, nodes.get(order.member)) for order in orders.open_orders(db, now_s=wall_s)]
    return [(order, node) for order, node in found if node is not None]


def _keys(db: sqlite3.Connection) -> dict[str, Any]:
    keys = [
        {"name": key.name, "public_key": key.public_key, "node": key.node}
        for key in node_keys.nodes_to_be(db)
    ]
    return {"keys": keys, "gone": list(node_keys.nodes_to_go(db))}
