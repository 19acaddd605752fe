"""A lease looks up the names that may be taken, and reads no others: its cost does not grow."""

import sqlite3
from pathlib import Path

from orthofed.coordinator import name_rows
from orthofed.coordinator.name_rows import Name
from orthofed.core.names import skeleton

from .serving import Running, founded, running

_LETTERS = "abdefghjkmpqtuxy"


def test_a_lease_among_twenty_thousand_names_costs_what_it_costs_among_two_hundred(
    tmp_path: Path,
) -> None:
    """Steps of SQLite's machine, counted: seconds would say more of who else uses the processor."""
    with running(founded(tmp_path)) as coordinator:
        lease_and_count(coordinator, "anna")  # so that all statements are prepared
        add_names(coordinator, range(200))
        few = lease_and_count(coordinator, "rex")
        add_names(coordinator, range(200, 20_000))
        many = lease_and_count(coordinator, "tibby")

    assert few > 0
    assert many < 1.5 * few


def lease_and_count(coordinator: Running, concept: str) -> int:
    """Lease as a fresh member; return how many steps the database took meanwhile."""
    member = coordinator.member()
    num_steps = 0

    def step() -> int:
        nonlocal num_steps
        num_steps += 1
        return 0

    def watch(db: sqlite3.Connection) -> None:
        db.set_progress_handler(step, 1)

    coordinator.house.store.run(watch)
    member.lease(concept, (f"{concept}-k7",))
    coordinator.house.store.run(lambda db: db.set_progress_handler(None, 1))
    return num_steps


def add_names(coordinator: Running, numbers: range) -> None:
    """Write names of others, one concept and one trigger each."""

    def write(db: sqlite3.Connection) -> None:
        for number in numbers:
            word = "".join(_LETTERS[number >> shift & 15] for shift in (0, 4, 8, 12))
            name = Name(f"of-{word}", "somebody", 0, 0)
            name_rows.claim(db, "concept", skeleton(name.name), name)
            name_rows.claim(db, "trigger", skeleton(name.name), name)

    coordinator.house.store.run(write)
