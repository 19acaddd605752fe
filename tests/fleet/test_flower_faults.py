"""What Flower does not survive, done to real processes in the middle of an order (flower.md 9).

After each case the ledger holds one lease and one contribution more, the order is closed by the
latter, and another order reaches the machine. `make fleet` runs these; seconds in the figures.
"""

import signal
import time
from collections.abc import Iterator

import pytest

from ..conftest import Figures
from .fleet_processes import NEEDS_FLOWER, until
from .fleet_stack import FleetStack
from .one_order import NODE_BACK_S, ReadyStacks, came_back, database_now, one_order

pytestmark = [pytest.mark.fleet, NEEDS_FLOWER]


@pytest.fixture(scope="module")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReadyStacks]:
    """Keep one federation running for the whole file."""
    with ReadyStacks(tmp_path_factory.mktemp("fleet")) as stacks:
        yield stacks


@pytest.fixture
def fleet(stacks: ReadyStacks, request: pytest.FixtureRequest) -> Iterator[FleetStack]:
    """Give a federation whose member has withdrawn its concept, so that it can be ordered."""
    with stacks.lent_to(request.node) as stack:
        yield stack


def test_f4_superlink_is_killed_for_a_moment(fleet: FleetStack, figures: Figures) -> None:
    """SIGKILL: started again on its database; the run goes on, and no second one is begun."""
    runs = fleet.operator.count("start-run")
    with one_order(fleet):
        fleet.operator.send(signal.SIGKILL, "superlink")

        took_s = fleet.operator.until_it_turns(seconds=120)
        figures.say("F4", superlink_killed_turns_again_s=round(took_s, 1))

    assert fleet.operator.count("start-run") - runs <= 1


def test_f4_superlink_is_away_for_85_s(fleet: FleetStack, figures: Figures) -> None:
    """Longer than a run lives without it: exactly one new run, and the order is carried out."""
    runs = fleet.operator.count("start-run")
    with one_order(fleet):
        pid = fleet.operator.pid
        fleet.operator.send(signal.SIGKILL, "superlink")
        fleet.operator.pause()
        time.sleep(85)
        fleet.operator.go_on()

        took_s = fleet.operator.until_it_turns(seconds=180)
        figures.say("F4", superlink_85_s_away_turns_again_s=round(took_s, 1))
        assert fleet.operator.pid == pid

    assert fleet.operator.count("start-run") - runs == 1


def test_f5_supernode_and_superexec_are_killed(fleet: FleetStack, figures: Figures) -> None:
    """The training goes on and lands by itself; the node is back within 120 s."""
    with one_order(fleet) as (order, _):
        fleet.courier.send(signal.SIGKILL, "supernode", "superexec")
        begin_s, since = time.monotonic(), database_now()

        fleet.until_closed(order, seconds=110)
        closed_s = time.monotonic() - begin_s
        until(lambda: came_back(fleet, since), "the node is back", seconds=120 - closed_s)
        figures.say(
            "F5", closed_s=round(closed_s, 1), node_back_s=round(time.monotonic() - begin_s, 1)
        )


def test_f7_superlink_hangs_for_85_s(fleet: FleetStack, figures: Figures) -> None:
    """SIGSTOP, and a supervisor that cannot help either; then it replaces what does not answer."""
    with one_order(fleet) as (order, _):
        fleet.operator.send(signal.SIGSTOP, "superlink")
        fleet.operator.pause()
        time.sleep(85)
        fleet.operator.send(signal.SIGCONT, "superlink")
        fleet.operator.go_on()

        fleet.until_closed(order, seconds=120)
        took_s = fleet.operator.until_it_turns(seconds=180)
        figures.say("F7", after_85_s_hung_turns_again_s=round(took_s, 1))


def test_a_superlink_that_hangs_is_replaced(fleet: FleetStack, figures: Figures) -> None:
    """Unanswered three times: killed and started, without anybody's help."""
    with one_order(fleet):
        pid = fleet.operator.child("superlink")
        fleet.operator.send(signal.SIGSTOP, "superlink")

        took_s = until(
            lambda: fleet.operator.child("superlink") not in (0, pid), "another", seconds=90
        )
        figures.say("hung SuperLink", replaced_s=round(took_s, 1))
        fleet.operator.until_it_turns(seconds=180)


def test_f14_the_database_is_deleted_while_nodes_work(fleet: FleetStack, figures: Figures) -> None:
    """Its supervisor sees it: another SuperLink, another run, the node registered by itself.

    An empty one stands in its place, as SuperLink makes it with its next connection.
    """
    with one_order(fleet):
        registered = fleet.operator.count("tell-registered")
        for name in ("link.db", "link.db-wal", "link.db-shm"):
            (fleet.operator.folder / name).unlink(missing_ok=True)
        (fleet.operator.folder / "link.db").touch()
        begin_s, since = time.monotonic(), database_now()

        until(
            lambda: fleet.operator.count("tell-registered") > registered,
            "registered again",
            seconds=150,
            log=fleet.operator.log,
        )
        until(lambda: came_back(fleet, since), "the node is back", seconds=NODE_BACK_S)
        figures.say("F14", node_back_s=round(time.monotonic() - begin_s, 1))
