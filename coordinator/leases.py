"""Who holds which slot: ``step(state, event) -> (state, action)``, without I/O and without a clock.

Laws (reliability.md 3): a fence grows by 1 exactly when a lease is granted and never falls (I1); a
commit looks at client and fence, never at the deadline, so late but not overtaken still counts;
a deadline that passes changes nothing until somebody needs the slot; a restart gives each leased
slot a full term. Times are monotonic seconds inside events: safety reads no clock (I8).
Not here: names, quotas a day, and idempotence by request (service.py, in the same transaction).
"""

from dataclasses import dataclass, replace
from typing import Literal

Phase = Literal["free", "leased", "filled", "emptying"]


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot. ``client`` and ``member`` are the last holder's; times are monotonic seconds."""

    phase: Phase = "free"
    fence: int = 0
    client: str = ""
    member: str = ""
    held_s: int = 0
    progress: int = -1
    seen_s: float = 0.0
    deadline_s: float = 0.0

    def held_by(self, client: str, fence: int) -> bool:
        """Return whether this client holds the slot's newest fence; no clock is read."""
        return (self.client, self.fence) == (client, fence)


@dataclass(frozen=True, slots=True)
class Slots:
    """All slots; the last ``num_kept`` are granted to the operator's own members only."""

    slots: tuple[Slot, ...]
    ttl_s: int
    hold_s: int
    num_kept: int = 0

    @property
    def num_free(self) -> int:
        """Slots that were never leased or given back, of those that are for everybody."""
        everybodys = self.slots[: len(self.slots) - self.num_kept]
        return sum(slot.phase == "free" for slot in everybodys)


@dataclass(frozen=True, slots=True)
class Ask:
    """A member wants a slot for a client key."""

    now_s: float
    client: str
    member: str
    operator: bool = False


@dataclass(frozen=True, slots=True)
class Renew:
    """The holder is alive; ``progress`` is any counter that grows with work."""

    now_s: float
    client: str
    slot: int
    fence: int
    progress: int


@dataclass(frozen=True, slots=True)
class Arrive:
    """A chunk of the holder's upload arrived; ``advanced`` when it was a new one."""

    now_s: float
    client: str
    slot: int
    fence: int
    advanced: bool


@dataclass(frozen=True, slots=True)
class GiveBack:
    """The holder does not want the slot any more."""

    client: str
    slot: int
    fence: int


@dataclass(frozen=True, slots=True)
class Commit:
    """The holder's contribution is whole and checked."""

    client: str
    slot: int
    fence: int


@dataclass(frozen=True, slots=True)
class Restart:
    """The coordinator starts; deadlines begin anew."""

    now_s: float


Event = Ask | Renew | Arrive | GiveBack | Commit | Restart


@dataclass(frozen=True, slots=True)
class Grant:
    """The slot is this client's at this fence."""

    slot: int
    fence: int


@dataclass(frozen=True, slots=True)
class Hold:
    """The lease stands; ``ttl_s`` seconds from now it may be offered to somebody else."""

    slot: int
    ttl_s: int
    held_s: int


@dataclass(frozen=True, slots=True)
class Free:
    """The slot is free."""

    slot: int


@dataclass(frozen=True, slots=True)
class Fill:
    """The slot holds a contribution."""

    slot: int


@dataclass(frozen=True, slots=True)
class Nothing:
    """Nothing to do, and that is right."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """The event is not allowed; nothing changed. ``code`` and ``what`` go to the asker."""

    code: Literal["lease-lost", "no-free-slot", "quota-used"]
    what: str


Action = Grant | Hold | Free | Fill | Nothing | Refuse


def step(state: Slots, event: Event) -> tuple[Slots, Action]:
    """Advance by one event. Same state and event: same answer, always."""
    match event:
        case Ask():
            return _ask(state, event)
        case Renew():
            return _renew(state, event)
        case Arrive():
            return _arrive(state, event)
        case GiveBack(client, index, fence):
            return _give_back(state, client, index, fence)
        case Commit(client, index, fence):
            return _commit(state, client, index, fence)
        case Restart(now_s):
            slots = tuple(
                replace(s, seen_s=now_s, deadline_s=now_s + state.ttl_s) for s in state.slots
            )
            return replace(state, slots=slots), Nothing()


def _ask(state: Slots, event: Ask) -> tuple[Slots, Action]:
    live = sum(
        s.phase == "leased" and s.member == event.member and s.deadline_s > event.now_s
        for s in state.slots
    )
    if live:  # T1: one live lease a member
        return state, Refuse("quota-used", "this member already holds a live lease")
    open_slots = len(state.slots) if event.operator else len(state.slots) - state.num_kept
    index = _choose(state.slots[:open_slots], event.now_s)
    if index is None:
        return state, Refuse("no-free-slot", _full(state, event))
    granted = Slot(
        phase="leased",
        fence=state.slots[index].fence + 1,  # I1
        client=event.client,
        member=event.member,
        seen_s=event.now_s,
        deadline_s=event.now_s + state.ttl_s,
    )
    return _put(state, index, granted), Grant(index, granted.fence)


def _choose(slots: tuple[Slot, ...], now_s: float) -> int | None:
    """Return the first free slot; if none, the one longest past its deadline."""
    for index, slot in enumerate(slots):
        if slot.phase == "free":
            return index
    late = [
        (slot.deadline_s, index)
        for index, slot in enumerate(slots)
        if slot.phase == "leased" and slot.deadline_s <= now_s
    ]
    return min(late)[1] if late else None


def _full(state: Slots, event: Ask) -> str:
    num_filled = sum(s.phase in ("filled", "emptying") for s in state.slots)
    num_leased = sum(s.phase == "leased" for s in state.slots)
    kept = "" if event.operator else f", {state.num_kept} kept for the operator"
    return (
        f"no free slot: of {len(state.slots)} slots {num_filled} are filled"
        f" and {num_leased} leased{kept}"
    )


def _renew(state: Slots, event: Renew) -> tuple[Slots, Action]:
    slot = _leased(state, event.client, event.slot, event.fence)
    if slot is None:
        return state, _lost(event.slot, event.fence)
    passed = max(0, int(event.now_s - slot.seen_s))
    held = min(slot.held_s + min(passed, state.ttl_s), state.hold_s)
    renewed = replace(slot, held_s=held, seen_s=slot.seen_s + passed)
    if event.progress > slot.progress and held < state.hold_s:
        deadline = event.now_s + state.ttl_s
        renewed = replace(renewed, progress=event.progress, deadline_s=deadline)
    return _put(state, event.slot, renewed), _hold(event.slot, renewed, event.now_s)


def _arrive(state: Slots, event: Arrive) -> tuple[Slots, Action]:
    slot = _leased(state, event.client, event.slot, event.fence)
    if slot is None:
        return state, _lost(event.slot, event.fence)
    if event.advanced and slot.held_s < state.hold_s:
        slot = replace(slot, deadline_s=event.now_s + state.ttl_s)
    return _put(state, event.slot, slot), _hold(event.slot, slot, event.now_s)


def _hold(index: int, slot: Slot, now_s: float) -> Hold:
    return Hold(index, ttl_s=max(0, int(slot.deadline_s - now_s)), held_s=slot.held_s)


def _give_back(state: Slots, client: str, index: int, fence: int) -> tuple[Slots, Action]:
    slot = _slot(state, index)
    if slot is None or not slot.held_by(client, fence) or slot.phase not in ("leased", "free"):
        return state, _lost(index, fence)
    if slot.phase == "free":
        return state, Nothing()
    return _put(state, index, replace(slot, phase="free")), Free(index)


def _commit(state: Slots, client: str, index: int, fence: int) -> tuple[Slots, Action]:
    slot = _leased(state, client, index, fence)
    # The deadline is not looked at: late but not overtaken still counts.
    if slot is None:
        return state, _lost(index, fence)
    return _put(state, index, replace(slot, phase="filled")), Fill(index)


def _slot(state: Slots, index: int) -> Slot | None:
    return state.slots[index] if 0 <= index < len(state.slots) else None


def _leased(state: Slots, client: str, index: int, fence: int) -> Slot | None:
    """Return the slot if this client holds it at this fence; T2: never by the fence alone."""
    slot = _slot(state, index)
    if slot is None or slot.phase != "leased" or not slot.held_by(client, fence):
        return None
    return slot


def _lost(index: int, fence: int) -> Refuse:
    return Refuse("lease-lost", f"slot {index} is not leased to this client at fence {fence}")


def _put(state: Slots, index: int, slot: Slot) -> Slots:
    return replace(state, slots=(*state.slots[:index], slot, *state.slots[index + 1 :]))
