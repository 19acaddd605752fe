"""Score: an owner brings what it measured of its own concept in a release.

Laws: numbers alone, and integers, so none is infinite or no number; a caller speaks of its own
contribution in a release that holds it, and of no other (T2): what is absent and what is another's
look alike (T20). Row and closed order are one transaction. A withdrawn contribution can be scored
while a release that holds it is published: what it was is what the figures are of. Not here: what
the operator makes of it (retention.py).
"""

import sqlite3

from ..core.errors import Refused
from ..proto import wire
from . import lease_rows, members, orders, publications, scores
from .house import House
from .scores import Scored


class ScoreCalls:
    """The call that brings figures."""

    def __init__(self, house: House) -> None:
        """Act on what the house owns."""
        self._house = house

    def score(self, key: str, request: wire.ScoreRequest) -> wire.ScoreReply:
        """Keep the caller's figures and close the orders that asked for them."""
        now_s = self._house.clock.wall_s()

        def write(db: sqlite3.Connection) -> None:
            members.check_stands(db, key)
            leaf = _own_leaf(db, key, request)
            scored = Scored(
                release=request.release,
                leaf=leaf,
                base=request.base_millionths,
                single=request.single_millionths,
                merged=request.merged_millionths,
                pictures=request.num_pictures,
                draws=request.num_draws,
                t=now_s,
            )
            scores.put_score(db, scored)
            orders.carry_out(db, key, "score", request.concept, leaf=leaf, release=request.release)

        self._house.store.run(write)
        return wire.ScoreReply()


def _own_leaf(db: sqlite3.Connection, key: str, request: wire.ScoreRequest) -> int:
    """Return the leaf of the caller's contribution of that name in that release."""
    published = publications.published(db, request.release)
    mine = {
        (lease.slot, lease.fence)
        for lease in lease_rows.of_member(db, key)
        if lease.concept == request.concept
    }
    for item in () if published is None else published.plan.included:
        if (item.slot, item.fence) in mine:
            return item.leaf
    raise Refused(
        "this member has no such concept in such a release",
        why="an owner measures its own concept, in a release that holds it",
        fix="pull the newest release and score that",
        code="not-found",
    )
