"""One order that trains while something happens to Flower, and what has to be so afterwards."""

import datetime as dt
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Self

import pytest

from ..owner_daemon import OwnerDaemon
from .conftest import FAILED
from .fleet_stack import CONCEPT, FleetStack, fleet_stack

STEPS = 120
"""Enough for a training of about 20 s on two shared cores."""
NODE_BACK_S = 480.0
"""By then a node that fell silent is back (L8): its supervisor is patient for 120 s, twice as long
if that did not help, asks the daemon each 30 s, that the coordinator each 60 s, and pauses 65 s."""
BRIDGE_BACK_S = 420.0
"""By then another bridge turns: the supervisor is patient for 60 s, pauses for as long, gives five
`flwr` commands 40 s each and the new bridge 90; it takes 70 s on two cores of its own."""


class ReadyStacks:
    """One federation for test after test, and another one where a test left it in a bad state."""

    def __init__(self, place: Path) -> None:
        """Make what is needed in ``place``; nothing is started before it is asked for."""
        self._place, self._number = place, 0
        self._running = ExitStack()
        self._stack: FleetStack | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    @contextmanager
    def lent_to(self, test: pytest.Item) -> Iterator[FleetStack]:
        """Give a federation whose member's concept can be ordered; end it if the test fails."""
        if self._stack is None:
            self._number += 1
            place = self._place / str(self._number)
            self._stack = self._running.enter_context(_ready_stack(place))
        yield self._stack
        if test.stash.get(FAILED, False):
            self._stack = None
            self._running.close()


@contextmanager
def _ready_stack(place: Path) -> Iterator[FleetStack]:
    """Give one federation whose member has withdrawn its concept, so that it can be ordered."""
    place.mkdir(parents=True)
    with fleet_stack(place) as stack:
        stack.operator.until_it_turns()
        with stack.daemon() as daemon:
            daemon.until_done()
            stack.until_closed(stack.order("withdraw", CONCEPT), seconds=200)
        yield stack


@contextmanager
def one_order(
    fleet: FleetStack, *, others: int = 0, steps: int = STEPS
) -> Iterator[tuple[str, OwnerDaemon]]:
    """Give an order that trains now; afterwards: 1 lease, 1 contribution, closed, and not deaf.

    ``others``: so many orders of other members come to their end meanwhile.
    """
    before = fleet.leaves()
    with fleet.daemon(steps=steps) as daemon:
        order = fleet.order("train", CONCEPT)
        daemon.until(lambda status: status["running"], seconds=120)

        yield order, daemon

        fleet.until_closed(order, seconds=180)
        after = fleet.leaves()
        assert after["lease"] - before["lease"] == 1 + others
        assert after["contribution"] - before["contribution"] == 1 + others
        fleet.until_flower_carries(seconds=NODE_BACK_S)
        fleet.until_closed(fleet.order("withdraw", CONCEPT), seconds=180)


def came_back(fleet: FleetStack, since: str) -> bool:
    """Tell whether SuperLink let a node in after ``since``, by its own database."""
    file = fleet.operator.folder / "link.db"
    if not file.is_file():
        return False
    query = "SELECT count(*) FROM node WHERE status = 'online' AND last_activated_at > ?"
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=5)) as database:
            (alive,) = database.execute(query, (since,)).fetchone()
    except sqlite3.OperationalError:
        return False
    return bool(alive)


def database_now() -> str:
    """Return the time as that database writes it."""
    return dt.datetime.now(dt.UTC).isoformat()
