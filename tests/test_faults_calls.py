"""R2: a fault at every file system call of lease, upload, commit and publish, by a tracer.

Each call fails once: EIO, ENOSPC, EDQUOT, a write that takes nothing, or SIGKILL as the call begins
(call_faults.py). Afterwards the coordinator starts again, the client asks again, and the store
check must find nothing.
"""

import numpy as np
import pytest

from . import strace
from .call_faults import REQUEST, Point, Stage, all_faults, inject, points, run, total
from .forked import Nursery, copied, founded
from .member import Member
from .seeded import Bug

pytestmark = pytest.mark.skipif(bool(strace.missing()), reason=strace.missing() or "-")


@pytest.fixture(scope="module")
def stage(tmp_path_factory) -> Stage:
    """Found and join once; lease and pack on a copy, since the same request gets the same lease."""
    scratch = tmp_path_factory.mktemp("calls")
    folder = founded(scratch, slots=8, kib=280)
    with Nursery() as nursery:
        with nursery.answer(folder) as coordinator:
            member = Member(coordinator.joining(coordinator.ask("invite")))
            member.join()
            coordinator.close()
        with nursery.answer(copied(folder, scratch / "leased")) as coordinator:
            coordinator.invite, member.link = member.invite, coordinator
            packed = member.pack(member.lease(request=REQUEST))
    return Stage(folder, member.invite, member.key, packed)


@pytest.fixture(scope="module")
def reached(stage, tmp_path_factory) -> list[Point]:
    """Count the calls once."""
    with Nursery() as nursery:
        return points(nursery, stage, tmp_path_factory.mktemp("counted"))


def test_a_fault_at_some_calls_loses_nothing(stage, reached, tmp_path, seed):
    """The short form: eight faults drawn from all of them."""
    chosen = all_faults(reached)
    drawn = np.random.default_rng(seed).choice(len(chosen), 8, replace=False)

    toll = total(run(stage, tmp_path, [chosen[i] for i in drawn]))

    assert toll.violations == []
    assert sum(toll.injected.values()) >= 6


def test_what_finds_no_room_is_refused_as_that(stage, reached, tmp_path):
    """F5: ENOSPC for a part's name, for a release's, for the database's log: no-room, and on."""
    made = [p for p in reached if p.makes and p.thread == "MainThread"]
    # The ledger's public files are written behind the answer, and again when there is room.
    names = [p for p in made if "/releases/" in p.where or "/part/" in p.where]
    logs = [p for p in reached if (p.thread, p.call) == ("store", "pwrite64")]
    full = [(point, "error=ENOSPC") for point in (names[0], names[-1], logs[0], logs[-1])]

    toll = total(run(stage, tmp_path, full))

    assert toll.violations == []
    assert toll.refused == 4


@pytest.mark.faults
def test_a_fault_at_every_call_loses_nothing(stage, reached, tmp_path, figures):
    """Every call that touches the folder, with every fault that it can have."""
    toll = total(run(stage, tmp_path, all_faults(reached)))

    figures.say(
        "R2 a fault at each file system call",
        calls=len(reached),
        injected=sum(toll.injected.values()),
        **toll.injected,
        not_reached=toll.missed,
        process_ended=toll.ended,
        refused=toll.refused,
        went_on=toll.passed,
        violations=len(toll.violations),
    )
    assert toll.violations == []
    assert sum(toll.injected.values()) >= 1_500
    assert toll.missed < 15


_BUGS = {
    "fsync-error-swallowed": ("fsync", "error=EIO"),
    "eio-retried": ("fsync", "error=EIO"),
    "temporary-not-removed": ("write", "error=ENOSPC"),
    "full-log-ends-it": ("pwrite64", "error=ENOSPC"),
}


@pytest.mark.parametrize("bug", _BUGS)
def test_the_faults_find_a_seeded_bug(stage, tmp_path, bug):
    """The fault that the bug handles wrongly, at each of its calls until it shows."""
    call, fault = _BUGS[bug]
    with Nursery(Bug.named(bug).environment(tmp_path / "patched")) as nursery:
        found = [point for point in points(nursery, stage, tmp_path) if point.call == call]
        caught: list[str] = []
        for number, point in enumerate(found):
            place = tmp_path / str(number)
            place.mkdir()
            caught = inject(nursery, stage, place, point, fault)[1:]
            if caught:
                break

    assert caught, f"{bug} survived {fault} at {len(found)} calls"
