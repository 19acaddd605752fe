"""An order to score each concept of the newest release: what an operator asks after a release.

Laws: each is an ordinary order of its owner (order_desk.py), one for each owner of a shared
concept; what is ordered already stays the open one, so once more asks nobody twice. Whoever cannot
carry one out, since the concept went or its member was put out, is named and holds up nobody.
"""

import sqlite3
from typing import Any

from ..core.errors import Refused
from . import lease_rows, publications, upload_rows
from .house import House
from .lease_rows import Lease
from .order_desk import Wish, give


def score_all(house: House, *, days: int) -> dict[str, Any]:
    """Give the orders; return ``release``, ``orders``, each with ``new``, and ``left_out``.

    Raises Refused: nothing is released yet. Raises InputError: no such days.
    """

    def look(db: sqlite3.Connection) -> tuple[int, list[Lease]]:
        newest = publications.newest(db)
        if newest is None:
            raise Refused(
                "nothing is released yet",
                why="owners measure their concepts in a published release",
                fix="publish one with orthofed coordinator release",
                code="no-such-release",
            )
        found = (upload_rows.at(db, item.slot, item.fence) for item in newest.plan.included)
        leases = (lease_rows.of_client(db, each.client) for each in found if each is not None)
        return newest.n, [lease for lease in leases if lease is not None]

    n, leases = house.store.run(look)
    given, left_out = list[dict[str, Any]](), list[dict[str, Any]]()
    for lease in leases:
        wish = Wish(kind="score", member=lease.member, concept=lease.concept, release=n, days=days)
        try:
            done = give(house, wish)
        except Refused as error:
            left_out.append(
                {
                    "concept": lease.concept,
                    "member": lease.member,
                    "code": error.code,
                    "what": error.what,
                }
            )
        else:
            given.append({"new": done["new"], **done["order"]})
    return {"release": n, "orders": given, "left_out": left_out}
