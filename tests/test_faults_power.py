"""R3: the power is cut at any moment; what had not been synced is gone, whole or in sectors.

One coordinator grants leases, takes uploads and publishes while strace records what it does to its
folder. Each image of power_cut.py is checked as it lies (public files are whole, nothing that a
client was told is lost), then a coordinator starts on it, the clients ask again, and the folder is
checked once more.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orthofed.coordinator import publications
from orthofed.coordinator.clock import SystemClock
from orthofed.coordinator.desk import Desk
from orthofed.coordinator.folder import DataFolder
from orthofed.coordinator.house import House
from orthofed.coordinator.releasing import publish_newest
from orthofed.coordinator.service import Service
from orthofed.core.errors import OrthoFedError

from . import power_cut, strace
from .direct import Direct
from .forked import Nursery, copied, founded
from .member import Leased, Member, Packed
from .seeded import Bug
from .serving import FastFs
from .store_check import check

pytestmark = pytest.mark.skipif(bool(strace.missing()), reason=strace.missing() or "-")


@dataclass(frozen=True)
class Told:
    """What the coordinator said with its n-th reply: a lease or a receipt."""

    reply: int
    lease: Leased
    receipt: bytes = b""
    packed: Packed | None = None

    @property
    def granted(self) -> tuple[str, int, int]:
        return self.lease.key.public_hex, self.lease.slot, self.lease.fence


@dataclass(frozen=True)
class Recorded:
    """A trace, and what was said in it."""

    trace: power_cut.Trace
    told: list[Told]
    member: Member

    def cuts(self, focus: str, rng: np.random.Generator) -> Iterator[int]:
        """Give places for cuts: just after a word to a client, a receipt, a name, or anywhere."""
        replies = self.trace.replies()
        places = {
            "word": [replies[each.reply] for each in self.told],
            "receipt": [replies[each.reply] for each in self.told if each.receipt],
            "name": self.trace.names_made_durable(),
            "rename": self.trace.renames_made_durable(),
        }
        while True:
            how = rng.choice(["word", "name", "any"]) if focus == "mixed" else focus
            if places.get(how):
                yield int(rng.choice(places[how])) + int(rng.integers(0, 2))
            else:
                yield int(rng.integers(1, len(self.trace.steps) + 1))

    def before(self, cut: int) -> list[Told]:
        """Return what had been said."""
        replies = self.trace.replies()
        return [each for each in self.told if replies[each.reply] <= cut]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Give a founded folder with an invite spent; a contribution is one small chunk."""
    return founded(tmp_path_factory.mktemp("power"), slots=8, kib=4)


def record(nursery: Nursery, folder: Path, scratch: Path) -> Recorded:
    """Run one coordinator under strace: two contributions, a release, one more."""
    serving, told, replies = copied(folder, scratch / "traced"), list[Told](), [0]
    held: list[Any] = []

    def attach(child: Any) -> None:
        held.append(strace.traced(child.pid, scratch / "trace", *power_cut.OPTIONS))
        held[0].__enter__()

    with nursery.answer(serving, before_open=attach) as coordinator:
        ask = coordinator.ask

        def counted(op: str, **more: Any) -> Any:
            replies[0] += 1
            return ask(op, **more)

        coordinator.ask = counted
        member = Member(coordinator.joining(coordinator.ask("invite")))
        member.join()
        for n in range(3):
            lease = member.lease(f"wren-{n}", (f"wren-{n}",))
            told.append(Told(replies[0], lease))
            packed = member.pack(lease, seed=n)
            receipt = member.contribute(packed)
            told.append(Told(replies[0], lease, receipt, packed))
            if n == 1:
                coordinator.ask("release")
        coordinator.ask("quiet")
        coordinator.close()
    held[0].__exit__(None, None, None)
    trace = power_cut.Trace(folder, serving, scratch / "trace")
    assert len(trace.replies()) == replies[0] + 1, "every reply is in the trace"
    return Recorded(trace, told, member)


def violations(recorded: Recorded, image: Path, cut: int) -> list[str]:
    """Check an image, recover it, and check it again."""
    told = recorded.before(cut)
    receipts = [each.receipt for each in told if each.receipt]
    granted = [each.granted for each in told]
    wrong = check(image, receipts, granted=granted).violations
    if wrong:
        return [f"as it lies: {each}" for each in wrong]
    try:
        receipts += recover(recorded, image, told)
    except (OrthoFedError, AssertionError) as error:
        return [f"after the cut: {error!r}"]
    wrong = check(image, receipts, granted=granted, settled=True).violations
    return [f"after a start: {each}" for each in wrong]


def recover(recorded: Recorded, image: Path, told: list[Told]) -> list[bytes]:
    """Start on the image; every client that was told something asks again, and one more comes."""
    folder = DataFolder.open(image)
    with folder.locked(), House(folder, fs=FastFs(), clock=SystemClock()) as house:
        member = recorded.member
        member.link = Direct(Service(house), member.invite)
        answers: list[bytes] = []
        for each in told:
            if each.packed is not None:
                answers.append(member.commit(each.packed).receipt)
                assert answers[-1] == each.receipt, "another receipt than before"
        last = told[-1] if told else None
        if last is not None and not last.receipt:
            packed = next(t.packed for t in recorded.told if t.packed and t.lease is last.lease)
            answers.append(member.contribute(packed))
        house.sweep()
        if house.store.run(publications.planned) is not None:  # as serve does, in a child
            publish_newest(folder, Desk(house), lambda_1024=None, resume=True, say=lambda _: None)
    return answers


def cut_power(
    recorded: Recorded, scratch: Path, *, num: int, rng: np.random.Generator, focus: str = "mixed"
) -> Iterator[list[str]]:
    """Give what is wrong with each of ``num`` images."""
    cuts = recorded.cuts(focus, rng)
    for _ in range(num):
        cut = next(cuts)
        recorded.trace.image(cut, scratch / "image", rng)
        yield violations(recorded, scratch / "image", cut)


def test_a_power_cut_at_some_moments_loses_nothing(folder, tmp_path, seed):
    """The short form: 15 images."""
    with Nursery() as nursery:
        recorded = record(nursery, folder, tmp_path)

    found = list(cut_power(recorded, tmp_path, num=15, rng=np.random.default_rng(seed)))

    assert [each for each in found if each] == []


_IMAGES = 20_000


@pytest.mark.faults
def test_a_power_cut_at_any_moment_loses_nothing(folder, tmp_path, seed, figures):
    """500 images of each of 40 traces."""
    rng, wrong = np.random.default_rng(seed), list[list[str]]()
    images = steps = 0
    while images < _IMAGES:
        scratch = tmp_path / str(images)
        scratch.mkdir()
        with Nursery() as nursery:
            recorded = record(nursery, folder, scratch)
        steps += len(recorded.trace.steps)
        for found in cut_power(recorded, scratch, num=500, rng=rng):
            images += 1
            wrong += [found] if found else []

    figures.say("R3 power cut", images=images, steps_traced=steps, violations=len(wrong))
    assert wrong == []


_BUGS = {
    "synchronous-normal": "word",
    "commit-not-synced": "receipt",
    "blob-not-synced": "receipt",
    "folder-not-synced": "receipt",
    "answer-before-commit": "word",
    "renamed-before-synced": "rename",
}


@pytest.mark.parametrize("bug", _BUGS)
def test_the_power_cuts_find_a_seeded_bug(folder, tmp_path, seed, bug):
    """Cut where the bug lies: after a word or a receipt, or after a rename became durable."""
    with Nursery(Bug.named(bug).environment(tmp_path / "patched")) as nursery:
        recorded = record(nursery, folder, tmp_path)

    rng = np.random.default_rng(seed)
    found = cut_power(recorded, tmp_path, num=40, rng=rng, focus=_BUGS[bug])
    assert any(found), f"{bug} survived 40 power cuts"


@pytest.mark.faults
@pytest.mark.parametrize("bug", _BUGS)
def test_most_power_cuts_find_a_seeded_bug(folder, tmp_path, seed, figures, bug):
    """At least 80 % of 300 images show it.

    Of every ten images three are lucky (power_cut.py), and in half of those a small file is whole.
    """
    with Nursery(Bug.named(bug).environment(tmp_path / "patched")) as nursery:
        recorded = record(nursery, folder, tmp_path)

    rng = np.random.default_rng(seed)
    caught = sum(map(bool, cut_power(recorded, tmp_path, num=300, rng=rng, focus=_BUGS[bug])))
    figures.say(f"R3 seeded bug {bug}", images=300, caught=caught)
    assert caught >= 240
