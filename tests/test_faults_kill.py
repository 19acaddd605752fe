"""R1: the coordinator is killed with SIGKILL at random moments while 16 clients upload.

Nothing acknowledged is lost, nothing is merged twice, nothing is in the ledger whose client does
not end up with its receipt; and no start after a kill needs a hand. The coordinator is a real
process on a real port. Four kills of five come 20 to 500 ms after the first answer of a life, when
all clients are in the middle of something, the fifth within 100 ms of its listening.
"""

import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from .forked import Nursery, copied, founded
from .seeded import Bug
from .store_check import Found, check
from .uploaders import Uploaders

_CLIENTS = 16
_SLOTS = 128


@pytest.fixture(scope="module")
def federation(tmp_path_factory) -> tuple[Path, str]:
    """Give a founded folder and an invite to it; a contribution is two chunks."""
    folder = founded(tmp_path_factory.mktemp("kill"), slots=_SLOTS, kib=280)
    with Nursery() as nursery, nursery.answer(folder) as opened:
        invite = opened.ask("invite")
        opened.close()
    return folder, invite


@dataclass
class Toll:
    """What a run of kills came to."""

    folders: int = 0
    kills: int = 0
    uploads: int = 0
    lost: int = 0
    twice: int = 0
    without_receipt: int = 0
    slowest_start_ms: int = 0
    violations: list[str] = field(default_factory=list)

    def take(self, found: Found) -> None:
        """Add what the store check found."""
        self.lost += found.lost
        self.twice += found.twice
        self.without_receipt += found.without_receipt
        self.violations += found.violations


def kill_under_load(
    nursery: Nursery,
    federation: tuple[Path, str],
    scratch: Path,
    *,
    kills: int,
    seed: int,
    uploads: int = 0,
    until_caught: bool = False,
) -> Toll:
    """Kill ``kills`` times or more, until as many folders are full as ``uploads`` take."""
    rng, toll = np.random.default_rng(seed), Toll()
    while (toll.kills < kills or toll.uploads < uploads) and not toll.violations:
        toll.folders += 1
        folder = copied(federation[0], scratch / f"fed-{toll.folders}")
        child = nursery.serve(folder)
        logs = scratch / f"logs-{toll.folders}"
        clients = Uploaders(federation[1], child.address, num=_CLIENTS, logs=logs, seed=seed)
        try:
            while (toll.kills < kills or uploads) and clients.active > _CLIENTS // 2:
                if toll.kills % 5 == 4:
                    time.sleep(rng.uniform(0.0, 0.1))
                else:
                    clients.wait_for_answer()
                    time.sleep(rng.uniform(0.02, 0.5))
                child.end(signal.SIGKILL)
                toll.kills += 1
                if toll.kills % 10 == 0 or until_caught:
                    toll.take(check(folder, clients.acknowledged()))
                    if until_caught and toll.violations:
                        return toll
                started_s = time.monotonic()
                child = nursery.serve(folder, child.address)
                took_ms = int(1000 * (time.monotonic() - started_s))
                toll.slowest_start_ms = max(toll.slowest_start_ms, took_ms)
            clients.finish()
        finally:
            clients.stop()
            code = child.end(signal.SIGTERM)
        receipts = clients.acknowledged()
        found = check(folder, receipts, settled=True)
        toll.take(found)
        toll.uploads += len(receipts)
        toll.violations += [f"a client failed: {fault!r}" for fault in clients.faults]
        if not receipts:
            toll.violations.append("nothing was uploaded at all")
        if code != 0:
            toll.violations.append(f"the coordinator ended with {code}")
        if found.num_contributions != len(set(receipts)):
            toll.without_receipt += found.num_contributions - len(set(receipts))
            toll.violations.append(
                f"{found.num_contributions} in the ledger, {len(set(receipts))} receipts at home"
            )
    return toll


def test_nothing_acknowledged_is_lost_in_a_few_kills(federation, tmp_path, seed):
    """The short form: eight kills on one folder."""
    with Nursery() as nursery:
        toll = kill_under_load(nursery, federation, tmp_path, kills=8, seed=seed)

    assert toll.violations == []
    assert toll.uploads >= 16


@pytest.mark.faults
def test_nothing_acknowledged_is_lost_in_300_kills(federation, tmp_path, seed, figures):
    """300 kills or more, checked at each tenth and at the end of each folder."""
    with Nursery() as nursery:
        toll = kill_under_load(nursery, federation, tmp_path, kills=300, uploads=2_500, seed=seed)

    figures.say(
        "R1 SIGKILL under load",
        kills=toll.kills,
        uploads=toll.uploads,
        lost=toll.lost,
        merged_twice=toll.twice,
        without_receipt=toll.without_receipt,
        slowest_start_ms=toll.slowest_start_ms,
    )
    assert toll.violations == []
    assert toll.kills >= 300
    assert toll.uploads >= 2_500


@pytest.mark.parametrize("bug", ["upload-row-deleted-on-commit", "answer-before-commit"])
def test_the_kills_find_a_seeded_bug(federation, tmp_path, seed, bug):
    """Both bugs break promise 1 or 3; a suite that is content with either proves nothing."""
    environment = Bug.named(bug).environment(tmp_path / "patched")

    with Nursery(environment) as nursery:
        toll = kill_under_load(
            nursery, federation, tmp_path, kills=60, seed=seed, until_caught=True
        )

    assert toll.violations, f"{bug} survived {toll.kills} kills"
