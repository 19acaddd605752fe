"""One federation with real Flower processes and one data owner, for the tests of tests/fleet.

What the store holds is asked of the coordinator's own commands, as an operator would.
"""

import json
import socket
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orthofed.client.home import Home
from orthofed.client.join import join
from orthofed.client.masters import Masters

from ..coordinator_process import Coordinator, run
from ..owner_daemon import TRAINING, OwnerDaemon, queue
from ..tiny_base import tiny_base
from ..tiny_concept import write_images
from .fleet_processes import Courier, Operator, until
from .line import Line

CONCEPT = "wolf-a1"


@dataclass(frozen=True)
class FleetStack:
    """What runs, and what is asked of it."""

    place: Path
    federation: Coordinator
    operator: Operator
    courier: Courier
    home: Home
    line: Line
    """What the node reaches SuperLink through."""

    def daemon(self, *, steps: int = 4, concept: str = CONCEPT, extra: str = "") -> OwnerDaemon:
        """Return the owner's daemon, not started; more steps take longer.

        ``extra``: more lines of the concept's table.
        """
        text = TRAINING.replace("steps = 4", f"steps = {steps}", 1)
        (self.place / "quick.toml").write_text(text)
        return OwnerDaemon(self.home, queue(self.place, concept, extra=extra, withdraw="policy"))

    def order(self, kind: str, concept: str) -> str:
        """Order something of this stack's member; return the order's id."""
        member = Masters(self.home).newest().member(self.home.membership().log).public_hex
        words = (kind, "--member", member, "--concept", concept)
        return str(self._json("order", *words)["id"])

    def round(self, concept: str) -> list[str]:
        """Order a round of a shared concept; return the orders' ids."""
        return [str(each["id"]) for each in self._json("round", "--concept", concept)["orders"]]

    def found(self, order: str) -> dict[str, Any]:
        """Return an order as the operator sees it."""
        return next(each for each in self._json("orders")["orders"] if each["id"] == order)

    def until_closed(self, order: str, *, seconds: float) -> float:
        """Wait until the ledger has closed an order; return how long it took."""

        def closed() -> bool:
            return self.found(order)["state"] == "done"

        return until(closed, f"order {order} is closed\n{self.told()}", seconds=seconds)

    def until_flower_carries(self, *, seconds: float) -> float:
        """Wait until an order that no daemon can close reaches the machine; take it back."""
        couriers = self.courier.couriers()
        order = self.order("train", "bear-b2")
        took_s = until(
            lambda: self.courier.couriers() > couriers,
            f"a courier\n{self.told()}",
            seconds=seconds,
        )
        self._json("cancel-order", order)
        return took_s

    def contributions(self) -> list[dict[str, Any]]:
        """Return the contributions that the operator sees."""
        return list(self._json("contributions")["contributions"])

    def leaves(self) -> Counter[str]:
        """Return how many leaves of each kind the ledger holds."""
        return Counter(each["kind"] for each in self._ledger())

    def head(self) -> tuple[int, str]:
        """Return the ledger's size and root."""
        shown = run("ledger", "show", str(self.home.folder), "--json").stdout
        said = json.loads(shown)
        return said["size"], said["root"]

    def ask_daemon(self, order: Mapping[str, object]) -> dict[str, Any]:
        """Ask on orders.sock as a courier does, no more than once a second."""
        time.sleep(1.05)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(self.home.folder / "orders.sock"))
            connection.sendall(json.dumps(order).encode() + b"\n")
            with connection.makefile("rb") as answer:
                return dict(json.loads(answer.readline()))

    def _ledger(self) -> list[dict[str, Any]]:
        shown = run(
            "ledger", "show", str(self.home.folder), "--from", "0", "--count", "100000", "--json"
        ).stdout
        return list(json.loads(shown)["leaves"])

    def told(self) -> str:
        """Return what both supervisors said."""
        return f"{self.operator.log()}\n{self.courier.log()}"

    def _json(self, *words: str) -> dict[str, Any]:
        verb, *rest = words
        done = run("coordinator", verb, str(self.federation.folder), *rest, "--json")
        return dict(json.loads(done.stdout))


@contextmanager
def fleet_stack(place: Path) -> Iterator[FleetStack]:
    """Start coordinator and both supervisors, and name the node to the coordinator."""
    tiny_base(place / "base")
    write_images(place / "images", 6)
    with Coordinator.found(place / "fed", place / "base", "--rank", "1") as federation:
        home = Home.at(place / "home")
        join(home, federation.invite(), url=None, patience_s=20)
        with Operator(place / "link", bridge=place / "fed" / "data" / "bridge.sock") as operator:
            until(operator.roots.exists, "an authority", seconds=30)
            with _node(place, operator, home) as (courier, line):
                yield FleetStack(place, federation, operator, courier, home, line)


@contextmanager
def second_owner(fleet: FleetStack, *, images: int = 6) -> Iterator[FleetStack]:
    """Let another member with a node of its own join; give the same federation as it has it."""
    place = fleet.place / "second"
    place.mkdir()
    (place / "base").symlink_to(fleet.place / "base")
    write_images(place / "images", images)
    home = Home.at(place / "home")
    join(home, fleet.federation.invite(), url=None, patience_s=20)
    with _node(place, fleet.operator, home) as (courier, line):
        yield replace(fleet, place=place, courier=courier, home=home, line=line)


@contextmanager
def _node(place: Path, operator: Operator, home: Home) -> Iterator[tuple[Courier, Line]]:
    """Start a member's node behind a line of its own, and name it to the coordinator."""
    orders, folder = home.folder / "orders.sock", place / "courier"
    with (
        Line(operator.superlink) as line,
        Courier(folder, operator, superlink=line.address, orders=orders) as courier,
    ):
        until(courier.public_key.exists, "a node key", seconds=30)
        run("client", "fleet-key", str(courier.public_key), "--home", str(home.folder))
        yield courier, line
