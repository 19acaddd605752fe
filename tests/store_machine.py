"""Members, an operator, a clock and SIGKILL, played by Hypothesis against the real store.

Each rule is one thing that somebody asks, with the answer that is due; ``kill`` and ``start`` say
at which moment of it, and of the start that follows, the coordinator is killed. Not here: how that
is done and checked (store_play.py).
"""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from orthofed.coordinator import publications, publisher, verdicts
from orthofed.coordinator.base import BaseFolder
from orthofed.coordinator.keyfile import load_key
from orthofed.core.document import sign
from orthofed.core.errors import Refused
from orthofed.core.withdrawal import Withdrawal
from orthofed.proto import methods, wire

from .member import Given
from .store_play import StorePlay, client_key
from .store_world import TTL_S, World

NAMES = ("anna", "ann-a", "bert", "cleo")
_SPELLED = {"anna": "ann-a", "ann-a": "anna"}
_YEAR_S = 31_557_600
_JUMPS = (10 * _YEAR_S, -10 * _YEAR_S, 3_600, -3_600, -1)
_2038 = (1 << 31) - 1

LEASED = ("leased", "revising")
BACK = st.sampled_from([0, 0, 0, 1, 1, 2, 3, 4])
VARIANT = st.sampled_from([0, 0, 1])
FENCE = st.sampled_from([0, 0, 0, -1, 1])
DAMAGED = st.sampled_from([False, False, True])
KILL = st.sampled_from([None] * 8 + [*range(13)])
LONG_KILL = st.none() | st.integers(0, 120)
START = st.sampled_from([0] * 8 + [*range(1, 33, 4)])


class Machine(StorePlay):
    """The rules."""

    # What members ask.

    @rule(member=st.integers(0, 2), name=st.sampled_from(NAMES), kill=KILL, start=START)
    def lease(self, member: int, name: str, kill: int | None, start: int) -> None:
        self.asked.append((member, name, None, False))
        self._lease(len(self.asked) - 1, kill, start)

    @precondition(lambda self: self.world.contributions)
    @rule(back=BACK, other=st.sampled_from([0, 0, 0, 1]), kill=KILL, start=START)
    def correct(self, back: int, other: int, kill: int | None, start: int) -> None:
        """Ask for a contribution's own slot once more, as its owner or as somebody else."""
        number = self._pick_contributed(back)
        lease = self.world.leases[number]
        self.asked.append(((lease.member + other) % 3, lease.name, number, False))
        self._lease(len(self.asked) - 1, kill, start)

    @precondition(lambda self: self.world.contributions)
    @rule(back=BACK, variant=VARIANT, kill=KILL, start=START)
    def contribute_correction(self, back: int, variant: int, kill: int | None, start: int) -> None:
        """From the request to the receipt, if the contribution stands."""
        self.correct(back, 0, None, 0)
        if any(place.state == "revising" for place in self.world.places):
            held = [place.lease for place in self.world.places if place.state == "revising"]
            numbers = list(self.world.leases)
            back = len(numbers) - 1 - numbers.index(held[-1])
            self.begin(back, variant, None, 0)
            self.put(back, variant, damaged=False, kill=None, start=0)
            self.commit(back, variant, kill, start)

    @precondition(lambda self: self.world.contributions)
    @rule(back=BACK, other=st.sampled_from([0, 1, 1, 2]), kill=KILL, start=START)
    def join(self, back: int, other: int, kill: int | None, start: int) -> None:
        """Ask for a seat beside a contribution's slot, by its owner's share."""
        number = self._pick_contributed(back)
        lease = self.world.leases[number]
        self.asked.append(((lease.member + other) % 3, lease.name, number, True))
        self._lease(len(self.asked) - 1, kill, start)

    @precondition(lambda self: self.world.contributions)
    @rule(back=BACK, other=st.sampled_from([1, 2]), variant=VARIANT, kill=KILL, start=START)
    def contribute_part(
        self, back: int, other: int, variant: int, kill: int | None, start: int
    ) -> None:
        """From the share to the receipt, if the concept may be joined."""
        self.join(back, other, None, 0)
        seats = [p.lease for p in self.world.places if p.home >= 0 and p.state == "leased"]
        if seats:
            numbers = list(self.world.leases)
            back = len(numbers) - 1 - numbers.index(seats[-1])
            self.begin(back, variant, None, 0)
            self.put(back, variant, damaged=False, kill=None, start=0)
            self.commit(back, variant, kill, start)

    @precondition(lambda self: self.asked)
    @rule(back=BACK, kill=KILL, start=START)
    def lease_again(self, back: int, kill: int | None, start: int) -> None:
        self._lease(max(0, len(self.asked) - 1 - back), kill, start)

    def _lease(self, number: int, kill: int | None, start: int) -> None:
        member, name, of, joins = self.asked[number]
        key = client_key(number)
        self.known.clients[key.public_hex] = number
        leaf = None if of is None else self.known.leaf_of(self.world, of)
        given = None if of is None or joins else Given(leaf or 2, client_key(of))
        share = self._shared(leaf) if joins and leaf is not None else None

        def ask() -> str:
            request = f"{number:032x}"
            asker = self._member(member)
            got = asker.lease(name, (name,), key=key, request=request, replaces=given, joins=share)
            return f"slot {got.slot} fence {got.fence}"

        def due(now_s: float) -> tuple[str, World]:
            if of is None:
                return self.world.lease(number, member, name, now_s)
            if joins:
                return self.world.join(number, member, of, now_s)
            return self.world.correct(number, member, of, now_s)

        self._step(due, ask, kill, start)

    @precondition(lambda self: self.world.leases)
    @rule(late=st.booleans(), kill=KILL, start=START)
    def lease_its_name_anew(self, late: bool, kill: int | None, start: int) -> None:
        """Ask as the newest holder once more, in another spelling where there is one."""
        newest = self.world.leases[self._pick(0)]
        self.house.clock.monotonic += TTL_S if late else 0
        self.lease(newest.member, _SPELLED.get(newest.name, newest.name), kill, start)

    @precondition(lambda self: self.world.leases)
    @rule(back=BACK, at=BACK, fence=FENCE, progress=st.integers(0, 3), kill=KILL, start=START)
    def renew(
        self, back: int, at: int, fence: int, progress: int, kill: int | None, start: int
    ) -> None:
        number, place = self._pick(back), self._at(at, fence)
        request = wire.RenewRequest(*place, progress)

        def ask() -> str:
            link = self._member(0).link
            link.call(methods.RENEW, request, wire.RenewReply, client_key(number))
            return "held"

        self._step(lambda now_s: self.world.renew(number, place, progress, now_s), ask, kill, start)

    @precondition(lambda self: self.world.leases)
    @rule(back=BACK, fence=st.sampled_from([0, 0, -1]), kill=KILL, start=START)
    def give_back(self, back: int, fence: int, kill: int | None, start: int) -> None:
        number, at = self._pick(back), self._at(back, fence)
        request = wire.GiveBackRequest(*at)

        def ask() -> str:
            link = self._member(0).link
            link.call(methods.GIVE_BACK, request, wire.GiveBackReply, client_key(number))
            return "given back"

        self._step(lambda _: self.world.give_back(number, at), ask, kill, start)

    @precondition(lambda self: self.world.leases)
    @rule(back=BACK, variant=VARIANT, kill=KILL, start=START)
    def begin(self, back: int, variant: int, kill: int | None, start: int) -> None:
        number = self._pick(back)

        def ask() -> str:
            receipt = self._member(0).begin(self._pack(number, variant)).receipt
            return self._receipt(receipt) if receipt else "known"

        def half(after: World) -> World:
            return after.half_begun(number)

        self._step(lambda _: self.world.begin(number, variant), ask, kill, start, half=half)

    @precondition(lambda self: self.world.uploads)
    @rule(back=BACK, variant=VARIANT, damaged=DAMAGED, kill=KILL, start=START)
    def put(self, back: int, variant: int, damaged: bool, kill: int | None, start: int) -> None:
        number = self._pick(back)

        def ask() -> str:
            packed = self._pack(number, variant)
            data = packed.blob[:-1] + bytes([packed.blob[-1] ^ 1]) if damaged else None
            self._member(0).put(packed, 0, data)
            return "whole"

        def due(now_s: float) -> tuple[str, World]:
            return self.world.put(number, variant, now_s, damaged=damaged)

        self._step(due, ask, kill, start)

    @precondition(lambda self: self.world.uploads)
    @rule(back=BACK, variant=VARIANT, kill=KILL, start=START)
    def commit(self, back: int, variant: int, kill: int | None, start: int) -> None:
        number = self._pick(back)

        def ask() -> str:
            receipt = self._member(0).commit(self._pack(number, variant)).receipt
            return self._receipt(receipt) if receipt else "missing"

        self._step(lambda _: self.world.commit(number, variant), ask, kill, start)

    @precondition(lambda self: any(place.state in LEASED for place in self.world.places))
    @rule(which=st.integers(0, 1), late=st.booleans(), variant=VARIANT, kill=KILL, start=START)
    def upload(self, which: int, late: bool, variant: int, kill: int | None, start: int) -> None:
        """All three calls for a lease that stands, or most histories would commit nothing."""
        held = [place.lease for place in self.world.places if place.state in LEASED]
        numbers = list(self.world.leases)
        back = len(numbers) - 1 - numbers.index(held[which % len(held)])
        self.begin(back, variant, None, 0)
        self.put(back, variant, damaged=False, kill=None, start=0)
        self.house.clock.monotonic += TTL_S + 1 if late else 0
        self.commit(back, variant, kill, start)

    @rule(member=st.integers(0, 2), name=st.sampled_from(NAMES), kill=KILL, start=START)
    def contribute(self, member: int, name: str, kill: int | None, start: int) -> None:
        """From the request to the receipt, if there is a slot."""
        self.lease(member, name, None, 0)
        if any(place.state in LEASED for place in self.world.places):
            self.upload(member, late=False, variant=0, kill=kill, start=start)

    @precondition(lambda self: self.world.contributions)
    @rule(back=BACK, mine=st.booleans(), kill=KILL, start=START)
    def take_out(self, back: int, mine: bool, kill: int | None, start: int) -> None:
        """By the contributor's word or the operator's."""
        (self._withdraw if mine else self._reject)(self._pick_contributed(back), kill, start)

    def _withdraw(self, number: int, kill: int | None, start: int) -> None:
        leaf = self.known.leaf_of(self.world, number)
        said = Withdrawal(
            client=client_key(number).public_hex,
            fed=self.founded.spec.id,
            leaf=0 if leaf is None else leaf,
            log=self.founded.invite.log,
            t=1_790_000_000,
        )
        word = sign("withdrawal", said.body(), [client_key(number)]).to_bytes()

        def ask() -> str:
            self.house.removal.withdraw(word)
            return "withdrawn"

        self._step(lambda _: self.world.withdraw(number), ask, kill, start)

    def _reject(self, number: int, kill: int | None, start: int) -> None:
        leaf = self.known.leaf_of(self.world, number)

        def ask() -> str:
            self.house.removal.reject(0 if leaf is None else leaf, why="no")
            return "rejected"

        self._step(lambda _: self.world.reject(number), ask, kill, start)

    # What the operator asks.

    @precondition(lambda self: self.world.contributions)
    @rule(back=BACK, kill=KILL, start=START)
    def approve(self, back: int, kill: int | None, start: int) -> None:
        """Whatever it is: in quarantine, accepted already, or out for good."""
        number = self._pick_contributed(back)
        leaf = self.known.leaf_of(self.world, number)

        def ask() -> str:
            verdicts.approve(self.house.house, 0 if leaf is None else leaf)
            return "approved"

        self._step(lambda _: self.world.approve(number), ask, kill, start)

    @precondition(lambda self: self.world.contributions)
    @rule(stages=st.integers(1, 3), kill=LONG_KILL, start=START)
    def release(self, stages: int, kill: int | None, start: int) -> None:
        """Go on with the release, by one to three stages; the last one may be killed."""
        for left in range(stages, 0, -1):
            ends, begins = (kill, start) if left == 1 else (None, 0)
            if self.world.planned is None:
                self._plan(ends, begins)
            elif not self._is_built():
                self._build(ends, begins)
            else:
                outdated = self.world.is_outdated
                self._publish(ends, begins)
                if outdated:
                    self._plan(None, 0)

    def finish_release(self) -> None:
        while self.world.planned is not None:
            self.release(1, None, 0)

    def _plan(self, kill: int | None, start: int) -> None:
        def ask() -> str:
            return "open" if self.house.desk.ask("plan", {"lambda_1024": None})["new"] else "same"

        given_up = self.world.given_up() if self.world.is_outdated else self.world
        self._step(lambda _: self.world.plan(), ask, kill, start, half=lambda _: given_up)

    def _build(self, kill: int | None, start: int) -> None:
        house = self.house

        def ask() -> str:
            plan = house.house.store.run(publications.planned)
            assert plan is not None
            publisher.build(
                house.folder,
                self.founded.spec,
                plan,
                load_key(house.folder.keys, "release"),
                base=BaseFolder(house.folder.settings().base),
                fs=house.fs,
                say=lambda _: None,
            )
            return "built"

        self._step(lambda _: ("built", self.world), ask, kill, start)

    def _publish(self, kill: int | None, start: int) -> None:
        n = self.world.num_releases + 1

        def ask() -> str:
            self.house.desk.ask("publish", {"n": n})
            return "published"

        self._step(lambda _: self.world.publish(), ask, kill, start)

    def _is_built(self) -> bool:
        return (self.house.folder.releases / str(self.world.num_releases + 1)).is_dir()

    @precondition(lambda self: self.world.leases)
    @rule(sweep=st.booleans(), kill=KILL, start=START)
    def care(self, sweep: bool, kill: int | None, start: int) -> None:
        """Remove spare blobs, or write the public files."""
        house = self.house.house

        def ask() -> str:
            house.sweep() if sweep else house.heads.write()
            return "done"

        self._step(lambda _: ("done", self.world), ask, kill, start)

    @precondition(lambda self: self.world.leases)
    @rule()
    def restart(self) -> None:
        self.figures["restarts"] += 1
        self.house.restarted()
        self.world = self.world.restarted(self.house.clock.monotonic)

    # What clocks do.

    @precondition(lambda self: self.world.leases)
    @rule(seconds=st.sampled_from([1, 450, 899, 900, 5_000, 90_000]))
    def time_passes(self, seconds: int) -> None:
        self.house.clock.monotonic += seconds
        self.house.clock.wall += seconds

    @precondition(lambda self: self.world.leases)
    @rule(jump=st.sampled_from([*_JUMPS, 0]))
    def wall_clock_jumps(self, jump: int) -> None:
        """By ten years or an hour either way, or to the last second of 32 bits."""
        self.figures["clock jumps"] += 1
        wall = self.house.clock.wall + jump if jump else _2038
        self.house.clock.wall = max(0, wall)

    @precondition(lambda self: self.world.leases)
    @rule(back=BACK, seconds=st.sampled_from([-10 * _YEAR_S, -301, 301, 10 * _YEAR_S]))
    def a_member_with_a_wrong_clock(self, back: int, seconds: int) -> None:
        """Only the signature's time fails, and the error says so."""
        number = self._pick(back)
        link = self._member(0).link
        link.clock_offset_s = seconds
        request = wire.StatusRequest(*self.world.leases[number].at)
        with pytest.raises(Refused) as refused:
            link.call(methods.STATUS, request, wire.StatusReply, client_key(number))

        assert refused.value.code == "bad-time"
        assert "set the clock" in refused.value.fix
