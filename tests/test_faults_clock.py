"""R13: a live coordinator's wall clock jumps ten years either way, past 2038, and to and fro.

I8: the same history under any clock gives the same states, receipts and ledger; deadlines do not
move. What a wrong clock does break is the age of a signed request: refused with one typed status,
words that say so, and the coordinator's time, by which a client puts itself right at once.
"""

import contextlib
import hashlib
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest

from orthofed.client.channel import Channel
from orthofed.client.outbox import Outbox
from orthofed.core.errors import OrthoFedError, Refused
from orthofed.core.invite import Invite
from orthofed.core.keys import SigningKey
from orthofed.proto import methods, wire

from .forked import Nursery, copied, founded
from .jumping_clock import JumpingClock
from .member import Leased, Member, Packed, Wire
from .seeded import Bug
from .store_check import check
from .uploaders import quick_blob

T = TypeVar("T")
_SLOTS = 8
_TTL_S = 900
_YEAR_S = 31_556_952
_HOUR_S = 3_600
_2038 = 1 << 31
"""The first second that a signed 32-bit counter cannot hold."""


@pytest.fixture(scope="module")
def federation(tmp_path_factory) -> tuple[Path, str]:
    """Give a founded folder and an invite to it."""
    folder = founded(tmp_path_factory.mktemp("clock"), slots=_SLOTS, kib=280)
    with Nursery() as nursery, nursery.answer(folder) as opened:
        invite = opened.ask("invite")
        opened.close()
    return folder, invite


def jumps(num: int, seed: int) -> list[int]:
    """Return where the clock goes, in seconds beside the right time: the named ones, then hours."""
    to_2038 = _2038 - int(time.time())
    named = [10 * _YEAR_S, -10 * _YEAR_S, to_2038 - 2, to_2038 + 60, -1, 0]
    draw = random.Random(seed)  # noqa: S311  # a replayable draw
    return named + [draw.choice((-1, 1)) * draw.randint(60, _HOUR_S) for _ in range(num)]


@dataclass
class History:
    """One history: what owners did, what they were told, and how often a time was refused."""

    running: JumpingClock
    invite: Invite
    jumps: Iterator[int]
    refused: int = 0
    receipts: list[bytes] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.link = Wire(self.invite, address=self.running.address)
        self.members = [Member(self.link, _key(f"member-{n}")) for n in range(_SLOTS + 1)]
        for member in self.members:
            member.join()
        self.spec = self.members[0].spec()

    def tick(self) -> bool:
        """Let the clock jump, if it still does."""
        to = next(self.jumps, None)
        if to is not None:
            self.running.jump(to)
        return to is not None

    def ask(self, what: Callable[[], T]) -> T:
        """Return the answer; a refused time is put right by the coordinator's own word."""
        for _ in range(8):
            try:
                return what()
            except Refused as error:
                if error.code == "rate-limited":
                    time.sleep(0.3)
                elif error.code != "bad-time":
                    raise
                else:
                    self._put_right(error)
        return what()

    def _put_right(self, error: Refused) -> None:
        self.refused += 1
        told = self.link.last_trailers
        clear = "a request signed" in error.what and error.fix == "set the clock of this machine"
        if told.get("status") != "UNAUTHENTICATED" or not clear:
            self.violations.append(f"a wrong time is answered with {told}: {error}")
        self.link.clock_offset_s = int(told[methods.NOW_KEY]) - int(time.time())

    def renew(self, lease: Leased, progress: int) -> None:
        """Renew: a full term, and no more than the true seconds held."""
        request = wire.RenewRequest(lease.slot, lease.fence, progress)
        reply = self.ask(lambda: self.link.call(methods.RENEW, request, wire.RenewReply, lease.key))
        if not (_TTL_S - 2 <= reply.ttl_s <= _TTL_S and reply.held_s < 600):
            self.violations.append(f"after a jump: {reply}")

    def nothing_is_free(self) -> None:
        """All slots are leased and none is late: one more member gets none."""
        lease = self._lease(_SLOTS, "late")
        self.violations += [] if lease is None else [f"slot {lease.slot} was given away"]

    def _lease(self, n: int, name: str) -> Leased | None:
        key, request = _key(f"client-{name}"), hashlib.sha256(name.encode()).hexdigest()[:32]
        member = self.members[n]
        try:
            return self.ask(lambda: member.lease(name, (name,), key=key, request=request))
        except OrthoFedError as error:
            if error.code != "no-free-slot":
                raise
            return None

    def play(self) -> None:
        """Lease every slot, hold through the jumps, contribute, withdraw nothing."""
        leases: list[Leased] = []
        for n in range(_SLOTS):
            self.tick()
            lease = self._lease(n, f"wren-{n}")
            assert lease is not None
            leases.append(lease)
        for n, lease in enumerate(leases[: _SLOTS // 2]):
            self._contribute(n, lease)
        held = [(n, self._begin(n, leases[n])) for n in range(_SLOTS // 2, _SLOTS)]
        progress = 0
        while self.tick():
            n, packed = held[progress % len(held)]
            self.ask(lambda n=n, packed=packed: self.members[n].put(packed, 0))
            if progress % 16 == 0:
                self.renew(packed.lease, progress)
            if progress % 64 == 8:
                self.nothing_is_free()
            progress += 1
        for n, packed in held:
            self._contribute(n, packed.lease)
        self.nothing_is_free()
        self.link.close()

    def _begin(self, n: int, lease: Leased) -> Packed:
        """Announce a contribution."""
        member = self.members[n]
        packed = self.ask(lambda: member.pack(lease, blob=quick_blob(self.spec, seed=n)))
        self.tick()
        self.ask(lambda: member.begin(packed))
        return packed

    def _contribute(self, n: int, lease: Leased) -> None:
        """Upload with a jump before each chunk."""
        member, packed = self.members[n], self._begin(n, lease)
        for index in range(len(packed.chunks)):
            self.tick()
            self.ask(lambda i=index: member.put(packed, i))
        self.receipts.append(self.ask(lambda: member.commit(packed)).receipt)


def _key(name: str) -> SigningKey:
    return SigningKey.from_seed(hashlib.sha256(name.encode()).digest())


def played(federation, folder: Path, to: list[int], environment=None) -> History:
    """Play one history on a fresh copy, with the clock going to ``to``; return how it went."""
    copied(federation[0], folder)
    with JumpingClock(folder, environment=environment) as running:
        history = History(running, Invite.from_text(federation[1]), iter(to))
        try:
            history.play()
        except OrthoFedError as error:
            history.violations.append(f"an owner could not go on: {error}")
        running.jump(0)
        code, log = running.stop()
    if code != 0 or "fault in" in log:
        history.violations.append(f"it ended with {code}: {log[-500:]}")
    found = check(folder, history.receipts, settled=True)
    history.violations += found.violations
    return history


def states(folder: Path) -> dict[str, list[tuple]]:
    """Return every row, but for what wall time has a say in: days, invites, held seconds."""
    left_out = {"lease": "day", "slot": "held_s"}
    with contextlib.closing(sqlite3.connect(folder / "data" / "state.db")) as db:
        names = [row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE type='table'")]
        tables: dict[str, list[tuple]] = {}
        for name in sorted(names):
            columns = [row[1] for row in db.execute(f"PRAGMA table_info({name})")]
            kept = ", ".join(each for each in columns if each != left_out.get(name))
            tables[name] = sorted(db.execute(f"SELECT {kept} FROM {name}"), key=repr)  # noqa: S608  # our own names
        return tables


def test_states_do_not_depend_on_the_wall_clock(federation, tmp_path, seed):
    """The short form: the same history under a right clock and under one that jumps 60 times."""
    right = played(federation, tmp_path / "right", [0] * 66)
    wrong = played(federation, tmp_path / "wrong", jumps(60, seed))

    assert right.violations == wrong.violations == []
    assert right.refused == 0
    assert wrong.refused >= 40
    assert states(tmp_path / "right") == states(tmp_path / "wrong")
    assert sorted(right.receipts) == sorted(wrong.receipts)


@pytest.mark.faults
def test_states_do_not_depend_on_a_thousand_strobes(federation, tmp_path, seed, figures):
    """R13's figure."""
    right = played(federation, tmp_path / "right", [0] * 1_006)
    wrong = played(federation, tmp_path / "wrong", jumps(1_000, seed))
    same = states(tmp_path / "right") == states(tmp_path / "wrong")

    figures.say(
        "R13 wall clock of a live coordinator",
        jumps=1_006,
        times_refused=wrong.refused,
        states="the same" if same else "DIFFER",
        violations=len(wrong.violations),
    )
    assert right.violations == wrong.violations == []
    assert same


def test_a_jump_while_a_real_client_talks_costs_one_more_try(federation, tmp_path):
    """The client's channel puts its time right after each jump, and its owner sees nothing."""
    folder = copied(federation[0], tmp_path / "fed")
    invite = Invite.from_text(federation[1])
    with JumpingClock(folder) as running:
        member = Member(Wire(invite, address=running.address))
        member.join()
        lease = member.lease()
        member.link.close()
        status = wire.StatusRequest(lease.slot, lease.fence)
        outbox = Outbox(tmp_path / "outbox.jsonl")
        with Channel(running.address, ca=invite.ca, log=invite.log, outbox=outbox) as channel:
            told = []
            for to in (0, 10 * _YEAR_S, -10 * _YEAR_S, 0):
                running.jump(to)
                told.append(channel.call(methods.STATUS, status, wire.StatusReply, key=lease.key))

    assert [reply.state for reply in told] == ["leased"] * 4


def test_a_start_with_a_wrong_clock_is_undone_by_one_with_the_right(federation, tmp_path):
    """Ten years ahead at start: clients trust no such certificate; a right start mends it."""
    folder = copied(federation[0], tmp_path / "fed")
    invite = Invite.from_text(federation[1])
    with JumpingClock(folder, ahead_s=10 * _YEAR_S) as running:
        answers = []
        for again in (False, True):
            if again:
                running.stop()
                running.jump(0)
                running.start()
            link = Wire(invite, address=running.address)
            try:
                answers.append(link.call(methods.GET_SPEC, wire.SpecRequest(), wire.SpecReply))
            except OrthoFedError as error:
                answers.append(error.code)
            link.close()

    assert answers[0] == "unreachable"
    assert not isinstance(answers[1], str)


def test_the_jumps_find_deadlines_from_wall_time(federation, tmp_path, seed):
    """A lease that is ten years late is given away under its holder."""
    environment = Bug.named("deadline-from-wall-time").environment(tmp_path / "patched")

    wrong = played(federation, tmp_path / "wrong", jumps(60, seed), environment)

    assert wrong.violations != []
