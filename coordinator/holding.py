"""Which of a concept's contributions its slot holds: one at any time (I3).

    the accepted one that came last, else the one that waits and came last, else none

Laws: a corrective contribution takes the earlier one's place in the transaction in which it is
accepted, at its Commit or later, and gives it back when it is put into quarantine or rejected;
until then the earlier one stays in every plan. When none is left, the slot empties. Rows decide and
the slot follows, inside the caller's turn. Not here: what each row says (verdicts.py, removal.py),
who may replace what (enrolment.py).
"""

from . import contribution_rows, lease_rows
from .board import Turn
from .contribution_rows import Contribution
from .slot_events import Keep, Reject

_WAITS = ("pending", "quarantined")


def live(entries: tuple[Contribution, ...]) -> Contribution | None:
    """Return the one of a concept's contributions that its slot holds; give them by leaf."""
    accepted = [entry for entry in entries if entry.state == "accepted"]
    waiting = [entry for entry in entries if entry.state in _WAITS]
    return (accepted or waiting or [None])[-1]


def hold(turn: Turn, first: int) -> None:
    """Let the slot of the concept whose first contribution this is hold what its rows say."""
    entries = contribution_rows.of_concept(turn.db, first)
    found = live(entries)
    slot = entries[0].slot
    if found is None:
        turn.step(Reject(slot, turn.state.slots[slot].kept))
        return
    lease = lease_rows.at(turn.db, slot, found.fence)
    turn.step(Keep(lease.client, slot, found.fence))
