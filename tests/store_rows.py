"""The rows of a coordinator's database in the words of store_world.py.

Read with SQL of its own; keys and hashes become the numbers that the test gave them.
"""

import sqlite3
from dataclasses import dataclass, field

from .store_world import World


@dataclass
class Known:
    """Which number the test gave to a client key, and to a blob's hash."""

    clients: dict[str, int] = field(default_factory=dict)
    variants: dict[str, int] = field(default_factory=dict)

    def leaf_of(self, world: World, number: int) -> int | None:
        """Return the leaf of this lease's contribution."""
        upload = world.uploads.get(world.leases[number].at)
        return None if upload is None else upload.leaf


def rows(db: sqlite3.Connection, known: Known) -> object:
    """Return what ``World.rows`` says must be there."""

    def all_of(query: str) -> list[tuple]:
        return db.execute(query).fetchall()

    return {
        "slots": [
            (state, fence, known.clients.get(client, -1), held_s, kept, home)
            for state, fence, client, held_s, kept, home in all_of(
                "SELECT state, fence, client, held_s, kept, home FROM slot ORDER BY id"
            )
        ],
        "leases": sorted(
            (known.clients[client], *rest)
            for client, *rest in all_of(
                "SELECT client, concept, slot, fence, coalesce(replaces, 0), block,"
                " coalesce(joins, 0) FROM lease"
            )
        ),
        "names": sorted(all_of("SELECT name, slot, fence FROM name WHERE kind = 'trigger'")),
        "contributions": all_of(
            "SELECT leaf, slot, fence, state, first FROM contribution ORDER BY leaf"
        ),
        "uploads": sorted(
            (slot, fence, known.variants[blob], leaf)
            for slot, fence, blob, leaf in all_of("SELECT slot, fence, blob, leaf FROM upload")
        ),
        "leaves": [kind for (kind,) in all_of("SELECT kind FROM leaf ORDER BY idx")],
        "releases": all_of("SELECT n, state FROM release ORDER BY n"),
    }
