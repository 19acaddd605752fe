"""The rows of slots and seats as values, which memory mirrors (board.py).

Laws: each function runs inside a transaction that its caller began and that COMMITs as a whole; a
row is written only over the one that memory thinks is there (I1). Not here: when a slot may change
(leases.py).
"""

import sqlite3

from .slots import Phase, Slot


def make(db: sqlite3.Connection, num: int) -> None:
    """Write ``num`` free slots."""
    db.executemany(
        "INSERT INTO slot VALUES (?, 'free', 0, '', '', 0, 0, -1)", ((i,) for i in range(num))
    )


def add_seat(db: sqlite3.Connection, index: int, seat: Slot) -> None:
    """Write a seat that was not there."""
    db.execute(
        "INSERT INTO slot VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(index, seat.phase, seat.fence, seat.client, seat.member, seat.held_s),
            *(seat.kept, seat.home),
        ),
    )


def every(db: sqlite3.Connection) -> tuple[Slot, ...]:
    """Return all slots as they were saved; deadlines are not among it."""
    rows = db.execute(
        "SELECT s.state, s.fence, s.client, s.member, s.held_s, s.kept, coalesce(l.client, ''),"
        " s.home"
        " FROM slot s LEFT JOIN lease l ON l.slot = s.id AND l.fence = s.kept ORDER BY s.id"
    )
    return tuple(_slot(*row) for row in rows)


def _slot(  # a row
    phase: Phase, fence: int, client: str, member: str, held_s: int, kept: int, keeper: str,
    home: int,
) -> Slot:  # fmt: skip
    return Slot(phase, fence, client, member, held_s, kept=kept, keeper=keeper, home=home)


def save(db: sqlite3.Connection, index: int, slot: Slot, *, before: Slot) -> None:
    """Write one slot; the row must still be what memory thinks (I1 holds in the database too)."""
    changed = db.execute(
        "UPDATE slot SET state = ?, fence = ?, client = ?, member = ?, held_s = ?, kept = ?,"
        " home = ?"
        " WHERE id = ? AND state = ? AND fence = ? AND client = ? AND kept = ?",
        (
            *(slot.phase, slot.fence, slot.client, slot.member, slot.held_s, slot.kept, slot.home),
            *(index, before.phase, before.fence, before.client, before.kept),
        ),
    ).rowcount
    if changed != 1:
        raise AssertionError(f"slot {index} in memory is not the one in the database")
