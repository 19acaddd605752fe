"""The table of reliability.md 3 once more, without a line of the machine's own code.

``Told.expect`` says what an event has to come to, from nothing but the history; ``Told.check``
compares that with what a machine did and returns the history with the event in it. I1 to I3, I5 and
I8 are checked there. ``explore`` walks every order of events of a few clients to the end.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from orthofed.coordinator import leases
from orthofed.coordinator.slot_events import (
    Action,
    Arrive,
    Ask,
    Back,
    Commit,
    Discard,
    Draw,
    Empty,
    Event,
    Fill,
    Free,
    GiveBack,
    Grant,
    Hold,
    Keep,
    Publish,
    Refuse,
    Reject,
    Renew,
    Restart,
    Revise,
    Revoke,
    Withdraw,
)
from orthofed.coordinator.slots import Slot, Slots

TTL = 900
LATE_S, EARLY_S = -1e12, 1e12
Step = Callable[[Slots, Event], tuple[Slots, tuple[Action, ...]]]


@dataclass(frozen=True)
class Place:
    """What has happened to one slot: its last grant, and what that came to.

    ``kept``, ``keeper``: fence and client of the contribution that counts, while one does.
    """

    fence: int = 0
    client: str = ""
    now: str = "free"  # leased, returned, filled, revising, out
    kept: int = 0
    keeper: str = ""

    @property
    def holds(self) -> bool:
        return self.now in ("filled", "revising")


@dataclass(frozen=True)
class Told:
    """What has happened so far; ``released`` and ``planned`` hold slots."""

    places: tuple[Place, ...]
    released: frozenset[int] = frozenset()
    planned: frozenset[int] | None = None

    def bound(self, index: int) -> bool:
        """Whether the newest release or the open plan holds what was made in the slot."""
        return index in self.released or index in (self.planned or ())

    def phase(self, index: int) -> str:
        place = self.places[index]
        if place.now == "out":
            return "emptying" if self.bound(index) else "free"
        return "free" if place.now == "returned" else place.now

    def holds(self, client: str, index: int, fence: int) -> bool:
        if not 0 <= index < len(self.places):
            return False
        place = self.places[index]
        is_leased = place.now in ("leased", "revising")
        return is_leased and (place.client, place.fence) == (client, fence)

    def made(self, index: int, fence: int, client: str | None = None) -> bool:
        """Whether the contribution of ``fence`` is the slot's live one."""
        if not 0 <= index < len(self.places):
            return False
        place = self.places[index]
        mine = client is None or place.keeper == client
        return place.holds and place.kept == fence and mine

    def expect(self, event: Event) -> type[Action] | None:  # noqa: C901, PLR0911  # the table's rows
        """Return what the event comes to, None for no action; of an Ask, time decides."""
        match event:
            case Renew() | Arrive():
                return Hold if self.holds(event.client, event.slot, event.fence) else Refuse
            case Commit(client, index, fence):
                return Fill if self.holds(client, index, fence) else Refuse
            case GiveBack(client, index, fence):
                if self.holds(client, index, fence):
                    return Back if self.places[index].now == "revising" else Free
                place = self.places[index] if 0 <= index < len(self.places) else Place()
                mine = (place.client, place.fence) == (client, fence)
                back = place.now == "filled" and place.kept != fence
                again = mine and (self.phase(index) == "free" or back) if place.fence else False
                return None if again else Refuse
            case Keep(_, index, fence):
                place = self.places[index] if 0 <= index < len(self.places) else Place()
                there = 1 <= fence <= place.fence - (place.now == "revising")
                if not (place.holds and there):
                    return Refuse
                return None if place.kept == fence else Fill
            case Withdraw(client, index, fence):
                return self._emptied(index) if self.made(index, fence, client) else Refuse
            case Reject(index, fence):
                return self._emptied(index) if self.made(index, fence) else Refuse
            case Draw(slots):
                fits = all(self.places[i].holds for i in slots)
                return None if fits and self.planned is None else Refuse
            case Publish() | Discard():
                return None if self.planned is not None else Refuse
            case _:
                return None

    def _emptied(self, index: int) -> type[Action]:
        return Empty if self.bound(index) else Free

    def check(
        self, before: Slots, event: Event, after: Slots, actions: tuple[Action, ...]
    ) -> "Told":
        """Compare what a machine did with what it had to do; return the longer history."""
        if isinstance(event, Ask):
            told = self._check_ask(before, event, actions)
        elif isinstance(event, Revise):
            told = self._check_revise(before, event, actions)
        elif isinstance(event, Revoke):
            told = self._check_revoke(event, actions)
        elif isinstance(event, Publish | Discard) and self.planned is not None:
            told = self._check_end(event, actions)
        else:
            wanted = self.expect(event)
            assert [type(a) for a in actions] == ([] if wanted is None else [wanted]), (
                event,
                actions,
            )
            told = self._after(event, wanted)
        if Refuse in map(type, actions):
            assert after == before, "a refusal changes nothing"
        if isinstance(event, Restart):
            leased = [s for s in after.slots if s.phase in ("leased", "revising")]
            terms = {s.deadline_s for s in leased}
            assert terms <= {event.now_s + after.ttl_s}, "a restart gives a full term"
        told.agree(after)
        return told

    def agree(self, state: Slots) -> None:
        """Check that the machine's slots are what this history makes of them."""
        for index, slot in enumerate(state.slots):
            place = self.places[index]
            assert (slot.fence, slot.phase) == (place.fence, self.phase(index)), (index, slot, self)
            if place.fence:
                assert slot.client == place.client
            if place.holds:
                assert (slot.kept, slot.keeper) == (place.kept, place.keeper), "I3: another is live"
            assert bool(slot.kept) == (place.holds or slot.phase == "emptying"), (index, slot)
        assert (state.released, state.planned) == (self.released, self.planned)

    def _check_ask(self, before: Slots, event: Ask, actions: tuple[Action, ...]) -> "Told":
        (action,) = actions
        free = [i for i in range(len(self.places)) if self.phase(i) == "free"]
        leased = [p.client for p in self.places if p.now in ("leased", "revising")]
        if isinstance(action, Refuse):
            assert not free or event.client in leased, "a free slot is given to who has none"
            return self
        assert isinstance(action, Grant)
        place = self.places[action.slot]
        assert action.fence == place.fence + 1, "I1"
        assert not place.holds, "I3: its contribution is in"
        assert not self.bound(action.slot), "I5: the newest release holds its contribution"
        assert place.now != "leased" or before.slots[action.slot].deadline_s <= event.now_s
        return self._at(action.slot, Place(action.fence, event.client, "leased"))

    def _check_revise(self, before: Slots, event: Revise, actions: tuple[Action, ...]) -> "Told":
        """Only who fills the slot gets it, for what is live there, and has no other lease."""
        (action,) = actions
        fits = self.made(event.slot, event.fence)
        mine = fits and before.slots[event.slot].member == event.member
        leased = {p.client for p in self.places if p.now in ("leased", "revising")}
        if isinstance(action, Refuse):
            assert not mine or event.member in leased, "an own slot is given to who has no lease"
            return self
        assert mine, "another's slot, or not what is live there"
        assert isinstance(action, Grant)
        place = self.places[event.slot]
        assert (action.slot, action.fence) == (event.slot, place.fence + 1), "I1"
        late = before.slots[event.slot].deadline_s <= event.now_s
        assert place.now == "filled" or late, "T1: a lease that lives is not overtaken"
        held = (place.kept, place.keeper)
        return self._at(event.slot, Place(action.fence, event.client, "revising", *held))

    def _check_revoke(self, event: Revoke, actions: tuple[Action, ...]) -> "Told":
        """All that the member leases is over, and nothing else; a member is its client here."""
        places = enumerate(self.places)
        leased = ("leased", "revising")
        mine = [i for i, p in places if p.now in leased and p.client == event.member]
        told, wanted = self, list[Action]()
        for i in mine:
            first = told.places[i].now == "leased"
            wanted.append(Free(i) if first else Back(i))
            now = "returned" if first else "filled"
            told = told._at(i, replace(told.places[i], now=now))
        assert list(actions) == wanted
        return told

    def _check_end(self, event: Publish | Discard, actions: tuple[Action, ...]) -> "Told":
        """Check what is freed by either end; a plan that was given up never was (I5)."""
        released = self.planned if isinstance(event, Publish) else self.released
        told = replace(self, released=released or frozenset(), planned=None)
        freed = {
            i
            for i in range(len(self.places))
            if (self.phase(i), told.phase(i)) == ("emptying", "free")
        }
        assert set(actions) == {Free(i) for i in freed}
        return told

    def _after(self, event: Event, wanted: type[Action] | None) -> "Told":  # noqa: PLR0911  # as above
        match event:
            case Commit(client, index, fence) if wanted is Fill:
                place = self.places[index]
                if place.now == "leased":
                    place = replace(place, kept=fence, keeper=client)
                return self._at(index, replace(place, now="filled"))
            case Keep(client, index, fence) if wanted is Fill:
                return self._at(index, replace(self.places[index], kept=fence, keeper=client))
            case GiveBack(_, index, _) if wanted is Free:
                return self._at(index, replace(self.places[index], now="returned"))
            case GiveBack(_, index, _) if wanted is Back:
                return self._at(index, replace(self.places[index], now="filled"))
            case Withdraw(_, index, _) | Reject(index, _) if wanted is not Refuse:
                return self._at(index, replace(self.places[index], now="out", kept=0, keeper=""))
            case Draw(slots) if wanted is None:
                return replace(self, planned=slots)
            case _:
                return self

    def _at(self, index: int, place: Place) -> "Told":
        return replace(self, places=(*self.places[:index], place, *self.places[index + 1 :]))


def fresh(num_slots: int) -> tuple[Slots, Told]:
    """Slots that nobody ever had, and their empty history."""
    return (
        Slots((Slot(),) * num_slots, ttl_s=TTL, hold_s=2 * TTL),
        Told((Place(),) * num_slots),
    )


@dataclass
class Explored:
    """How much was walked: states, transitions, and the longest shortest way to a state."""

    states: int = 0
    transitions: int = 0
    depth: int = 0


def explore(
    step: Step = leases.step,
    *,
    clients: tuple[str, ...],
    num_slots: int,
    depth: int | None = None,
) -> Explored:
    """Try every event in every reachable state; raise AssertionError where a law breaks.

    With ``depth``: every history of that many events. Without: all there are. Fences are then
    renamed so that each slot's newest is 3, and that of what it holds no less than 1, since what a
    machine does may depend on which fence is newer and never on how many came before; that makes
    the states finite.
    """
    found = Explored()
    layer = {fresh(num_slots)}
    seen = set(layer)
    while layer and found.depth != depth:
        found.depth += 1
        following: set[tuple[Slots, Told]] = set()
        for state, told in layer:
            for event in _events(state, clients):
                found.transitions += 1
                reached = _taken(step, state, told, event)
                reached = _renamed(*reached) if depth is None else _forgotten(*reached)
                if reached not in seen:
                    seen.add(reached)
                    following.add(reached)
            late = _at_any_time(state, LATE_S)
            if (late, told) not in seen:
                seen.add((late, told))
                following.add((late, told))
        layer = following
    found.states = len(seen)
    return found


def _events(state: Slots, clients: tuple[str, ...]) -> Iterator[Event]:
    holding = ("filled", "revising")
    filled = frozenset(i for i, slot in enumerate(state.slots) if slot.phase in holding)
    yield from (Restart(0.0), Publish(), Discard(), Draw(filled), Draw(frozenset()))
    for index, slot in enumerate(state.slots):
        yield Draw(frozenset({index}))
        for fence in {slot.fence, max(0, slot.fence - 1), slot.kept}:
            yield Reject(index, fence)
            for client in clients:
                yield Renew(0.0, client, index, fence, progress=1)
                yield Arrive(0.0, client, index, fence, advanced=True)
                yield GiveBack(client, index, fence)
                yield Commit(client, index, fence)
                yield Withdraw(client, index, fence)
                yield Keep(client, index, fence)
                yield Revise(0.0, client, client, index, fence)
    for client in clients:
        yield Ask(0.0, client, client)
        yield Revoke(client)


def _taken(step: Step, state: Slots, told: Told, event: Event) -> tuple[Slots, Told]:
    """Take one step, check it, and check that no deadline decides it (I8)."""
    after, actions = step(state, event)
    told = told.check(state, event, after, actions)
    if not isinstance(event, Ask | Revise):
        kinds = [type(action) for action in actions]
        for moment_s in (LATE_S, EARLY_S):
            other = step(_at_any_time(state, moment_s), event)[1]
            assert [type(action) for action in other] == kinds, "I8: a deadline decides safety"
    return after, told


def _at_any_time(state: Slots, deadline_s: float) -> Slots:
    """Return the same slots with every deadline moved."""
    return replace(state, slots=tuple(replace(slot, deadline_s=deadline_s) for slot in state.slots))


def _forgotten(state: Slots, told: Told) -> tuple[Slots, Told]:
    """Forget what no law asks for: seconds held, when that was, and which progress was last."""
    slots = (replace(slot, held_s=0, progress=-1, seen_s=0.0) for slot in state.slots)
    return replace(state, slots=tuple(slots)), told


def _renamed(state: Slots, told: Told) -> tuple[Slots, Told]:
    """Forget, and count the fences of each slot from its newest."""
    state, told = _forgotten(state, told)
    less = [max(0, slot.fence - 3) for slot in state.slots]

    def kept(fence: int, index: int) -> int:
        return max(1, fence - less[index]) if fence else 0

    slots = tuple(
        replace(slot, fence=slot.fence - less[i], kept=kept(slot.kept, i))
        for i, slot in enumerate(state.slots)
    )
    places = tuple(
        replace(p, fence=p.fence - less[i], kept=kept(p.kept, i)) for i, p in enumerate(told.places)
    )
    return replace(state, slots=slots), replace(told, places=places)
