"""R12: the disk under a live coordinator is filled in steps of 1 MB, to the last page, and freed.

It stays up and reads go on; what needs room is RESOURCE_EXHAUSTED with the code ``no-room``, and
nothing else; uploads leave the reserve alone, so leases go on when uploads do not; a stop and a
start on the full disk work; all is normal within 5 s of the space coming back; and every lease and
receipt that was acknowledged is in the ledger afterwards.
"""

import secrets
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from orthofed.core.errors import OrthoFedError
from orthofed.core.invite import Invite
from orthofed.proto import methods, wire

from .forked import Child, Nursery, copied, founded
from .member import Leased, Member
from .seeded import Bug
from .small_disk import MIB, SmallDisk
from .store_check import check
from .uploaders import Hasty, quick_blob

T = TypeVar("T")
_MIB = 64
_RESERVE_MIB = 8
_SLOTS = 64
_KIB = 280
_MEMBERS = 24
_NORMAL_S = 5.0


@pytest.fixture(scope="module")
def federation(tmp_path_factory) -> tuple[Path, str]:
    """Give a founded folder with a contribution and a release, and an invite to it."""
    folder = founded(tmp_path_factory.mktemp("disk"), slots=_SLOTS, kib=_KIB)
    settings = folder / "coordinator.toml"
    text = settings.read_text()
    assert "reserve_mib = 0" in text
    settings.write_text(text.replace("reserve_mib = 0", f"reserve_mib = {_RESERVE_MIB}"))
    with Nursery() as nursery, nursery.answer(folder) as opened:
        invite = opened.ask("invite")
        member = Member(opened.joining(invite))
        member.join()
        member.contribute(member.pack(member.lease()))
        opened.ask("release")
        opened.close()
    return folder, invite


@dataclass
class Told:
    """What owners were answered, by kind of call; and what they hold in their hands."""

    answers: Counter[tuple[str, str]] = field(default_factory=Counter)
    granted: list[tuple[str, int, int]] = field(default_factory=list)
    receipts: list[bytes] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    slowest_normal_s: float = 0.0
    least_free_bytes: int = 1 << 60

    def refused(self, kind: str) -> int:
        """How often there was no room."""
        return self.answers[kind, "no-room"]


class Owners:
    """Members who ask for one thing after the other, each time as somebody else."""

    def __init__(self, invite: str, address: str, told: Told) -> None:
        """Join, while there is room."""
        self.told = told
        self.link = Hasty(Invite.from_text(invite), address)
        self._members = [Member(self.link) for _ in range(_MEMBERS)]
        for member in self._members:
            member.join()
        self._spec = self._members[0].spec()
        self._held: list[tuple[Member, Leased]] = []
        self._turn = 0
        manifest = self.link.call(methods.GET_MANIFEST, wire.ManifestRequest(1), wire.ManifestReply)
        self._manifest = manifest.document

    def ask(self, kind: str, what: Callable[[], T], *, reading: bool = False) -> T | None:
        """Return the answer, or None for no room; anything else is a violation."""
        try:
            answer = what()
        except OrthoFedError as error:
            status = self.link.last_trailers.get("status")
            self.told.answers[kind, error.code] += 1
            if reading or (status, error.code) != ("RESOURCE_EXHAUSTED", "no-room"):
                self.told.violations.append(f"{kind} was answered {status}: {error!r}")
            return None
        self.told.answers[kind, "ok"] += 1
        return answer

    def look(self) -> None:
        """Read what everybody may read; it has to work whatever the disk is like."""
        calls: list[tuple[methods.Method, Any, Any]] = [
            (methods.GET_SPEC, wire.SpecRequest(), wire.SpecReply),
            (methods.LIST_RELEASES, wire.ListRequest(), wire.ListReply),
            (methods.GET_MANIFEST, wire.ManifestRequest(1), wire.ManifestReply),
            (methods.READ, wire.ReadRequest(1, "manifest.json", 0, 65_536), wire.ReadReply),
        ]
        got = [
            self.ask("read", lambda call=call: self.link.call(*call), reading=True)
            for call in calls
        ]
        if got[-1] is not None and got[-1].data != self._manifest[:65_536]:
            self.told.violations.append("a read gave other bytes")

    def lease(self) -> tuple[Member, Leased] | None:
        """Lease a slot as the next member, and note the grant."""
        member = self._members[self._turn % len(self._members)]
        self._turn += 1
        name = f"wren-{secrets.token_hex(6)}"
        leased = self.ask("lease", lambda: member.lease(name, (name,)))
        if leased is None:
            return None
        self.told.granted.append((leased.key.public_hex, leased.slot, leased.fence))
        return member, leased

    def lease_and_give_back(self) -> bool:
        """Take a slot and give it back; return whether both were done."""
        got = self.lease()
        if got is not None:
            self._held.append(got)
        self._give_back()
        return got is not None and not self._held

    def _give_back(self) -> None:
        left: list[tuple[Member, Leased]] = []
        for member, lease in self._held:
            request = wire.GiveBackRequest(lease.slot, lease.fence)
            call = (methods.GIVE_BACK, request, wire.GiveBackReply, lease.key)
            if self.ask("give back", lambda call=call: self.link.call(*call)) is None:
                left.append((member, lease))
                self._members = [each for each in self._members if each is not member]
            elif member not in self._members:
                self._members.append(member)
        self._held = left

    def upload(self) -> bool:
        """Lease, begin, put and commit; return whether there is a receipt."""
        got = self.lease()
        if got is None:
            return False
        member, lease = got
        packed = member.pack(lease, blob=quick_blob(self._spec, seed=lease.slot))
        steps: list[tuple[str, Callable[[], Any]]] = [("begin", lambda: member.begin(packed))]
        steps += [("put", lambda i=i: member.put(packed, i)) for i in range(len(packed.chunks))]
        done = all(self.ask(kind, step) is not None for kind, step in steps)
        reply = self.ask("commit", lambda: member.commit(packed)) if done else None
        if reply is None or not reply.receipt:
            self._held.append(got)
            return False
        self.told.receipts.append(reply.receipt)
        return True


def uploads_leave_the_reserve(disk: SmallDisk, owners: Owners) -> None:
    """F5: upload until there is no room; leases must go on then, in what is left."""
    disk.fill(disk.free_bytes() - (_RESERVE_MIB + 2) * MIB)
    for _ in range(40):
        if not owners.upload():
            break
    told = owners.told
    told.least_free_bytes = min(told.least_free_bytes, disk.free_bytes())
    if disk.free_bytes() < (_RESERVE_MIB - 1) * MIB:
        told.violations.append(f"uploads left {disk.free_bytes()} bytes of the reserve")
    if not told.refused("begin"):
        told.violations.append("no upload was refused")
    if not owners.lease_and_give_back():
        told.violations.append("no lease although the reserve is there")


def fill_to_the_last_page(disk: SmallDisk, owners: Owners) -> None:
    """Take 1 MB after the other, then the rest, until a lease finds no room either."""
    while disk.fill(MIB):
        owners.look()
        owners.upload()
    disk.fill_up()
    before = owners.told.refused("lease")
    for _ in range(100):
        owners.look()
        owners.lease_and_give_back()
        disk.fill_up()
        if owners.told.refused("lease") > before + 5 or owners.told.violations:
            return
    owners.told.violations.append("a full disk refused nothing")


def back_to_normal(disk: SmallDisk, owners: Owners) -> None:
    """Free the disk; a lease and an upload have to work within 5 s."""
    disk.empty()
    freed_s = time.monotonic()
    while not (owners.lease_and_give_back() and owners.upload()):
        if time.monotonic() - freed_s > _NORMAL_S:
            owners.told.violations.append(f"not normal {_NORMAL_S} s after the space came back")
            return
        time.sleep(0.05)
    took_s = time.monotonic() - freed_s
    owners.told.slowest_normal_s = max(owners.told.slowest_normal_s, took_s)


def restarted(disk: SmallDisk, child: Child, told: Told) -> Child:
    """Stop and start while there is no room."""
    if child.end(signal.SIGTERM) != 0:
        told.violations.append(f"a stop on the full disk ended with {child.code}")
    return disk.serve(disk.inside / "fed", child.address)


def fill_and_free(
    federation: tuple[Path, str], place: Path, *, rounds: int, environment=None
) -> Told:
    """Play it ``rounds`` times on one folder."""
    told = Told()
    place.mkdir()
    with SmallDisk(place, num_mib=_MIB, environment=environment) as disk:
        folder = copied(federation[0], disk.outside / "fed")
        child = disk.serve(disk.inside / "fed")
        owners = Owners(federation[1], child.address, told)
        for _ in range(rounds):
            uploads_leave_the_reserve(disk, owners)
            if told.violations:
                break
            fill_to_the_last_page(disk, owners)
            child = restarted(disk, child, told)
            owners.look()
            back_to_normal(disk, owners)
        owners.link.close()
        if child.end(signal.SIGTERM) != 0:
            told.violations.append(
                f"the coordinator ended with {child.code}: {disk.log.read_text()}"
            )
        found = check(folder, told.receipts, granted=told.granted, settled=True)
    told.violations += found.violations
    return told


def test_a_full_disk_refuses_and_loses_nothing(federation, tmp_path):
    """The short form: once."""
    told = fill_and_free(federation, tmp_path / "disk", rounds=1)

    assert told.violations == []
    assert told.refused("lease")
    assert told.refused("begin")


@pytest.mark.faults
def test_a_disk_that_fills_and_frees_five_times_loses_nothing(federation, tmp_path, figures):
    """R12's figure."""
    told = fill_and_free(federation, tmp_path / "disk", rounds=5)

    figures.say(
        "R12 disk of 64 MiB filled and freed 5 times",
        answers={f"{kind}: {code}": n for (kind, code), n in sorted(told.answers.items())},
        acknowledged_leases=len(told.granted),
        receipts=len(told.receipts),
        normal_after_s=f"{told.slowest_normal_s:.2f}",
        least_left_by_uploads_mib=f"{told.least_free_bytes / MIB:.1f} of {_RESERVE_MIB}",
        violations=len(told.violations),
    )
    assert told.violations == []


@pytest.mark.parametrize("bug", ["no-reserve", "full-taken-for-success"])
def test_the_full_disk_finds_a_seeded_bug(federation, tmp_path, bug):
    """Uploads eat the database's room; or what did not fit is acknowledged."""
    environment = Bug.named(bug).environment(tmp_path / "patched")

    told = fill_and_free(federation, tmp_path / "disk", rounds=1, environment=environment)

    assert told.violations, f"{bug} survived"
