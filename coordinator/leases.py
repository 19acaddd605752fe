"""Who holds which slot: ``step(state, event) -> (state, actions)``, without I/O or a clock.

    free --Ask--> leased --Commit--> filled --Withdraw | Reject--> emptying --Publish--> free
                    |-- GiveBack; Revoke                       `-- free at once if in no release
                    `-- an Ask after the deadline

    filled --Revise--> revising --Commit | GiveBack | Revoke--> filled    Keep: another one is live
Laws (reliability.md 3): a fence grows by 1 exactly when a lease is granted and never falls (I1); a
commit looks at client and fence, never at the deadline, so late but not overtaken still counts;
a deadline that passes changes nothing until somebody needs the slot; a restart gives each leased
slot a full term; a slot is not leased again while the newest release, or the plan that will become
one, holds its contribution (I5). A corrective lease is of a slot that its own member fills: what it
holds stays the live one (``kept``) through a deadline, a return and a revocation, until ``Keep``
says that another one is; so there is one at any time (I3), and nobody else gets the slot. Times are
monotonic seconds inside events: safety reads no clock (I8). Not here: which of a concept's
contributions stands (holding.py), names, quotas a day, idempotence by request (enrolment.py,
removal.py), and what a release holds (publications.py), each in the same transaction.
"""

from dataclasses import dataclass, replace
from typing import Final, Literal

from .slot_events import (
    Action,
    Arrive,
    Ask,
    Back,
    Code,
    Commit,
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
    Rekey,
    Renew,
    Restart,
    Revise,
    Revoke,
    Withdraw,
)

Phase = Literal["free", "leased", "filled", "revising", "emptying"]
_LEASED: Final = ("leased", "revising")
_HOLDING: Final = ("filled", "revising")


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot. ``client`` and ``member`` are the last holder's; times are monotonic seconds.

    ``kept``: the fence of the contribution that the slot holds, 0 when it holds none; ``keeper``:
    whose client key that is. Both are the last holder's, but after a corrective lease. ``total``:
    what ``progress`` comes to, by the holder's word, 0 for not said; no law looks at it.
    """

    phase: Phase = "free"
    fence: int = 0
    client: str = ""
    member: str = ""
    held_s: int = 0
    progress: int = -1
    seen_s: float = 0.0
    deadline_s: float = 0.0
    kept: int = 0
    keeper: str = ""
    total: int = 0

    def held_by(self, client: str, fence: int) -> bool:
        """Return whether this client holds the slot's newest fence; no clock is read."""
        return (self.client, self.fence) == (client, fence)


@dataclass(frozen=True, slots=True)
class Slots:
    """All slots; the last ``num_kept`` are granted to the operator's own members only.

    ``released``: slots whose contribution the newest release holds. ``planned``: those of the open
    plan, None when no plan is open.
    """

    slots: tuple[Slot, ...]
    ttl_s: int
    hold_s: int
    num_kept: int = 0
    released: frozenset[int] = frozenset()
    planned: frozenset[int] | None = None

    @property
    def num_free(self) -> int:
        """Slots that were never leased or given back, of those that are for everybody."""
        everybodys = self.slots[: len(self.slots) - self.num_kept]
        return sum(slot.phase == "free" for slot in everybodys)


Stepped = tuple[Slots, tuple[Action, ...]]


def step(state: Slots, event: Event) -> Stepped:  # noqa: C901, PLR0911, PLR0912  # one case an event
    """Advance by one event. Same state and event: same answer, always.

    No action: there was nothing to do, and that is right.
    """
    match event:
        case Ask():
            return _ask(state, event)
        case Revise():
            return _revise(state, event)
        case Renew():
            return _renew(state, event)
        case Arrive():
            return _arrive(state, event)
        case GiveBack(client, index, fence):
            return _give_back(state, client, index, fence)
        case Commit(client, index, fence):
            return _commit(state, client, index, fence)
        case Keep(client, index, fence):
            return _keep(state, client, index, fence)
        case Withdraw(client, index, fence):
            slot = _slot(state, index)
            mine = slot is not None and (slot.keeper, slot.kept) == (client, fence)
            return _empty(state, index, fence) if mine else _not_filled(state, index, fence)
        case Reject(index, fence):
            return _empty(state, index, fence)
        case Revoke(member):
            return _revoke(state, member)
        case Rekey(old, new):
            mine = (replace(s, member=new) if s.member == old else s for s in state.slots)
            return replace(state, slots=tuple(mine)), ()
        case Draw(slots):
            return _draw(state, slots)
        case Publish():
            return _publish(state)
        case Restart(now_s):
            deadline_s = now_s + state.ttl_s
            restarted = (
                replace(s, seen_s=now_s, deadline_s=deadline_s, progress=-1) for s in state.slots
            )
            return replace(state, slots=tuple(restarted)), ()


def _ask(state: Slots, event: Ask) -> Stepped:
    if _has_live(state, event.member, event.now_s):
        return _quota_used(state)
    open_slots = len(state.slots) if event.operator else len(state.slots) - state.num_kept
    index = _choose(state.slots[:open_slots], event.now_s)
    if index is None:
        return _refuse(state, "no-free-slot", _full(state, event))
    granted = Slot(
        phase="leased",
        fence=state.slots[index].fence + 1,  # I1
        client=event.client,
        member=event.member,
        seen_s=event.now_s,
        deadline_s=event.now_s + state.ttl_s,
    )
    return _put(state, index, granted), (Grant(index, granted.fence),)


def _revise(state: Slots, event: Revise) -> Stepped:
    """Lease a slot to the member that fills it; what it holds stays (I3), nobody else asks (I5)."""
    if _has_live(state, event.member, event.now_s):
        return _quota_used(state)
    slot = _slot(state, event.slot)
    if (
        slot is None
        or slot.phase not in _HOLDING
        or (slot.member, slot.kept) != (event.member, event.fence)
    ):
        return _not_filled(state, event.slot, event.fence)
    granted = replace(
        slot,
        phase="revising",
        fence=slot.fence + 1,  # I1
        client=event.client,
        held_s=0,
        progress=-1,
        total=0,
        seen_s=event.now_s,
        deadline_s=event.now_s + state.ttl_s,
    )
    return _put(state, event.slot, granted), (Grant(event.slot, granted.fence),)


def _has_live(state: Slots, member: str, now_s: float) -> bool:
    return any(
        s.phase in _LEASED and s.member == member and s.deadline_s > now_s for s in state.slots
    )


def _quota_used(state: Slots) -> Stepped:
    # T1: one live lease a member
    return _refuse(state, "quota-used", "1 live lease of this member, allowed is 1")


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
    num_filled = sum(s.phase in (*_HOLDING, "emptying") for s in state.slots)
    num_leased = sum(s.phase == "leased" for s in state.slots)
    kept = "" if event.operator else f", {state.num_kept} kept for the operator"
    return (
        f"no free slot: of {len(state.slots)} slots {num_filled} are filled"
        f" and {num_leased} leased{kept}"
    )


def _renew(state: Slots, event: Renew) -> Stepped:
    slot = _leased(state, event.client, event.slot, event.fence)
    if slot is None:
        return _lost(state, event.slot, event.fence)
    passed = max(0, int(event.now_s - slot.seen_s))
    held = min(slot.held_s + min(passed, state.ttl_s), state.hold_s)
    renewed = replace(slot, held_s=held, seen_s=slot.seen_s + passed, total=event.total)
    if event.progress > slot.progress and held < state.hold_s:
        deadline = event.now_s + state.ttl_s
        renewed = replace(renewed, progress=event.progress, deadline_s=deadline)
    return _put(state, event.slot, renewed), (_hold(event.slot, renewed, event.now_s),)


def _arrive(state: Slots, event: Arrive) -> Stepped:
    slot = _leased(state, event.client, event.slot, event.fence)
    if slot is None:
        return _lost(state, event.slot, event.fence)
    if event.advanced and slot.held_s < state.hold_s:
        slot = replace(slot, deadline_s=event.now_s + state.ttl_s)
    return _put(state, event.slot, slot), (_hold(event.slot, slot, event.now_s),)


def _hold(index: int, slot: Slot, now_s: float) -> Hold:
    return Hold(index, ttl_s=max(0, int(slot.deadline_s - now_s)), held_s=slot.held_s)


def _give_back(state: Slots, client: str, index: int, fence: int) -> Stepped:
    slot = _slot(state, index)
    if slot is None or not slot.held_by(client, fence) or slot.phase == "emptying":
        return _lost(state, index, fence)
    if slot.phase == "revising":
        return _put(state, index, replace(slot, phase="filled")), (Back(index),)
    if slot.phase == "filled" and slot.kept == fence:
        return _lost(state, index, fence)
    if slot.phase != "leased":  # a resend
        return state, ()
    return _put(state, index, replace(slot, phase="free")), (Free(index),)


def _commit(state: Slots, client: str, index: int, fence: int) -> Stepped:
    slot = _leased(state, client, index, fence)
    # The deadline is not looked at: late but not overtaken still counts.
    if slot is None:
        return _lost(state, index, fence)
    if slot.phase == "leased":
        slot = replace(slot, kept=fence, keeper=client)
    return _put(state, index, replace(slot, phase="filled")), (Fill(index),)


def _keep(state: Slots, client: str, index: int, fence: int) -> Stepped:
    """Make another of the concept's contributions the live one; the asker says it is there."""
    slot = _slot(state, index)
    newest = slot.fence - (slot.phase == "revising") if slot is not None else 0
    if slot is None or slot.phase not in _HOLDING or not 1 <= fence <= newest:
        return _not_filled(state, index, fence)
    if slot.kept == fence:
        return state, ()
    return _put(state, index, replace(slot, kept=fence, keeper=client)), (Fill(index),)


def _empty(state: Slots, index: int, fence: int) -> Stepped:
    """Take the contribution out; I5: the slot is free only when no release holds it."""
    slot = _slot(state, index)
    if slot is None or slot.phase not in _HOLDING or slot.kept != fence:
        return _not_filled(state, index, fence)
    if index in state.released or index in (state.planned or ()):
        return _put(state, index, replace(slot, phase="emptying")), (Empty(index),)
    return _put(state, index, _freed(slot)), (Free(index),)


def _freed(slot: Slot) -> Slot:
    return replace(slot, phase="free", kept=0, keeper="")


def _revoke(state: Slots, member: str) -> Stepped:
    """End every lease of the member, late ones too: a late commit must not count any more."""
    actions: list[Action] = []
    for index, slot in enumerate(state.slots):
        if slot.member != member or slot.phase not in _LEASED:
            continue
        if slot.phase == "leased":
            state = _put(state, index, replace(slot, phase="free"))
            actions.append(Free(index))
        else:
            state = _put(state, index, replace(slot, phase="filled"))
            actions.append(Back(index))
    return state, tuple(actions)


def _draw(state: Slots, slots: frozenset[int]) -> Stepped:
    filled = {index for index, slot in enumerate(state.slots) if slot.phase in _HOLDING}
    if state.planned is not None or not slots <= filled:
        what = "a plan that another one precedes, or that holds a slot without a contribution"
        return _refuse(state, "plan-differs", what)
    return replace(state, planned=slots), ()


def _publish(state: Slots) -> Stepped:
    """Make the plan the newest release; what it leaves out and was emptying is free."""
    if state.planned is None:
        return _refuse(state, "plan-differs", "no plan is open")
    state = replace(state, released=state.planned, planned=None)
    freed = tuple(
        index
        for index, slot in enumerate(state.slots)
        if slot.phase == "emptying" and index not in state.released
    )
    for index in freed:
        state = _put(state, index, _freed(state.slots[index]))
    return state, tuple(Free(index) for index in freed)


def _slot(state: Slots, index: int) -> Slot | None:
    return state.slots[index] if 0 <= index < len(state.slots) else None


def _leased(state: Slots, client: str, index: int, fence: int) -> Slot | None:
    """Return the slot if this client holds it at this fence; T2: never by the fence alone."""
    slot = _slot(state, index)
    if slot is None or slot.phase not in _LEASED or not slot.held_by(client, fence):
        return None
    return slot


def _lost(state: Slots, index: int, fence: int) -> Stepped:
    what = f"slot {index} is not leased to this client at fence {fence}"
    return _refuse(state, "lease-lost", what)


def _not_filled(state: Slots, index: int, fence: int) -> Stepped:
    what = f"slot {index} holds no contribution of this client at fence {fence}"
    return _refuse(state, "not-filled", what)


def _refuse(state: Slots, code: Code, what: str) -> Stepped:
    return state, (Refuse(code, what),)


def _put(state: Slots, index: int, slot: Slot) -> Slots:
    return replace(state, slots=(*state.slots[:index], slot, *state.slots[index + 1 :]))
