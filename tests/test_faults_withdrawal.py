"""R2 for the way out: a fault at every file system call of a withdrawal, by a tracer.

The contribution is in no release, so its blob goes in the same call. Each call on the folder fails
once (call_faults.py); the coordinator starts again and the contributor asks again with the same
word. There must be one leaf and one receipt, no blob, and nothing for the store check to find.
"""

from dataclasses import dataclass

import numpy as np
import pytest

from . import strace
from .call_faults import Point, Stage, all_faults, points, run, total
from .forked import Answering, Nursery, founded
from .member import Member

pytestmark = pytest.mark.skipif(bool(strace.missing()), reason=strace.missing() or "-")


@dataclass(frozen=True)
class Leaving(Stage):
    """A stage on which the contribution is in already, at ``leaf``, and is withdrawn."""

    leaf: int = 0

    def act(self, coordinator: Answering, receipts: list[bytes]) -> None:
        """Withdraw twice: what was lost on its way back is asked for again."""
        coordinator.invite = self.invite
        member = Member(coordinator, self.key)
        receipts += [member.withdraw(self.packed.lease, self.leaf) for _ in range(2)]
        coordinator.ask("quiet")


@pytest.fixture(scope="module")
def stage(tmp_path_factory) -> Leaving:
    """Found, join, lease and contribute once."""
    folder = founded(tmp_path_factory.mktemp("leaving"), slots=8, kib=280)
    with Nursery() as nursery, nursery.answer(folder) as coordinator:
        member = Member(coordinator.joining(coordinator.ask("invite")))
        member.join()
        packed = member.pack(member.lease())
        leaf = member.check(member.contribute(packed)).index
        invite, key = member.invite, member.key
        coordinator.ask("quiet")
        coordinator.close()
    return Leaving(folder, invite, key, packed, leaf)


@pytest.fixture(scope="module")
def reached(stage, tmp_path_factory) -> list[Point]:
    """Count the calls once."""
    with Nursery() as nursery:
        return points(nursery, stage, tmp_path_factory.mktemp("counted"))


def test_a_fault_at_some_calls_of_a_withdrawal_loses_nothing(stage, reached, tmp_path, seed):
    """The short form: eight faults drawn from all of them; the blob's own removal is among them.

    Which thread makes which call differs from run to run, so some of them find no call to fail.
    """
    chosen = all_faults(reached)
    drawn = np.random.default_rng(seed).choice(len(chosen), 8, replace=False)
    removal = [(p, f) for p, f in chosen if p.call == "unlink" and "/blobs/" in p.where]

    toll = total(run(stage, tmp_path, [*(chosen[i] for i in drawn), *removal[:2]]))

    assert removal
    assert toll.violations == []
    assert sum(toll.injected.values()) >= 5


@pytest.mark.faults
def test_a_fault_at_every_call_of_a_withdrawal_loses_nothing(stage, reached, tmp_path, figures):
    """Every call that touches the folder, with every fault that it can have."""
    toll = total(run(stage, tmp_path, all_faults(reached)))

    figures.say(
        "R2 a fault at each file system call of a withdrawal",
        calls=len(reached),
        injected=sum(toll.injected.values()),
        not_reached=toll.missed,
        process_ended=toll.ended,
        refused=toll.refused,
        went_on=toll.passed,
        violations=len(toll.violations),
    )
    assert toll.violations == []
