"""Rounds of a shared concept through Flower's strategy, over a real SuperLink and two real nodes.

Two owners' daemons teach one concept, the operator orders a round, Flower carries the orders, the
ledger holds each new contribution once and the next release is their average, by the number of
their images. `make fleet` runs these. Interleavings of answers: tests/test_flower_rounds.py.
"""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orthofed.client.shared_start import average_of
from orthofed.client.state import BLOB, MANIFEST
from orthofed.client.state import load as load_state
from orthofed.client.verify import verify_folder
from orthofed.core.contribution import ContributionManifest
from orthofed.core.document import parse
from orthofed.core.layout import ContributionLayout, unpack
from orthofed.core.quantise import dequantise
from orthofed.core.spec import FederationSpec

from ..conftest import Figures
from ..coordinator_process import run
from ..owner_daemon import client
from .fleet_processes import NEEDS_FLOWER, until
from .fleet_stack import CONCEPT, FleetStack, fleet_stack, second_owner

pytestmark = [pytest.mark.fleet, NEEDS_FLOWER]


@dataclass(frozen=True)
class Owners:
    """Two owners of one concept, both in the newest release."""

    ana: FleetStack
    ben: FleetStack

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Run both daemons."""
        share = f'share = "{self.ben.place / "share.txt"}"'
        first = self.ana.daemon(extra="shared = true")
        with first, self.ben.daemon(extra=share):
            yield

    def release(self) -> int:
        """Make a release; return its number."""
        folder = str(self.ana.federation.folder)
        said = run("coordinator", "release", folder, "--json").stdout
        return int(json.loads(said.splitlines()[-1])["n"])

    def until_closed(self, orders: list[str]) -> None:
        """Wait until the ledger has closed both orders."""
        for order in orders:
            self.ana.until_closed(order, seconds=240)


@pytest.fixture(scope="module")
def owners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owners]:
    """Give two owners, of 6 and of 9 images, whose parts are in release 1."""
    with (
        fleet_stack(tmp_path_factory.mktemp("shared")) as ana,
        second_owner(ana, images=9) as ben,
    ):
        ana.operator.until_it_turns()
        with ana.daemon(extra="shared = true") as daemon:
            daemon.until_done()
        share = client(ana.home, "share", CONCEPT, "--most-images", "20").stdout
        (ben.place / "share.txt").write_text(share)
        with ben.daemon(extra=f'share = "{ben.place / "share.txt"}"') as daemon:
            daemon.until_done()
        both = Owners(ana, ben)
        assert both.release() == 1
        yield both


def test_a_round_goes_through_the_strategy_and_ends_with_the_owners_average(
    owners: Owners, figures: Figures, tmp_path: Path
) -> None:
    """One order to each, told by Flower; one contribution more of each; their average released.

    While the round waits for its release, another order reaches a machine.
    """
    ana, ben = owners.ana, owners.ben
    before, couriers = ana.leaves(), [each.courier.couriers() for each in (ana, ben)]
    sent = [each.line.up_bytes for each in (ana, ben)]

    with owners.at_work():
        orders = ana.round(CONCEPT)
        until(lambda: _told(ana, "SharedRounds"), f"a round\n{ana.told()}", seconds=60)
        for each, was in zip((ana, ben), couriers, strict=True):
            until(
                lambda each=each, was=was: each.courier.couriers() > was,
                f"a courier of each\n{each.told()}",
                seconds=90,
            )
        owners.until_closed(orders)
        assert not _told(ana, "'release': 2"), "the round waits for its release"
        carried_s = ana.until_flower_carries(seconds=90)
        n = owners.release()
        ended = "'release': 2, 'parts': 2, 'fresh': 0, 'open': 0"
        until(lambda: _told(ana, ended), f"the round's end\n{ana.told()}", seconds=60)

    after = ana.leaves()
    bytes_up = max(each.line.up_bytes - was for each, was in zip((ana, ben), sent, strict=True))
    figures.say("round", other_order_carried_s=round(carried_s, 1), kb_up=bytes_up // 1000)
    assert n == 2
    assert len(orders) == 2
    assert after["lease"] - before["lease"] == 2
    assert after["contribution"] - before["contribution"] == 2
    _the_release_is_their_average(owners, tmp_path)


def test_a_bridge_that_is_killed_in_a_round_changes_no_part(
    owners: Owners, figures: Figures
) -> None:
    """SIGKILL once the strategy has begun: another bridge turns, each part comes once."""
    ana = owners.ana
    before = ana.leaves()
    rounds = _count(ana, "SharedRounds")

    with owners.at_work():
        orders = ana.round(CONCEPT)
        until(lambda: _count(ana, "SharedRounds") > rounds, "a round", seconds=60)
        bridge = ana.operator.bridge()
        os.kill(bridge, signal.SIGKILL)
        owners.until_closed(orders)
        until(lambda: ana.operator.bridge() not in (0, bridge), "another bridge", seconds=180)
        turns_s = ana.operator.until_it_turns(seconds=120)
        release = owners.release()

    after = ana.leaves()
    figures.say("round, bridge killed", turns_again_s=round(turns_s, 1))
    assert release >= 2
    assert after["lease"] - before["lease"] == 2
    assert after["contribution"] - before["contribution"] == 2


def test_f1_two_nodes_are_told_to_score_and_to_withdraw(owners: Owners, figures: Figures) -> None:
    """Each order reaches its own member's machine; the next release is without what was taken out.

    No figure goes through Flower: both orders together sent less than 64 KiB from either machine.
    """
    ana, ben = owners.ana, owners.ben
    before, n = ana.leaves(), owners.release()
    couriers = [each.courier.couriers() for each in (ana, ben)]
    sent = [each.line.up_bytes for each in (ana, ben)]

    with owners.at_work():
        scored = ana.order("score", CONCEPT)
        out = ben.order("withdraw", CONCEPT)
        owners.until_closed([scored, out])
        for each, was in zip((ana, ben), couriers, strict=True):
            until(
                lambda each=each, was=was: each.courier.couriers() > was,
                f"a courier of each\n{each.told()}",
                seconds=90,
            )
        bytes_up = [each.line.up_bytes - was for each, was in zip((ana, ben), sent, strict=True)]

    figures.say("F1", two_nodes_kb_up=max(bytes_up) // 1000)
    folder = ana.federation.folder
    shown = json.loads(run("coordinator", "retention", str(folder), "--json").stdout)
    assert [each["measured"] is not None for each in shown["concepts"]].count(True) == 1
    assert ana.leaves()["withdrawal"] - before["withdrawal"] == 1
    assert max(bytes_up) < 64 << 10
    assert owners.release() == n + 1
    info = folder / "public" / "releases" / str(n + 1) / "info.json"
    (concept,) = json.loads(info.read_text())["concepts"]
    assert "owners" not in concept, "one owner is left"


def _told(fleet: FleetStack, words: str) -> bool:
    return _count(fleet, words) > 0


def _count(fleet: FleetStack, words: str) -> int:
    return fleet.operator.log().count(words)


def _the_release_is_their_average(owners: Owners, folder: Path) -> None:
    """Pull it, derive every byte of it anew, and compare with the mean of what was sent."""
    fed, place = owners.ana.federation, folder / "pulled"
    reader = ("--home", str(folder / "reader"))
    run("pull", fed.link(), "-o", str(place), "--contributions", *reader)
    run("verify", str(place), "--rebuild", "--base", str(owners.ana.place / "base"))
    (concept,) = json.loads((place / "info.json").read_text())["concepts"]
    spec = verify_folder(place).release.federation.spec
    parts = [_part(each, spec) for each in (owners.ana, owners.ben)]
    counts = [count for count, _ in parts]
    assert counts[0] != counts[1]
    assert sorted(each["images"] for each in concept["owners"]) == sorted(counts)
    session = load_state(owners.ana.home.run(CONCEPT))
    assert session is not None
    found = average_of(place, spec, CONCEPT, session.slot)
    for layer in spec.layers:
        both = [sent[f"a.{layer.path}"] for _, sent in parts]
        mean = sum(n * a for n, a in zip(counts, both, strict=True)) / sum(counts)
        most = np.abs(mean).max()
        # Weights are 1/1024ths, the LoRA of a release has 16 bits.
        assert np.abs(found.residuals[layer.path].up - mean).max() <= 2.0**-8 * most
        assert np.abs(both[0] - both[1]).max() > 2.0**-6 * most, "two parts, not one"


def _part(owner: FleetStack, spec: FederationSpec) -> tuple[int, dict[str, Any]]:
    """Return how many images an owner's newest part says it is made of, and its A by layer."""
    run_of = owner.home.run(CONCEPT)
    session = load_state(run_of)
    assert session is not None
    signed = parse((run_of / MANIFEST).read_bytes(), kind="contribution")
    manifest = ContributionManifest.from_document(signed)
    assert manifest.replaces is not None, "a round goes on from what was there"
    found = unpack(ContributionLayout(spec, session.vectors), (run_of / BLOB).read_bytes())
    return manifest.count, {name: dequantise(each) for name, each in found.items()}
