"""What the coordinator must hold after each step, without a line of its code and without wall time.

``World`` is one state as a value; each method is one thing that somebody may ask, and returns the
answer that is due and the state after it. The table is reliability.md 3, the names' law security.md
7. No method is told what the wall clock says, so a coordinator that agrees with it keeps I8. Only
``now_s``, monotonic seconds, decides who is late.
"""

from dataclasses import dataclass, field, replace

TTL_S, HOLD_S, GRAIN_S = 900, 86_400, 60
LOUD = 1
"""The variant of a blob that admission puts into quarantine."""
_LEASED = ("leased", "revising")
Place_ = tuple[int, int]
"""Slot and fence."""


@dataclass(frozen=True)
class Place:
    """One slot; ``lease`` is the number of its last lease.

    ``saved_s``: of the seconds held, those that its row knows. A renewal before the deadline is
    kept in memory until it makes a minute full.
    """

    state: str = "free"
    fence: int = 0
    lease: int = -1
    deadline_s: float = 0.0
    seen_s: float = 0.0
    held_s: int = 0
    saved_s: int = 0
    progress: int = -1
    kept: int = 0  # the fence of the contribution that it holds
    home: int = -1  # of a seat: the slot whose concept it teaches too


@dataclass(frozen=True)
class Lease:
    """One grant: by its number, which also is its client key's; ``replaces``: a leaf, or 0.

    Of a seat ``home`` is the slot, ``joins`` the first contribution of the concept's first owner,
    ``share`` the one whose owner let it in.
    """

    number: int
    member: int
    name: str
    slot: int
    fence: int
    replaces: int = 0
    home: int = -1
    joins: int = 0
    share: int = 0

    @property
    def at(self) -> Place_:
        return self.slot, self.fence


@dataclass(frozen=True)
class Upload:
    """What was announced last for a lease; ``leaf`` once it is in. ``whole``: its chunk is there.

    ``part``: so is its file; a kill inside Begin may leave none, and the client begins again.
    """

    variant: int
    part: bool = True
    whole: bool = False
    leaf: int | None = None


@dataclass(frozen=True)
class World:
    """Everything that is durable, and the deadlines, which are not."""

    places: tuple[Place, ...]
    leases: dict[int, Lease] = field(default_factory=dict)
    names: dict[str, tuple[str, int, Place_]] = field(default_factory=dict)
    uploads: dict[Place_, Upload] = field(default_factory=dict)
    contributions: dict[int, tuple[Place_, str]] = field(default_factory=dict)
    firsts: dict[int, int] = field(default_factory=dict)
    approved: frozenset[int] = frozenset()
    leaves: tuple[str, ...] = ("spec", "keyring")
    released: frozenset[Place_] | None = None
    planned: frozenset[Place_] | None = None
    plans: tuple[object, ...] = ()
    num_releases: int = 0

    def lease(self, number: int, member: int, name: str, now_s: float) -> tuple[str, "World"]:
        """Grant a slot to a fresh key, once for each number."""
        if number in self.leases:
            return _granted(self.leases[number]), self
        owned = self.names.get(skeleton(name))
        if owned is not None and (owned[1] != member or self._contributed(owned[2])):
            return "name-taken", self
        held = [self.leases[p.lease] for p in self.places if self._late(p, now_s) is False]
        if any(lease.member == member for lease in held):
            return "quota-used", self
        slot = self._choose(now_s)
        if slot is None:
            return "no-free-slot", self
        fence = self.places[slot].fence + 1
        made = Lease(number, member, name, slot, fence)
        place = Place("leased", fence, number, deadline_s=now_s + TTL_S, seen_s=now_s)
        after = replace(
            self._put(slot, place),
            leases={**self.leases, number: made},
            names={**self.names, skeleton(name): (name, member, made.at)},
            leaves=(*self.leaves, "lease"),
        )
        if owned is not None and after._stands(owned[2]) and owned[2] != made.at:
            old = owned[2][0]
            after = after._put(old, replace(after.places[old], state="free"))
        return _granted(made), after

    def correct(self, number: int, member: int, of: int, now_s: float) -> tuple[str, "World"]:
        """Grant its slot once more to whose contribution, of lease ``of``, stands in it."""
        if number in self.leases:
            return _granted(self.leases[number]), self
        lease, leaf = self.leases[of], self._leaf(of)
        if leaf is None or lease.member != member or self._standing(leaf) != "accepted":
            return "not-correctable", self
        held = [self.leases[p.lease] for p in self.places if self._late(p, now_s) is False]
        if any(each.member == member for each in held):
            return "quota-used", self
        before = self.places[lease.slot]
        beside = (lease.home, lease.joins, lease.share)
        made = Lease(number, member, lease.name, lease.slot, before.fence + 1, leaf, *beside)
        place = Place("revising", made.fence, number, now_s + TTL_S, now_s, kept=before.kept)
        place = replace(place, home=before.home)
        after = self._put(lease.slot, place)
        leases = {**self.leases, number: made}
        return _granted(made), replace(after, leases=leases, leaves=(*self.leaves, "lease"))

    def join(self, number: int, member: int, of: int, now_s: float) -> tuple[str, "World"]:
        """Grant a seat beside the slot of lease ``of``, by a share of its owner's."""
        if number in self.leases:
            return _granted(self.leases[number]), self
        lease, leaf = self.leases[of], self._leaf(of)
        if leaf is None or lease.joins or self._live(leaf) is None:
            return "not-shared", self
        first = self.firsts[leaf]
        mine = [x for x in self.leases.values() if x.joins == first and x.member == member]
        if lease.member == member or any(self._stood(x.at) for x in mine):
            return "not-shared", self
        held = [self.leases[p.lease] for p in self.places if self._late(p, now_s) is False]
        if any(each.member == member for each in held):
            return "quota-used", self
        free = [s for s, p in enumerate(self.places) if p.home >= 0 and p.state == "free"]
        after, slot = self, len(self.places)
        if free:
            slot = free[0]
        else:
            after = replace(self, places=(*self.places, Place()))
        fence = after.places[slot].fence + 1
        beside = lease.slot
        made = Lease(number, member, lease.name, slot, fence, 0, beside, first, leaf)
        place = Place("leased", fence, number, now_s + TTL_S, now_s, home=beside)
        after = after._put(slot, place)
        leases = {**self.leases, number: made}
        return _granted(made), replace(after, leases=leases, leaves=(*self.leaves, "lease"))

    def renew(self, key: int, at: Place_, progress: int, now_s: float) -> tuple[str, "World"]:
        """Move the deadline when there was progress and the hold cap is not reached."""
        place = self._held(key, at)
        if place is None:
            return "lease-lost", self
        passed = max(0, int(now_s - place.seen_s))
        held = min(place.held_s + min(passed, TTL_S), HOLD_S)
        after = replace(place, held_s=held, seen_s=place.seen_s + passed)
        if held != place.held_s and (
            place.deadline_s <= now_s or held // GRAIN_S != place.held_s // GRAIN_S
        ):
            after = replace(after, saved_s=held)
        if progress > place.progress and held < HOLD_S:
            after = replace(after, progress=progress, deadline_s=now_s + TTL_S)
        return "held", self._put(at[0], after)

    def give_back(self, key: int, at: Place_) -> tuple[str, "World"]:
        """Free the slot; once more changes nothing."""
        place = self.places[at[0]]
        over = place.state == "free" or (place.state == "filled" and place.kept != at[1])
        if (place.lease, place.fence) == (key, at[1]) and over:
            return "given back", self
        if self._held(key, at) is None:
            return "lease-lost", self
        state = "free" if place.state == "leased" else "filled"
        return "given back", self._put(at[0], replace(place, state=state))

    def begin(self, number: int, variant: int) -> tuple[str, "World"]:
        """Announce a blob; another one takes the place of what is not in yet."""
        lease = self.leases[number]
        known = self.uploads.get(lease.at)
        again = known is not None and known.variant == variant
        if known is not None and again and known.leaf is not None:
            return f"receipt {known.leaf}", self
        if self._held(number, lease.at) is None:
            return "lease-lost", self
        if known is not None and again:
            return "known", self._upload(lease.at, replace(known, part=True))
        return "known", self._upload(lease.at, Upload(variant))

    def half_begun(self, number: int) -> "World":
        """Return the state without the part of an upload that is announced."""
        at = self.leases[number].at
        known = self.uploads.get(at)
        return (
            self if known is None or known.whole else self._upload(at, replace(known, part=False))
        )

    def put(self, number: int, variant: int, now_s: float, *, damaged: bool) -> tuple[str, "World"]:
        """Take the one chunk; a damaged one changes nothing."""
        lease = self.leases[number]
        known = self.uploads.get(lease.at)
        if known is None or known.variant != variant:
            return "unknown-upload", self
        if known.leaf is not None:
            return "whole", self
        place = self._held(number, lease.at)
        if place is None:
            return "lease-lost", self
        if damaged:
            return "chunk-damaged", self
        if not known.part:
            return "unknown-upload", self
        after = self._upload(lease.at, replace(known, whole=True))
        gone_s = now_s + TTL_S - place.deadline_s
        if not known.whole and place.held_s < HOLD_S and gone_s * 15 >= TTL_S:
            after = after._put(lease.slot, replace(place, deadline_s=now_s + TTL_S))
        return "whole", after

    def commit(self, number: int, variant: int) -> tuple[str, "World"]:
        """Make it a contribution; the deadline is not looked at."""
        lease = self.leases[number]
        known = self.uploads.get(lease.at)
        if known is None or known.variant != variant:
            return "unknown-upload", self
        if known.leaf is not None:
            return f"receipt {known.leaf}", self
        place = self._held(number, lease.at)
        if place is None:
            return "lease-lost", self
        if not known.whole:
            return "missing", self
        leaf = len(self.leaves)
        after = self._upload(lease.at, replace(known, leaf=leaf))
        state = "quarantined" if variant == LOUD else "accepted"
        said = ("admission",) if variant == LOUD else ()
        after = replace(
            after._put(lease.slot, replace(place, state="filled")),
            contributions={**self.contributions, leaf: (lease.at, state)},
            firsts={**self.firsts, leaf: self.firsts.get(lease.replaces, leaf)},
            leaves=(*self.leaves, "contribution", *said),
        )
        return f"receipt {leaf}", after._follow(leaf)

    def withdraw(self, number: int) -> tuple[str, "World"]:
        """Take the concept out by a client's word; the slot is free when no release holds it."""
        leaf = self._leaf(number)
        if leaf is None:
            return "not-found", self
        at, state = self.contributions[leaf]
        if state == "withdrawn":
            return "withdrawn", self
        mine = self._concept(leaf)
        after = self._out(at) if self._live(leaf) else self  # its slot is another's by then
        gone = {each: (self.contributions[each][0], "withdrawn") for each in mine}
        return "withdrawn", replace(
            after,
            contributions={**self.contributions, **gone},
            leaves=(*self.leaves, "withdrawal"),
        )

    def reject(self, number: int) -> tuple[str, "World"]:
        """Take it out by the operator's word."""
        leaf = self._leaf(number)
        if leaf is None:
            return "not-found", self
        at, state = self.contributions[leaf]
        if state == "rejected":
            return "rejected", self
        if state == "withdrawn":
            return "not-filled", self
        contributions = {**self.contributions, leaf: (at, "rejected")}
        leaves = (*self.leaves, "admission")
        after = replace(self, contributions=contributions, leaves=leaves)
        return "rejected", after._follow(leaf)

    def approve(self, number: int) -> tuple[str, "World"]:
        """Let it into the next release by the operator's word."""
        leaf = self._leaf(number)
        if leaf is None:
            return "not-found", self
        at, state = self.contributions[leaf]
        if state in ("rejected", "withdrawn"):
            return "out-for-good", self
        if self._standing(leaf) == "superseded":
            return "superseded", self
        if leaf in self.approved:
            return "approved", self
        after = replace(
            self,
            contributions={**self.contributions, leaf: (at, "accepted")},
            approved=self.approved | {leaf},
            leaves=(*self.leaves, "admission"),
        )
        return "approved", after._follow(leaf)

    @property
    def is_outdated(self) -> bool:
        """Whether the open plan holds what was taken out since; what was replaced can go."""
        return any(
            at in (self.planned or ()) and self._standing(leaf) not in ("accepted", "superseded")
            for leaf, (at, _) in self.contributions.items()
        )

    def given_up(self) -> "World":
        """Return the state without an open plan; what was emptying for it alone is free."""
        return replace(self, planned=None, plans=self.plans[:-1])._vacated()

    def plan(self) -> tuple[str, "World"]:
        """Open the plan of the next release, unless it would be the newest once more."""
        if self.is_outdated:
            return self.given_up().plan()
        if self.planned is not None:
            return "open", self
        held = frozenset(
            at for leaf, (at, _) in self.contributions.items() if self._standing(leaf) == "accepted"
        )
        if not held and not self.plans:
            return "nothing-to-release", self
        content = tuple(sorted(self.contributions.items()))
        if self.plans and self.plans[-1] == content:
            return "same", self
        return "open", replace(self, planned=held, plans=(*self.plans, content))

    def publish(self) -> tuple[str, "World"]:
        """Make the plan the newest release; what it leaves out and was emptying is free."""
        if self.is_outdated:
            return "plan-outdated", self
        released = self.planned
        assert released is not None
        return "published", replace(
            self,
            released=released,
            planned=None,
            num_releases=self.num_releases + 1,
            leaves=(*self.leaves, "release"),
        )._vacated()

    def restarted(self, now_s: float) -> "World":
        """Give every slot a full term; progress is counted anew."""
        deadline_s = now_s + TTL_S
        return replace(
            self,
            places=tuple(
                replace(p, deadline_s=deadline_s, seen_s=now_s, held_s=p.saved_s, progress=-1)
                for p in self.places
            ),
        )

    def rows(self) -> object:
        """Return what must be in the database, as store_rows.py reads it."""
        return {
            "slots": [(p.state, p.fence, p.lease, p.saved_s, p.kept, p.home) for p in self.places],
            "leases": sorted(
                (x.number, x.name, *x.at, x.replaces, x.home, x.joins) for x in self.leases.values()
            ),
            "names": sorted((name, *at) for name, _, at in self.names.values()),
            "contributions": [
                (leaf, *at, state, self.firsts[leaf])
                for leaf, (at, state) in sorted(self.contributions.items())
            ],
            "uploads": sorted((*at, u.variant, u.leaf) for at, u in self.uploads.items()),
            "leaves": list(self.leaves),
            "releases": [
                *((n + 1, "published") for n in range(self.num_releases)),
                *([(self.num_releases + 1, "planned")] if self.planned is not None else ()),
            ],
        }

    def _held(self, key: int, at: Place_) -> Place | None:
        place = self.places[at[0]]
        held = place.state in _LEASED and (place.lease, place.fence) == (key, at[1])
        return place if held else None

    def _stands(self, at: Place_) -> bool:
        return (self.places[at[0]].state, self.places[at[0]].fence) == ("leased", at[1])

    def _late(self, place: Place, now_s: float) -> bool | None:
        return None if place.state not in _LEASED else place.deadline_s <= now_s

    def _choose(self, now_s: float) -> int | None:
        own = [(s, p) for s, p in enumerate(self.places) if p.home < 0]
        free = [slot for slot, place in own if place.state == "free"]
        leased = [(s, p) for s, p in own if p.state == "leased"]
        late = [(p.deadline_s, s) for s, p in leased if self._late(p, now_s)]
        return free[0] if free else min(late)[1] if late else None

    def _contributed(self, at: Place_) -> bool:
        """Return whether a contribution bears the names of this lease; a withdrawn one does not.

        Or one of those who joined its concept does.
        """
        if self._stood(at):
            return True
        firsts = {self.firsts[leaf] for leaf, (each, _) in self.contributions.items() if each == at}
        return any(x.joins in firsts and self._stood(x.at) for x in self.leases.values() if x.joins)

    def _stood(self, at: Place_) -> bool:
        """Return whether this lease brought a contribution that is not withdrawn."""
        return any(
            at == each and state != "withdrawn" for each, state in self.contributions.values()
        )

    def _leaf(self, number: int) -> int | None:
        at = self.leases[number].at
        return next((leaf for leaf, (each, _) in self.contributions.items() if each == at), None)

    def _concept(self, leaf: int) -> list[int]:
        """Return every contribution of this one's concept, by leaf."""
        first = self.firsts[leaf]
        return sorted(each for each in self.contributions if self.firsts[each] == first)

    def _standing(self, leaf: int) -> str:
        """Return how it stands: of a concept's accepted ones the last one does."""
        state = self.contributions[leaf][1]
        later = [each for each in self._concept(leaf) if each > leaf]
        over = any(self.contributions[each][1] == "accepted" for each in later)
        return "superseded" if over and state == "accepted" else state

    def _live(self, leaf: int) -> int | None:
        """Return the contribution of this one's concept that the slot has to hold."""
        states = {each: self.contributions[each][1] for each in self._concept(leaf)}
        accepted = [each for each, state in states.items() if state == "accepted"]
        waiting = [each for each, state in states.items() if state == "quarantined"]
        return (accepted or waiting or [None])[-1]

    def _follow(self, leaf: int) -> "World":
        """Return the state in which the slot holds what its concept's rows say."""
        held = self._live(leaf)
        if held is None:
            return self._out(self.contributions[leaf][0])
        slot, fence = self.contributions[held][0]
        return self._put(slot, replace(self.places[slot], kept=fence))

    def _out(self, at: Place_) -> "World":
        after, slot = self, at[0]
        for seat, place in enumerate(self.places):
            if place.home == slot and place.state == "leased":  # it has brought nothing yet
                after = after._put(seat, replace(place, state="free"))
        place = after.places[slot]
        state, kept = ("emptying", place.kept) if after._used(slot) else ("free", 0)
        return after._put(slot, replace(place, state=state, kept=kept))._vacated()

    def _used(self, slot: int) -> bool:
        """Return whether a release, the plan or a seat still uses the slot's block."""
        bound = any(slot == each for each, _ in (*(self.released or ()), *(self.planned or ())))
        return bound or any(p.home == slot and p.state != "free" for p in self.places)

    def _vacated(self) -> "World":
        """Free what was emptying and is not used, seats before slots."""
        after = self
        for slot in sorted(range(len(self.places)), key=lambda s: (self.places[s].home < 0, s)):
            place = after.places[slot]
            if place.state == "emptying" and not after._used(slot):
                after = after._put(slot, replace(place, state="free", kept=0))
        return after

    def _put(self, slot: int, place: Place) -> "World":
        before = self.places[slot]
        if (place.state, place.fence, place.kept) != (before.state, before.fence, before.kept):
            place = replace(place, saved_s=place.held_s)  # the row is written anyway
        return replace(self, places=(*self.places[:slot], place, *self.places[slot + 1 :]))

    def _upload(self, at: Place_, upload: Upload) -> "World":
        return replace(self, uploads={**self.uploads, at: upload})


def skeleton(name: str) -> str:
    """Return what the eye reads in one of the test's names: hyphens say nothing."""
    return name.replace("-", "")


def _granted(lease: Lease) -> str:
    return f"slot {lease.slot} fence {lease.fence}"
