"""The rows of Flower nodes: each member's public key of its node, and the node it became.

Laws: a member has one node key, its newest; an older one is kept, so that a captured call that
names it changes nothing (T3), and nobody else's key can be taken over. A node id is what Flower
made of a key: it can be forgotten at any time and is reported again (flower.md 4, L11). These keys
and ids say which node is told of which order and give no right at all. Each function runs inside
its caller's transaction.
"""

import sqlite3
from dataclasses import dataclass

_NEWEST = "n IN (SELECT MAX(n) FROM fleet_key GROUP BY member)"
_STANDS = "k.member NOT IN (SELECT member FROM revocation)"


@dataclass(frozen=True, slots=True)
class NodeKey:
    """One node key: its number, whose it is, the OpenSSH line, the day it came, and the node."""

    n: int
    member: str
    public_key: str
    day: int
    node: int | None

    @property
    def name(self) -> str:
        """What Flower's own list calls the node; it names no member."""
        return f"m-{self.n:04d}"


def _one(row: tuple[int, str, str, int, str | None]) -> NodeKey:
    n, member, public_key, day, node = row
    return NodeKey(n, member, public_key, day, None if node is None else int(node))


_KEY = "SELECT n, member, public_key, day, node FROM fleet_key k"


def node_key_of(db: sqlite3.Connection, member: str) -> NodeKey | None:
    """Return a member's newest node key."""
    query = _KEY + " WHERE member = ? ORDER BY n DESC LIMIT 1"
    return next(map(_one, db.execute(query, (member,))), None)


def node_key_named(db: sqlite3.Connection, public_key: str) -> NodeKey | None:
    """Return the row of a node key, the newest one of its member or not."""
    return next(map(_one, db.execute(_KEY + " WHERE public_key = ?", (public_key,))), None)


def add_node_key(db: sqlite3.Connection, member: str, public_key: str, *, day: int) -> None:
    """Write a member's newest node key."""
    db.execute(
        "INSERT INTO fleet_key (member, public_key, day) VALUES (?, ?, ?)",
        (member, public_key, day),
    )


def num_node_keys(db: sqlite3.Connection, member: str, day: int) -> int:
    """Return how many node keys a member sent on one day."""
    query = "SELECT COUNT(*) FROM fleet_key WHERE member = ? AND day = ?"
    return db.execute(query, (member, day)).fetchone()[0]


def nodes_to_be(db: sqlite3.Connection) -> tuple[NodeKey, ...]:
    """Return the node key of every member that stands: what has to be registered with Flower."""
    query = f"{_KEY} WHERE {_NEWEST} AND {_STANDS} ORDER BY n"
    return tuple(map(_one, db.execute(query)))


def nodes_to_go(db: sqlite3.Connection) -> tuple[int, ...]:
    """Return the nodes of replaced keys and revoked members: Flower must not let them in."""
    query = f"{_KEY} WHERE node IS NOT NULL AND NOT ({_NEWEST} AND {_STANDS}) ORDER BY n"
    return tuple(each.node for each in map(_one, db.execute(query)) if each.node is not None)


def set_node(db: sqlite3.Connection, public_key: str, node: int) -> bool:
    """Write which node a key became; return whether the key is known."""
    forget_node(db, node)
    query = "UPDATE fleet_key SET node = ? WHERE public_key = ?"
    return db.execute(query, (str(node), public_key)).rowcount == 1


def forget_node(db: sqlite3.Connection, node: int) -> None:
    """Write that Flower knows this node no more."""
    db.execute("UPDATE fleet_key SET node = NULL WHERE node = ?", (str(node),))
