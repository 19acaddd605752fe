"""Writes what admission and the operator say of a contribution: row and ledger leaf together.

Law: whatever changes how a contribution stands is a leaf in the same transaction; one that is
accepted at its Commit needs none (core/standing.py). The sentence stays in the database, for the
contributor; the ledger has the code. Saying the same once more changes nothing. The slot follows in
the same turn (holding.py). Not here: what the numbers mean (judge.py), withdrawals (removal.py).
"""

import json

from ..core.errors import Refused
from ..core.leaf import Verdict, admission_leaf
from ..fleet.journal import tell
from . import contribution_rows
from .board import Turn
from .contribution_rows import Contribution, ContributionState
from .holding import hold
from .house import House

APPROVED = "approved"
"""The figure that says so: what the operator approved is judged no more."""
_STATES: dict[Verdict, ContributionState] = {
    "pending": "pending",
    "accepted": "accepted",
    "quarantined": "quarantined",
    "approved": "accepted",
    "rejected": "rejected",
}


def say(turn: Turn, house: House, leaf: int, verdict: Verdict, *, code: str, why: str) -> None:
    """Write one verdict on a contribution that is there, inside the caller's turn."""
    contribution_rows.set_state(turn.db, leaf, _STATES[verdict], why=why)
    house.ledger.append(turn.db, admission_leaf(leaf=leaf, verdict=verdict, why=code))
    entry = contribution_rows.of_leaf(turn.db, leaf)
    if entry is None:
        raise no_contribution(leaf)
    hold(turn, entry.first)


def approve(house: House, leaf: int) -> ContributionState:
    """Take a contribution into the next release by the operator's word; return its old state.

    Raises Refused: there is none, or it is out for good.
    """

    def write(turn: Turn) -> ContributionState:
        entry = contribution_rows.of_leaf(turn.db, leaf)
        if entry is None:
            raise no_contribution(leaf)
        if entry.state in ("rejected", "withdrawn"):
            raise Refused(
                f"contribution {leaf} is {entry.state}",
                why="it gave up its slot, which may hold another one by now",
                fix="ask its owner to train again",
                code="out-for-good",
            )
        if entry.state == "superseded":
            raise Refused(
                f"contribution {leaf} is superseded",
                why="a later contribution of the concept stands in its place",
                fix="reject that one first, if the earlier one is to come back",
                code="superseded",
            )
        if not is_approved(entry):
            figures = {**json.loads(entry.figures), APPROVED: True}
            contribution_rows.set_figures(turn.db, leaf, json.dumps(figures))
            say(turn, house, leaf, "approved", code="operator", why="")
        return entry.state

    before = house.board.run(write)
    tell("contribution-approved", leaf=leaf)
    house.heads.poke()
    return before


def is_approved(entry: Contribution) -> bool:
    """Return whether the operator has said yes to it."""
    return bool(json.loads(entry.figures).get(APPROVED))


def no_contribution(leaf: int) -> Refused:
    """Return the error for a leaf that is no contribution."""
    return Refused(
        f"leaf {leaf} is no contribution",
        why="the number of a contribution is that of its leaf in the ledger",
        fix="look at orthofed coordinator contributions",
        code="not-found",
    )
