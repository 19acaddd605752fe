"""How many of everything there are, by state: what ``status`` and ``/metrics`` both say.

Law: one turn, so that the numbers belong together. Nothing here names a person, a concept or an
address.
"""

from collections import Counter
from dataclasses import dataclass

from . import contribution_rows, ledger, orders, publications, upload_rows
from .board import Turn
from .house import House
from .members import all_members

PHASES = ("free", "leased", "filled", "revising", "emptying")
STATES = ("pending", "accepted", "quarantined", "rejected", "superseded", "withdrawn")


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers by state; ``newest_release`` is 0 and ``released_s`` 0 while there is none.

    ``slots``: without seats, which are made as they are needed.
    ``released_s``: Unix seconds of the plan of the newest release. ``contributions`` has the states
    that occur.
    """

    slots: dict[str, int]
    contributions: dict[str, int]
    standing: int
    revoked: int
    leaves: int
    open_uploads: int
    newest_release: int
    released_s: int
    plan_open: bool
    orders: dict[str, int]
    """Open orders by kind."""


def counts(house: House) -> Counts:
    """Return the numbers of this moment."""
    now_s = house.clock.wall_s()

    def look(turn: Turn) -> Counts:
        release = publications.newest(turn.db)
        phases = Counter(slot.phase for slot in turn.state.own)
        members = Counter(out is None for _, out in all_members(turn.db))
        return Counts(
            slots={phase: phases[phase] for phase in PHASES},
            contributions=dict(Counter(e.state for e in contribution_rows.every(turn.db))),
            standing=members[True],
            revoked=members[False],
            leaves=ledger.head(turn.db).size,
            open_uploads=len(upload_rows.still_open(turn.db)),
            newest_release=0 if release is None else release.n,
            released_s=0 if release is None else release.plan.t,
            plan_open=publications.planned(turn.db) is not None,
            orders=dict(Counter(each.kind for each in orders.open_orders(turn.db, now_s=now_s))),
        )

    return house.board.run(look)
