"""R14: a coordinator with years of ledger answers within 2 s of its start, however it ended.

Nothing at a start is proportional to stored bytes: blobs are listed, never read. Restarts under
load are invisible to the client's own stack, whose tries go on; and a live lease has one full
term from each start, no less and no more.
"""

import signal
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from orthofed.core.errors import Refused
from orthofed.core.invite import Invite
from orthofed.core.spec import Limits
from orthofed.proto import methods, wire

from .cut_owners import Owners, Toll
from .cutting_proxy import Fate
from .forked import Nursery, copied, founded
from .grown import grow
from .member import Leased, Member, Wire
from .running import Coordinator
from .seeded import Bug
from .store_check import check
from .uploaders import Hasty

_MIB = 1 << 20
_START_S = 2.0
_TTL_S = 5
_SLOTS = 32


def aged(folder: Path, *, slots: int, num_leaves: int, num_blobs: int, blob_bytes: int):
    """Give a folder of this size, and an invite to it."""
    made = founded(folder, slots=slots, kib=4)
    with Nursery() as nursery, nursery.answer(made) as opened:
        invite = opened.ask("invite")
        opened.close()
    grow(made, num_leaves=num_leaves, num_blobs=num_blobs, blob_bytes=blob_bytes)
    return made, Invite.from_text(invite)


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """Give 2,000 leaves and 3 GiB in 96 blobs: more than any machine hashes in two seconds."""
    return aged(
        tmp_path_factory.mktemp("old"),
        slots=128,
        num_leaves=2_000,
        num_blobs=96,
        blob_bytes=32 * _MIB,
    )


@dataclass(frozen=True)
class Start:
    """Seconds from the start of a process to its first answer: on the wall, and of the processor.

    The processor's do not depend on what else this machine does.
    """

    wall_s: float
    cpu_s: float


def first_answers(old: tuple[Path, Invite], *, num: int) -> list[Start]:
    """Start ``num`` times, after stops and kills."""
    folder, invite = old
    starts: list[Start] = []
    coordinator = Coordinator(folder)
    for n in range(num):
        started_s = time.monotonic()
        coordinator.start()
        link = Wire(invite, address=coordinator.listen)
        link.call(methods.GET_SPEC, wire.SpecRequest(), wire.SpecReply)
        wall_s = time.monotonic() - started_s
        assert coordinator.process is not None
        used = psutil.Process(coordinator.process.pid).cpu_times()
        starts.append(Start(wall_s, used.user + used.system))
        link.close()
        if n % 2:
            assert coordinator.stop() == 0
        else:
            coordinator.kill()
    coordinator.kill()
    return starts


def test_an_old_coordinator_answers_soon_after_its_start(old):
    """The short form: one start, and one after a kill."""
    starts = first_answers(old, num=2)

    assert max(each.cpu_s for each in starts) <= _START_S


@pytest.mark.faults
def test_100_000_leaves_and_10_000_blobs_are_answered_for_within_2_s(tmp_path, figures):
    """R14's figure; 10 GiB in blobs."""
    very_old = aged(tmp_path, slots=10_240, num_leaves=100_000, num_blobs=10_000, blob_bytes=_MIB)
    starts = first_answers(very_old, num=10)

    figures.say(
        "R14 start with 100,000 leaves and 10,000 blobs, to the first answer",
        starts=len(starts),
        fastest_s=f"{min(each.wall_s for each in starts):.2f}",
        slowest_s=f"{max(each.wall_s for each in starts):.2f}",
        slowest_cpu_s=f"{max(each.cpu_s for each in starts):.2f}",
    )
    assert max(each.wall_s for each in starts) <= _START_S


def test_the_starts_find_blobs_that_are_hashed(old, tmp_path, monkeypatch):
    """A start that reads all blobs takes as long as they are many."""
    bug = Bug.named("start-hashes-blobs")
    monkeypatch.setenv("PYTHONPATH", bug.environment(tmp_path / "patched")["PYTHONPATH"])

    assert first_answers(old, num=1)[0].cpu_s > _START_S


def restart_under_load(federation: tuple[Path, str], scratch: Path, *, restarts: int, seed: int):
    """Stop and start under uploads of the client's own stack, over as many folders as it takes."""
    toll, slowest_s = Toll(), 0.0
    with Nursery() as nursery:
        while toll.crashes < restarts and not toll.violations:
            n = toll.crashes
            folder = copied(federation[0], scratch / f"fed-{n}")
            child = nursery.serve(folder)
            owners = Owners(
                *(folder, federation[1], child.address, toll),
                num=8,
                draw=lambda draw: Fate("up", draw.randrange(1 << 20), "stall"),
                enough=lambda: False,
                seed=seed + n,
            )
            while owners.active and toll.crashes < restarts and not toll.violations:
                time.sleep(0.2)
                if child.end(signal.SIGTERM) != 0:
                    toll.violations.append("a stop under load failed")
                started_s = time.monotonic()
                child = nursery.serve(folder, child.address)
                slowest_s = max(slowest_s, time.monotonic() - started_s)
                toll.crashes += 1
            owners.finish()
            child.end(signal.SIGTERM)
            toll.violations += check(folder, owners.receipts, settled=True).violations
    return toll, slowest_s


def federated(folder: Path, *, ttl_s: int) -> tuple[Path, str]:
    """Give a founded folder and an invite to it."""
    limits = Limits(ttl_s=ttl_s, operator_slots_percent=0, leases_a_day=1000)
    made = founded(folder, slots=_SLOTS, kib=900, layers=8, limits=limits)
    with Nursery() as nursery, nursery.answer(made) as opened:
        invite = opened.ask("invite")
        opened.close()
    return made, invite


@pytest.fixture(scope="module")
def federation(tmp_path_factory) -> tuple[Path, str]:
    """Give one whose contributions are four chunks."""
    return federated(tmp_path_factory.mktemp("restart"), ttl_s=900)


def test_restarts_under_load_are_invisible(federation, tmp_path, seed):
    """The short form: four of them."""
    toll, _ = restart_under_load(federation, tmp_path, restarts=4, seed=seed)

    assert toll.violations == []
    assert toll.uploads > 0


@pytest.mark.faults
def test_50_restarts_under_load_are_invisible(federation, tmp_path, seed, figures):
    """R14's other figure."""
    toll, slowest_s = restart_under_load(federation, tmp_path, restarts=50, seed=seed)

    figures.say(
        "R14 restarts under load",
        restarts=toll.crashes,
        uploads=toll.uploads,
        errors_after_tries=len(toll.violations),
        slowest_start_s=f"{slowest_s:.2f} (imported already)",
    )
    assert toll.violations == []


def asked_until_granted(member: Member) -> Leased:
    """Ask twice a second for a slot until there is one."""
    while True:
        try:
            return member.lease("late", ("late",))
        except Refused as error:
            if error.code not in ("no-free-slot", "rate-limited"):
                raise
        time.sleep(0.5)


def test_a_restart_gives_a_live_lease_one_full_term(tmp_path):
    """All slots leased, some of the term gone, restart: none is free until a whole term later."""
    folder, text = federated(tmp_path, ttl_s=_TTL_S)
    invite = Invite.from_text(text)
    with Nursery() as nursery:
        child = nursery.serve(folder)
        link = Hasty(invite, child.address)
        members = [Member(link) for _ in range(_SLOTS + 1)]
        for member in members:
            member.join()
        for n, member in enumerate(members[:_SLOTS]):
            member.lease(f"wren-{n}", (f"wren-{n}",))
        time.sleep(0.3 * _TTL_S)
        child.end(signal.SIGTERM)
        child = nursery.serve(folder, child.address)
        started_s = time.monotonic()
        given = asked_until_granted(members[_SLOTS])
        term_s = time.monotonic() - started_s
        link.close()
        child.end(signal.SIGTERM)

    assert given.fence == 2
    assert _TTL_S - 0.5 < term_s < _TTL_S + 2
