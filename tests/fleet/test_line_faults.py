"""What the line, the node and the bridge may do to an order, with real processes (flower.md 9).

The line between node and SuperLink is cut and slowed down, the node hangs, the bridge is killed, an
order comes many times: the ledger holds one lease and one contribution more, and the order is
closed by the latter. `make fleet` runs these; seconds in the figures.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ..conftest import Figures
from .fleet_processes import NEEDS_FLOWER, until
from .fleet_stack import CONCEPT, FleetStack, second_owner
from .one_order import BRIDGE_BACK_S, NODE_BACK_S, STEPS, ReadyStacks, one_order

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


@pytest.mark.parametrize("seconds", [4, 60])
def test_f2_the_line_is_cut_during_the_answer(
    fleet: FleetStack, figures: Figures, seconds: int
) -> None:
    """The courier has the daemon's word and cannot give it: the order is closed all the same."""
    couriers = fleet.courier.couriers()
    with one_order(fleet) as (order, _):
        until(lambda: fleet.courier.couriers() > couriers, "a courier", seconds=60)
        fleet.line.cut()
        begin_s = time.monotonic()
        time.sleep(seconds)
        fleet.line.mend()

        fleet.until_closed(order, seconds=180)
        figures.say(f"F2 cut for {seconds} s", closed_s=round(time.monotonic() - begin_s, 1))


def test_f3_the_node_is_cut_off_for_85_s_while_it_trains(
    fleet: FleetStack, figures: Figures
) -> None:
    """Longer than SuperLink believes in a node: no second lease, and orders reach it again."""
    with one_order(fleet) as (order, _):
        fleet.line.cut()
        begin_s = time.monotonic()
        fleet.until_closed(order, seconds=85)
        closed_s = time.monotonic() - begin_s
        time.sleep(85 - closed_s)
        fleet.line.mend()

        took_s = fleet.until_flower_carries(seconds=NODE_BACK_S)
        figures.say("F3", closed_s=round(closed_s, 1), carries_again_s=round(took_s, 1))


def test_an_order_that_flower_never_delivers_is_carried_out_once(
    fleet: FleetStack, figures: Figures
) -> None:
    """Given while the line is cut, until the ledger has closed it: the daemon asks by itself."""
    couriers = fleet.courier.couriers()
    fleet.line.cut()
    with one_order(fleet) as (order, _):
        begin_s = time.monotonic()
        fleet.until_closed(order, seconds=180)
        assert fleet.courier.couriers() == couriers, "Flower delivered it"
        fleet.line.mend()
        figures.say("never delivered", closed_s=round(time.monotonic() - begin_s, 1))


def test_an_order_that_flower_delivers_twice_is_carried_out_once(
    fleet: FleetStack, figures: Figures
) -> None:
    """The coordinator is killed in mid-training and has forgotten whom it told: it tells again."""
    couriers = fleet.courier.couriers()
    with one_order(fleet, steps=6 * STEPS) as (order, daemon):
        until(lambda: fleet.courier.couriers() > couriers, "a courier", seconds=120)
        fleet.federation.kill()
        fleet.federation.start()

        told_s = until(
            lambda: fleet.courier.couriers() > couriers + 1,
            f"the same order, by Flower\n{fleet.told()}",
            seconds=120,
        )
        assert (daemon.status() or {}).get("running"), "it was trained before it came again"
        assert fleet.found(order)["state"] == "open"
        figures.say("delivered twice", told_again_s=round(told_s, 1))
        fleet.until_closed(order, seconds=300)


def test_f6_the_node_hangs_for_70_s(fleet: FleetStack, figures: Figures) -> None:
    """SIGSTOP and SIGCONT, and a supervisor that does not help: the daemon never waited for it."""
    with one_order(fleet) as (order, _):
        fleet.courier.send(signal.SIGSTOP, "supernode")
        fleet.courier.pause()
        begin_s = time.monotonic()
        fleet.until_closed(order, seconds=70)
        closed_s = time.monotonic() - begin_s
        time.sleep(70 - closed_s)
        fleet.courier.send(signal.SIGCONT, "supernode")
        fleet.courier.go_on()

        took_s = fleet.until_flower_carries(seconds=NODE_BACK_S)
        figures.say("F6", closed_s=round(closed_s, 1), carries_again_s=round(took_s, 1))


def test_f8_a_node_at_100_bytes_a_second_holds_up_nobody_else(
    fleet: FleetStack, figures: Figures
) -> None:
    """Another member's order is closed while the slow one's answer creeps."""
    with second_owner(fleet) as second, second.daemon(concept="bear-c3") as other:
        other.until_done()
        second.until_closed(second.order("withdraw", "bear-c3"), seconds=200)
        with one_order(fleet, others=1):
            fleet.line.slow(100.0)
            took_s = second.until_closed(second.order("train", "bear-c3"), seconds=240)
            fleet.line.slow(None)
            figures.say("F8", others_order_closed_s=round(took_s, 1))


def test_f9_the_bridge_is_killed_between_an_order_and_its_answer(
    fleet: FleetStack, figures: Figures
) -> None:
    """It kept nothing that matters: the contribution closes the order, another run turns."""
    with one_order(fleet) as (order, _):
        bridge = fleet.operator.bridge()
        assert bridge, fleet.operator.log()
        os.kill(bridge, signal.SIGKILL)
        begin_s = time.monotonic()

        until(
            lambda: fleet.operator.bridge() not in (0, bridge),
            "another bridge",
            seconds=BRIDGE_BACK_S,
            log=fleet.told,
        )
        fleet.operator.until_it_turns(seconds=120)
        turns_s = time.monotonic() - begin_s
        fleet.until_closed(order, seconds=180)
        figures.say("F9", another_bridge_turns_s=round(turns_s, 1))


def test_f10_the_same_order_many_times(fleet: FleetStack, figures: Figures) -> None:
    """In mid-training, two at once, after a restart of the daemon, after its end: it works once."""
    listed = fleet.home.membership()
    with one_order(fleet) as (order, daemon):
        line = {"v": 1, "order": order, "kind": "train", "fed": listed.fed, "log": listed.log}
        line |= {"concept": CONCEPT, "release": 0}
        states = [fleet.ask_daemon(line)["state"] for _ in range(6)]
        states += _at_once(fleet, line)
        daemon.send(signal.SIGKILL)
        daemon.ended()
        daemon.start()
        states += [fleet.ask_daemon(line)["state"] for _ in range(3)]
        fleet.until_closed(order, seconds=180)
        # The ledger closes it first; the daemon then verifies and keeps the receipt.
        until(
            lambda: fleet.ask_daemon(line)["state"] in ("done", "refused"),
            "the daemon says that it is over",
            seconds=60,
        )

    figures.say("F10", told=len(states) + 1)
    assert "done" not in states[:6]
    assert set(states) <= {"queued", "running", "waiting", "done", "refused"}


def _at_once(fleet: FleetStack, line: dict[str, Any]) -> list[str]:
    """Give the same order in two threads; return the two states."""
    states: list[str] = []
    threads = [
        threading.Thread(target=lambda: states.append(fleet.ask_daemon(line)["state"]))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return states
