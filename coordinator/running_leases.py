"""The leases that run, with what their clients reported: what ``status`` lists.

Law: one turn, so that slots and leases belong together. ``progress`` and ``total`` are the client's
own word, kept in memory alone and gone after a restart until it renews; nothing is decided by them.
"""

from typing import Any

from . import lease_rows
from .board import Turn
from .house import House

_LEASED = ("leased", "revising")


def running_leases(house: House) -> list[dict[str, Any]]:
    """Return every lease that runs, by slot; ``progress`` None: nothing reported yet."""
    now_s = house.clock.monotonic_s()

    def look(turn: Turn) -> list[dict[str, Any]]:
        return [
            {
                "slot": index,
                "fence": slot.fence,
                "concept": lease_rows.at(turn.db, index, slot.fence).concept,
                "member": slot.member,
                "progress": None if slot.progress < 0 else slot.progress,
                "total": slot.total or None,
                "left_s": max(0, int(slot.deadline_s - now_s)),
            }
            for index, slot in enumerate(turn.state.slots)
            if slot.phase in _LEASED
        ]

    return house.board.run(look)


def lease_line(lease: dict[str, Any]) -> str:
    """Return one of them as a line for a person.

    >>> lease = {"slot": 3, "concept": "anna", "progress": 12, "total": 400, "left_s": 840}
    >>> lease_line(lease)
    'slot 3: anna, step 12 of 400, 14 min left'
    >>> lease_line({**lease, "progress": None, "total": None, "left_s": 0})
    'slot 3: anna, nothing reported yet, overdue'
    """
    progress, total = lease["progress"], lease["total"]
    if progress is None:
        done = "nothing reported yet"
    elif total is None:
        done = f"step {progress:,}"
    else:
        done = f"step {min(progress, total):,} of {total:,}"
    left = f"{lease['left_s'] // 60} min left" if lease["left_s"] else "overdue"
    return f"slot {lease['slot']}: {lease['concept']}, {done}, {left}"
