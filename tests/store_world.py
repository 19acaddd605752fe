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


@dataclass(frozen=True)
class Lease:
    """One grant: by its number, which also is its client key's."""

    number: int
    member: int
    name: str
    slot: int
    fence: int

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
        if (place.lease, place.fence) == (key, at[1]) and place.state == "free":
            return "given back", self
        if self._held(key, at) is None:
            return "lease-lost", self
        return "given back", self._put(at[0], replace(place, state="free"))

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
            leaves=(*self.leaves, "contribution", *said),
        )
        return f"receipt {leaf}", after

    def withdraw(self, number: int) -> tuple[str, "World"]:
        """Take it out by its client's word; the slot is free when no release holds it."""
        leaf = self._leaf(number)
        if leaf is None:
            return "not-found", self
        at, state = self.contributions[leaf]
        if state == "withdrawn":
            return "withdrawn", self
        after = self if state == "rejected" else self._out(at)  # its slot is another's by then
        return "withdrawn", replace(
            after,
            contributions={**self.contributions, leaf: (at, "withdrawn")},
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
        return "rejected", replace(self._out(at), contributions=contributions, leaves=leaves)

    def approve(self, number: int) -> tuple[str, "World"]:
        """Let it into the next release by the operator's word."""
        leaf = self._leaf(number)
        if leaf is None:
            return "not-found", self
        at, state = self.contributions[leaf]
        if state in ("rejected", "withdrawn"):
            return "out-for-good", self
        if leaf in self.approved:
            return "approved", self
        return "approved", replace(
            self,
            contributions={**self.contributions, leaf: (at, "accepted")},
            approved=self.approved | {leaf},
            leaves=(*self.leaves, "admission"),
        )

    def plan(self) -> tuple[str, "World"]:
        """Open the plan of the next release, unless it would be the newest once more."""
        if self.planned is not None:
            return "open", self
        held = frozenset(at for at, state in self.contributions.values() if state == "accepted")
        if not held:
            return "nothing-to-release", self
        content = tuple(sorted(self.contributions.items()))
        if self.plans and self.plans[-1] == content:
            return "same", self
        return "open", replace(self, planned=held, plans=(*self.plans, content))

    def publish(self) -> tuple[str, "World"]:
        """Make the plan the newest release; what it leaves out and was emptying is free."""
        released = self.planned
        assert released is not None
        places = tuple(
            replace(place, state="free")
            if place.state == "emptying" and (slot, place.fence) not in released
            else place
            for slot, place in enumerate(self.places)
        )
        return "published", replace(
            self,
            places=places,
            released=released,
            planned=None,
            num_releases=self.num_releases + 1,
            leaves=(*self.leaves, "release"),
        )

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
            "slots": [(p.state, p.fence, p.lease, p.saved_s) for p in self.places],
            "leases": sorted((x.number, x.name, *x.at) for x in self.leases.values()),
            "names": sorted((name, *at) for name, _, at in self.names.values()),
            "contributions": [
                (leaf, *at, state) for leaf, (at, state) in sorted(self.contributions.items())
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
        held = (place.state, place.lease, place.fence) == ("leased", key, at[1])
        return place if held else None

    def _stands(self, at: Place_) -> bool:
        return (self.places[at[0]].state, self.places[at[0]].fence) == ("leased", at[1])

    def _late(self, place: Place, now_s: float) -> bool | None:
        return None if place.state != "leased" else place.deadline_s <= now_s

    def _choose(self, now_s: float) -> int | None:
        free = [slot for slot, place in enumerate(self.places) if place.state == "free"]
        late = [(p.deadline_s, s) for s, p in enumerate(self.places) if self._late(p, now_s)]
        return free[0] if free else min(late)[1] if late else None

    def _contributed(self, at: Place_) -> bool:
        """Return whether a contribution bears the names of this lease; a withdrawn one does not."""
        return any(
            at == each and state != "withdrawn" for each, state in self.contributions.values()
        )

    def _leaf(self, number: int) -> int | None:
        at = self.leases[number].at
        return next((leaf for leaf, (each, _) in self.contributions.items() if each == at), None)

    def _out(self, at: Place_) -> "World":
        bound = at in (self.released or ()) or at in (self.planned or ())
        place = replace(self.places[at[0]], state="emptying" if bound else "free")
        return self._put(at[0], place)

    def _put(self, slot: int, place: Place) -> "World":
        if (place.state, place.fence) != (self.places[slot].state, self.places[slot].fence):
            place = replace(place, saved_s=place.held_s)  # the row is written anyway
        return replace(self, places=(*self.places[:slot], place, *self.places[slot + 1 :]))

    def _upload(self, at: Place_, upload: Upload) -> "World":
        return replace(self, uploads={**self.uploads, at: upload})


def skeleton(name: str) -> str:
    """Return what the eye reads in one of the test's names: hyphens say nothing."""
    return name.replace("-", "")


def _granted(lease: Lease) -> str:
    return f"slot {lease.slot} fence {lease.fence}"
